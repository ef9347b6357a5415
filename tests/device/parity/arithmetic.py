"""Arithmetic and reductions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from clnn import ops

from .draw import CONTRACTION, Case, broadcast_pair, normal, one_of, operator, positive, shape_of


def arithmetic(name: str, ours: Callable, theirs: Callable, make: Callable = normal) -> None:
    """Register a function of two broadcast tensors, or of a tensor and a number."""
    def draw(rng) -> Case:
        a, b = broadcast_pair(rng)
        if rng.random() < 0.2:
            value, left = float(one_of(rng, 0.75, 2.0)), rng.random() < 0.5
            return Case(lambda x: ours(value, x) if left else ours(x, value),
                        lambda x: theirs(*(torch.as_tensor(v, dtype=x.dtype) for v in ((value, x) if left else (x, value)))),
                        [make(rng, *a)], floor=1.0, text=f"{a} and {value}")
        return Case(ours, theirs, [make(rng, *a), make(rng, *b)], floor=1.0, text=f"{a} {b}")
    operator(CONTRACTION, name=name)(draw)


arithmetic("add", ops.add, torch.add)
arithmetic("sub", ops.sub, torch.sub)
arithmetic("mul", ops.mul, torch.mul)
arithmetic("div", ops.div, torch.div, positive)
arithmetic("pow", ops.pow, torch.pow, positive)
arithmetic("maximum", ops.maximum, torch.maximum)
arithmetic("minimum", ops.minimum, torch.minimum)


@operator()
def pow_of_whole_exponents(rng) -> Case:
    exponent = one_of(rng, 0, 1, 2, 3, 4, -1, -2)
    x = positive(rng, *shape_of(rng)) * one_of(rng, -1, 1)
    return Case(lambda x: ops.pow(x, exponent), lambda x: x ** exponent, [x.astype(np.float32)], text=f"{x.shape} {exponent}")


@operator()
def maximum_of_equals(rng) -> Case:
    a, b = broadcast_pair(rng)
    pair = [rng.integers(-1, 2, shape).astype(np.float32) for shape in (a, b)]
    ours, theirs = one_of(rng, (ops.maximum, torch.maximum), (ops.minimum, torch.minimum))
    return Case(ours, theirs, pair, floor=1.0, text=f"{a} {b}")


def reduction(name: str, ours: Callable, theirs: Callable, make: Callable = normal) -> None:
    def draw(rng) -> Case:
        x = make(rng, *shape_of(rng))
        axes = tuple(int(a) - (x.ndim if rng.random() < 0.3 else 0) for a in range(x.ndim) if rng.random() < 0.6)
        axis = one_of(rng, axes or None, None, int(rng.integers(-x.ndim, x.ndim)))
        keep = bool(rng.random() < 0.5)
        every = tuple(range(x.ndim)) if axis is None else axis
        return Case(lambda x: ours(x, axis, keep), lambda x: theirs(x, every, keep), [x], floor=1.0,
                    text=f"{x.shape} {axis} {keep}")
    operator(CONTRACTION, 2, name)(draw)


reduction("sum", ops.sum, torch.sum)
reduction("mean", ops.mean, torch.mean)
reduction("max", ops.max, torch.amax)
reduction("max_of_equals", ops.max, torch.amax, lambda rng, *shape: rng.integers(-1, 2, shape).astype(np.float32))
