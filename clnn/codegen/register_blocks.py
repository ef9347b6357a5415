"""Register blocks of CPU kernels that multiply vectors of result channels by single elements of pixels: which fit, which pay."""

from __future__ import annotations

from collections.abc import Iterator

from ..target import Target


def fits(pixels: int, vectors: int, lanes: int, target: Target) -> bool:
    """Whether the sums of so many pixels and vectors of ``lanes`` channels fit into three of four registers, and the filters of a
    tap and a pixel into what is left: of 32 registers of 16 floats, or 16 of 8."""
    width = max(min(target.vector_width, 16), 8)
    of_vector = -(-lanes // width)
    return pixels * vectors * of_vector <= 3 * width // 2 and (pixels + 1) * vectors * of_vector < 2 * width


def turns(pixels: int, vectors: int) -> float:
    """What multiplying one channel takes: each tap loads what it multiplies; few chains of additions leave the multipliers
    waiting."""
    return max(pixels * vectors, 8) + 0.5 * (pixels + vectors)


def candidates(outs: int, lanes: int, target: Target) -> Iterator[tuple[int, int]]:
    """(pixels, vectors) of the blocks that fit the registers and ``outs`` channels."""
    for vectors in (1, 2, 3, 4):
        for pixels in range(1, 25):
            if outs % (lanes * vectors) == 0 and fits(pixels, vectors, lanes, target):
                yield pixels, vectors


def best(outs: int, lanes: int, target: Target) -> tuple[int, int]:
    """Of those the one that takes the fewest turns for each product."""
    return min(candidates(outs, lanes, target), key=lambda block: turns(*block) / (block[0] * block[1]))
