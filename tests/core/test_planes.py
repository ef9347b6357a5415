"""Planes of pixels: every tap finds the pixel that the definition of a convolution says, at the place that steps count from."""

from __future__ import annotations

import itertools

import pytest

from clnn.codegen.planes import Axis

CASES = [case for case in itertools.product((1, 4, 7, 12), (1, 2, 3, 5), (1, 2, 3), (0, 1, 4), (1, 2))
         if case[0] + 2 * case[3] >= case[4] * (case[1] - 1) + 1]


def products(pixels: int, results: int, size: int, stride: int, pad: int, dilation: int) -> set[tuple[int, int, int]]:
    """(result, tap, pixel) of a convolution."""
    return {(p, r, p * stride + r * dilation - pad) for p in range(results) for r in range(size)
            if 0 <= p * stride + r * dilation - pad < pixels}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("image", "size", "stride", "pad", "dilation"), CASES)
def test_taps_find_their_pixels(image, size, stride, pad, dilation, backwards):
    made = (image + 2 * pad - dilation * (size - 1) - 1) // stride + 1
    axis = Axis(made if backwards else image, image if backwards else made, size, stride, pad, dilation, backwards)
    places = axis.steps + axis.reach
    found = set()
    for step, use in itertools.product(range(axis.steps), axis.uses):
        result = step * axis.out_step + use.result
        place = step + use.shift - axis.low
        assert 0 <= place < places
        first, last = axis.inside(use.plane, places)
        if result < axis.results and first <= place < last:
            pixel = (place + axis.low) * axis.in_step + use.plane
            assert 0 <= pixel < axis.pixels
            found.add((pixel, use.tap, result) if backwards else (result, use.tap, pixel))
    assert found == products(image, made, size, stride, pad, dilation)


def test_every_result_belongs_to_one_step():
    axis = Axis(5, 11, 3, 2, 1, 1, True)
    assert sum(axis.made(remainder) for remainder in range(axis.out_step)) == axis.results
