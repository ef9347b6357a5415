"""What a random configuration of an operator is, who draws it, and what such functions draw from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: largest error on the scale of the reference tensor
POINTWISE, CONTRACTION, MOVE = 2e-6, 5e-6, 0.0


@dataclass
class Case:
    """One configuration. ``arrays`` are differentiated, ``labels`` are not.

    ``floor`` is the least scale on which errors are judged: the size of the terms where they can cancel.
    """

    ours: Callable
    theirs: Callable
    arrays: Sequence[np.ndarray]
    labels: Sequence[np.ndarray] = ()
    floor: float = 1e-6
    text: str = ""


@dataclass
class Record:
    draw: Callable
    tolerance: float
    weight: int


RECORDS: dict[str, Record] = {}


def operator(tolerance: float = POINTWISE, weight: int = 1, name: str | None = None):
    """Register a function (generator) → Case under the operator's name."""
    def register(draw):
        RECORDS[name or draw.__name__] = Record(draw, tolerance, weight)
        return draw
    return register


def normal(rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def positive(rng, *shape: int) -> np.ndarray:
    return rng.uniform(0.2, 3.0, shape).astype(np.float32)


def distinct(rng, *shape: int) -> np.ndarray:
    """Numbers that are all different, so that a maximum is clear."""
    return (rng.permutation(math.prod(shape)).reshape(shape) / 16 - 3).astype(np.float32)


def one_of(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def extent(rng, low: int = 1, high: int = 12) -> int:
    return int(rng.integers(low, high + 1))


def shape_of(rng, low: int = 1, high: int = 4) -> tuple[int, ...]:
    """Between ``low`` and ``high`` axes of 1 … 12 elements, a quarter of them of one."""
    rank = extent(rng, low, high)
    return tuple(1 if rng.random() < 0.2 else extent(rng, 2, 12 if rank < 4 else 7) for _ in range(rank))


def broadcast_pair(rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast together: some axes of 1, some leading ones missing."""
    full = shape_of(rng, 1, 4)
    a = tuple(1 if rng.random() < 0.2 else n for n in full)
    b = tuple(1 if rng.random() < 0.4 else n for n in full)[extent(rng, 0, len(full)):]
    return (a, b) if rng.random() < 0.5 else (b, a)


def factors(rng, size: int) -> tuple[int, ...]:
    """Extents whose product is ``size``."""
    found = []
    while size > 1 and len(found) < 4:
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        found.append(one_of(rng, *divisors))
        size //= found[-1]
    return (*found, size)
