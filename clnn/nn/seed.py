"""The random numbers that layer constructors draw."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from .checks import whole
from .draws import Draws


def philox(seed: int) -> np.random.Generator:
    """A generator whose numbers depend on ``seed`` alone (Salmon et al., 2011)."""
    return np.random.Generator(np.random.Philox(whole("seed", "seed", seed, 0)))


_draws = Draws(philox(0))


def draws() -> Draws:
    """What is drawn from the generator in use: seed 0 at import, then what :func:`manual_seed` says."""
    return _draws


def generator() -> np.random.Generator:
    """The generator in use."""
    return _draws.share()


def manual_seed(seed: int) -> None:
    """Layers constructed from now on get initial values that depend on ``seed`` and their order alone."""
    global _draws
    _draws = Draws(philox(seed))


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw from a generator of this seed inside the block, and go on with the present one after it; None changes nothing."""
    global _draws
    saved = _draws
    if seed is not None:
        _draws = Draws(philox(seed))
    try:
        yield
    finally:
        _draws = saved
