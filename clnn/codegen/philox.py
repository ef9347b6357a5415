"""Philox4x32-10 in numpy; the same bits as ``kernels/lib/philox.mako``.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
#: numbers of one draw, which as many neighbouring elements share
WORDS = 4


def philox(counter: tuple, key: tuple) -> tuple[np.ndarray, ...]:
    """Four arrays of 32 random bits (uint64 arrays below 2**32) for a 4-word counter and a 2-word key, broadcast together."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    k = [np.asarray(word, dtype=np.uint64) for word in key]
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(ROUNDS):
        product0 = np.uint64(MULTIPLIERS[0]) * c[0]
        product1 = np.uint64(MULTIPLIERS[1]) * c[2]
        c = [
            (product1 >> np.uint64(32)) ^ c[1] ^ k[0],
            product1 & mask,
            (product0 >> np.uint64(32)) ^ c[3] ^ k[1],
            product0 & mask,
        ]
        k = [(k[0] + np.uint64(WEYL[0])) & mask, (k[1] + np.uint64(WEYL[1])) & mask]
    return tuple(c)


def uniform(seed: int, step: int, salt: int, index: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) with 24 bits, one for each element index; a function of its arguments alone."""
    index = np.asarray(index, dtype=np.uint64)
    words = philox((index >> np.uint64(2), np.uint64(step), np.uint64(salt), np.uint64(0)), (np.uint64(seed), np.uint64(0)))
    picked = np.choose((index & np.uint64(3)).astype(np.int64), words)
    return (picked >> np.uint64(8)).astype(np.float64) * 2.0**-24
