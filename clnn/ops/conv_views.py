"""The three directions of a convolution as products of matrices: which matrices are seen in its tensors.

The depth of a product runs over channels and filter elements. Whatever lies side by side in memory comes last there, so that
loads run along memory: filter elements in planes of pixels, channels where they are innermost (NHWC). Filters then have to lie
so as well, as (K, R, S, C/groups): :func:`channels_last` tells where that holds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..codegen.views import Digit, View, Window, matrix, merge
from ..ir import TensorSpec
from .gemm import Gemm


def channels_last(image: TensorSpec, window: tuple[int, int]) -> bool:
    """Whether the depth of the products runs along the channels of an image, and filters as (K, R, S, C/groups) fit it."""
    return math.prod(window) > 1 and image.shape[1] > 1 and image.strides[1] == 1


def pixels(spec: TensorSpec) -> tuple[Digit, ...]:
    """(image, row, column) of a tensor as digits, joined where they walk memory as one."""
    (n, _, h, w), (sn, _, sh, sw) = spec.shape, spec.strides
    return merge([Digit(n, sn), Digit(h, sh), Digit(w, sw)])


def _depth(channels: Digit, taps: tuple[Digit, Digit], last: bool) -> tuple[Digit, ...]:
    """Channels and filter elements in the order of the depth."""
    return (*taps, channels) if last else (channels, *taps)


def _patches(op, x: TensorSpec, y: TensorSpec, window: tuple[int, int]) -> View:
    """The im2col matrix (C/groups · R · S) × (N · P · Q) of one group, as a view of the image; in NHWC (R · S · C/groups) ×."""
    (n, c, h, w), (sn, sc, sh, sw) = x.shape, x.strides
    cg = c // op.groups
    if window == (1, 1) and not any(op.padding):
        places = merge([Digit(n, sn), Digit(y.shape[2], sh * op.stride[0]), Digit(y.shape[3], sw * op.stride[1])])
        return View((Digit(cg, sc),), places, None, cg * sc)
    taps = Digit(window[0], 0, op.dilation[0]), Digit(window[1], 0, 0, op.dilation[1])
    return View(
        _depth(Digit(cg, sc), taps, channels_last(x, window)),
        (Digit(n, sn), Digit(y.shape[2], 0, op.stride[0]), Digit(y.shape[3], 0, 0, op.stride[1])),
        Window(h, w, sh, sw, -op.padding[0], -op.padding[2]),
        cg * sc,
    )


def fprop_gemm(op, x: TensorSpec, w: TensorSpec, y: TensorSpec) -> Gemm:
    """y = w · patches(x)."""
    kg, depth = w.shape[0] // op.groups, w.size // w.shape[0]
    return Gemm(
        matrix(kg, depth, depth, 1, kg * depth),
        _patches(op, x, y, w.shape[2:]),
        View((Digit(kg, y.strides[1]),), pixels(y), None, kg * y.strides[1]),
        op.groups,
    )


class Places(NamedTuple):
    """Elements of a tensor: the first, and the digits of the others."""

    base: int
    digits: tuple[Digit, ...]


class _Taps(NamedTuple):
    """Filter elements along one axis that meet the same pixels of a gradient: ``count`` from ``first``, ``step`` apart. They meet
    ``pixels`` pixels of dx, from ``start`` on, ``apart`` from each other; the first tap and pixel meet the output ``output``, and
    each further tap one that is ``back`` before."""

    first: int
    step: int
    count: int
    start: int
    apart: int
    pixels: int
    output: int
    back: int


def _phases(op, size: int, window: int, axis: int) -> list[_Taps]:
    """The taps along an axis by the remainder of a pixel's place, divided by the stride: a pixel h meets tap r at the output
    (h + padding - r · dilation) / stride, if that is whole."""
    stride, dilation, padding = op.stride[axis], op.dilation[axis], op.padding[2 * axis]
    step = stride // math.gcd(stride, dilation)
    made = []
    for start in range(min(stride, size)):
        first = next((r for r in range(min(step, window)) if (start + padding - r * dilation) % stride == 0), window)
        made.append(_Taps(first, step, -(-(window - first) // step), start, stride, -(-(size - start) // stride),
                          (start + padding - first * dilation) // stride, step * dilation // stride))
    return made


def _covering(op, dy: TensorSpec, w: TensorSpec, dx: TensorSpec, down: _Taps, across: _Taps) -> Gemm:
    """One product of dgrad: the pixels of a remainder, and the filter elements that meet them."""
    (n, k, p, q), (sn, sk, sp, sq) = dy.shape, dy.strides
    _, cg, r, s = w.shape
    kg, last = k // op.groups, channels_last(dy, (r, s))
    # filters as (K, R, S, C/groups), or as they are
    of_k, of_c, of_s = (cg * r * s, 1, cg) if last else (cg * r * s, r * s, 1)
    taps = Digit(down.count, down.step * s * of_s), Digit(across.count, across.step * of_s)
    a = View((Digit(cg, of_c),), merge(_depth(Digit(kg, of_k), taps, last)), None, kg * cg * r * s,
             (down.first * s + across.first) * of_s)
    if (down.count, across.count, down.output, across.output) == (1, 1, 0, 0) and (down.pixels, across.pixels) == (p, q):
        b = View((Digit(kg, sk),), pixels(dy), None, kg * sk)
    else:
        b = View(
            _depth(Digit(kg, sk), (Digit(down.count, 0, -down.back), Digit(across.count, 0, 0, -across.back)), last),
            (Digit(n, sn), Digit(down.pixels, 0, 1), Digit(across.pixels, 0, 0, 1)),
            Window(p, q, sp, sq, down.output, across.output),
            kg * sk,
        )
    tn, tc, th, tw = dx.strides
    made = merge([Digit(n, tn), Digit(down.pixels, down.apart * th), Digit(across.pixels, across.apart * tw)])
    return Gemm(a, b, View((Digit(cg, tc),), made, None, cg * tc, down.start * th + across.start * tw), op.groups)


def dgrad_gemms(op, dy: TensorSpec, w: TensorSpec, dx: TensorSpec) -> tuple[list[Gemm], list[Places]]:
    """dx = wᵀ · (the outputs whose window covers a pixel), as one product for each remainder of a pixel's place, divided by the
    stride: with stride 1 a single one. Also the pixels that no window covers: they are zero."""
    products, untouched = [], []
    columns = _phases(op, dx.shape[3], w.shape[3], 1)
    for down in _phases(op, dx.shape[2], w.shape[2], 0):
        if not down.count:
            untouched.append(_places(dx, down, _Taps(0, 1, 0, 0, 1, dx.shape[3], 0, 0)))
            continue
        for across in columns:
            if across.count:
                products.append(_covering(op, dy, w, dx, down, across))
            else:
                untouched.append(_places(dx, down, across))
    return products, untouched


def _places(dx: TensorSpec, down: _Taps, across: _Taps) -> Places:
    """The pixels that these taps would meet, walked along memory."""
    (n, c, _, _), (tn, tc, th, tw) = dx.shape, dx.strides
    digits = [Digit(n, tn), Digit(c, tc), Digit(down.pixels, down.apart * th), Digit(across.pixels, across.apart * tw)]
    return Places(down.start * th + across.start * tw, merge(sorted(digits, key=lambda digit: -digit.stride)))


def wgrad_gemm(op, x: TensorSpec, dy: TensorSpec, dw: TensorSpec) -> Gemm:
    """dw = dy · patches(x)ᵀ."""
    kg, cg, window = dw.shape[0] // op.groups, dw.shape[1], dw.shape[2:]
    depth, taps = cg * math.prod(window), math.prod(window)
    a = View((Digit(kg, dy.strides[1]),), pixels(dy), None, kg * dy.strides[1])
    columns = (Digit(taps, 1), Digit(cg, taps)) if channels_last(x, window) else (Digit(depth, 1),)
    return Gemm(a, _patches(op, x, dy, window).transposed, View((Digit(kg, depth),), columns, None, kg * depth), op.groups)
