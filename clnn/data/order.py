"""Random orders that depend on nothing but (seed, epoch, batch), so that a resumed run sees what the first would have seen."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError

_WORD = 2**64


def _philox(seed: int, epoch: int, stream: int = 0) -> np.random.Philox:
    for name, value in (("seed", seed), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < _WORD:
            raise ArgumentError("cannot key random numbers", where=name, got=repr(value),
                                expected="a whole number from 0 to 2**64 - 1")
    key = np.array([int(seed), int(epoch)], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, stream, 0], np.uint64))


def epoch_permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits ``n`` samples: int64 (n,).

    Sorts raw Philox words, whose stream NumPy promises never to change (``Generator.permutation`` carries no such promise), so
    the order is the same on every platform and for every NumPy.

    Raises:
        ArgumentError: a negative ``n``; seed or epoch negative, not whole, or past 64 bits.
    """
    if n < 0:
        raise ArgumentError("cannot order a negative number of samples", where="n", got=n, expected="0 or more")
    return np.argsort(_philox(seed, epoch).random_raw(n), kind="stable")


def batch_generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """The generator for the augmentation of one batch: independent of the epoch's order and of every other batch."""
    return np.random.Generator(_philox(seed, epoch, stream=batch + 1))
