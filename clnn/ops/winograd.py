"""Winograd convolution: fewer multiplications by interpolation, for 3 × 3 and 5 × 5 filters of stride 1, in all directions.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016. A tile of m × m results is
Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for a filter g of r × r and a tile d of (m + r - 1)² pixels; summed over channels, the products
are (m + r - 1)² matrix products, one per element of a tile. Image and filters are transformed first, and the results last,
by kernels of their own.

The error depends on the points of interpolation. With 0, ±5/8, ±3/2 and ∞, 4 × 4 tiles have 1.6 times the error of a sum of
one product after the other, where Lavin and Gray's 0, ±1, ±2, ∞ have 3.7 times; like those they make the matrices of images
and results exact in binary. Against implicit_gemm, which adds up in blocks, it is 2.2 to 2.9 times for 4 × 4 tiles, no more
for 2 × 2 (``tests/device/test_winograd.py`` measures it). 4 × 4 tiles of 5 × 5 filters need three more points: 0, ±1/2, ±1,
±2 and ∞, the best of some hundred sets, have 5 to 7 times the error of one product after the other, 3e-6 of the largest
result. See Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd convolution for
deep neural networks", 2018, for why points close to ±1 are good.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from ..codegen.image_tiles import lying
from ..codegen.lowering import Context, Operand
from ..codegen.views import View, matrix
from ..config import config
from ..errors import LoweringError
from ..ir import NHWC, TensorSpec
from ..target import Target
from .gemm import Gemm, launch_gemm, main_kind
from .reduce import reduction_view

#: finite points of interpolation, by the number of elements of a transformed tile's side
POINTS = {4: (0.0, 1.0, -1.0), 6: (0.0, 0.625, -0.625, 1.5, -1.5), 8: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)}
#: sides of filters
FILTERS = (3, 5)
#: fewest channels of a group, in or out, for which it pays
LEAST_CHANNELS, LEAST_CHANNELS_CPU = 32, 48
#: fewest tiles of all images together (not on CPUs), and the largest share of the direct sum's multiplications, for which it pays
LEAST_TILES, MOST_PRODUCTS = 16, 0.6
#: tiles that cost a CPU as much as transforming the filters, writing and reading them
FILTERS_AS_TILES = 60
#: sums of 64 products are rounded on their own where the GEMM knows such blocks: most of the error is theirs, as the last
#: transform subtracts large sums from each other
BLOCKED = {"KC": 64}

Matrix = tuple[tuple[float, ...], ...]


class Transforms(NamedTuple):
    """F(results, taps): the matrices for results (Aᵀ), filters (G) and images (Bᵀ)."""

    results: Matrix
    filters: Matrix
    images: Matrix


@functools.cache
def transforms(results: int, taps: int) -> Transforms:
    """The matrices of F(results, taps) by the construction of Cook and Toom."""
    points = POINTS[results + taps - 1]
    at = [[*(p ** i for p in points), float(i == results - 1)] for i in range(results)]
    g = [[p ** j / np.prod([p - q for q in points if q != p]) for j in range(taps)] for p in points]
    g.append([*[0.0] * (taps - 1), 1.0])
    bt = [np.poly([q for q in points if q != p])[::-1].tolist() + [0.0] for p in points] + [np.poly(points)[::-1].tolist()]

    def rounded(rows) -> Matrix:
        return tuple(tuple(float(np.float32(v)) + 0.0 for v in row) for row in rows)
    return Transforms(rounded(at), rounded(g), rounded(bt))


class Tiles(NamedTuple):
    """How a tensor of images is cut: N images of C channels in a grid of tiles, one every ``hop`` pixels from ``origin``."""

    spec: TensorSpec
    origin: tuple[int, int]
    rows: int
    cols: int
    hop: int

    @property
    def count(self) -> int:
        return self.spec.shape[0] * self.rows * self.cols


def _prepare(op, window: tuple[int, int], image: TensorSpec, context: Context, side: int | None = None) -> int:
    """The side of the tiles into which ``image`` is cut, if the convolution can be computed so: ``side``, if it is given.

    Raises:
        LoweringError: if it cannot.
    """
    if config.winograd == "off":
        raise LoweringError("CLNN_WINOGRAD is off")
    if window not in [(of, of) for of in FILTERS] or op.stride != (1, 1) or op.dilation != (1, 1):
        raise LoweringError("is made for 3×3 and 5×5 filters without stride or dilation")
    if side:
        if config.winograd not in ("auto", f"f{side}"):
            raise LoweringError(f"CLNN_WINOGRAD asks for {'larger' if side == 2 else 'smaller'} tiles")
        return side
    side = _tile(window[0], image, context.target)
    return context.choice("tile", side, (4, 2)) if config.winograd == "auto" else side


def _tile(filter_side: int, image: TensorSpec, target: Target) -> int:
    """The side of a tile of results: as CLNN_WINOGRAD says, else what an item can hold, 8 × 8 elements for the larger filters. On
    CPUs it is the one that costs less: what is made of the filters is as much work as some tiles of images."""
    if config.winograd in ("f2", "f4"):
        return int(config.winograd[1])
    if target.is_cpu:
        return min((4, 2), key=lambda m: _cost(image, filter_side, m))
    return 2 if filter_side == 5 and target.unified_memory else 4


def _grid(image: TensorSpec, m: int) -> tuple[int, int]:
    """Rows and columns of tiles of an image."""
    return -(-image.shape[2] // m), -(-image.shape[3] // m)


def _products(image: TensorSpec, filter_side: int, m: int, more_tiles: int = 0) -> int:
    """Multiplications of all tiles, and of some more, for a channel in and one out."""
    return (m + filter_side - 1) ** 2 * (image.shape[0] * math.prod(_grid(image, m)) + more_tiles)


def _cost(image: TensorSpec, filter_side: int, m: int) -> int:
    """The same with what a CPU makes of the filters."""
    return _products(image, filter_side, m, FILTERS_AS_TILES)


def _transform(context: Context, x: Operand, tiles: Tiles, by: Matrix, inner: str, panel: int = 1) -> Operand:
    """Launch the transform of images, or of filters as images of one tile.

    ``inner``, tiles or channels, lies side by side: all of it, or ``panel`` at a time. The result is (panel, element of a tile,
    outer, inner).
    """
    (n, c, h, w), count, elements = tiles.spec.shape, tiles.count, len(by) ** 2
    near, far = (count, c) if inner == "tiles" else (c, count)
    side = panel if panel > 1 else near
    made = context.scratch((near // side, elements, far, side))
    of_near = elements * far * side if panel > 1 else 1
    places = (far * side, side, of_near) if inner == "tiles" else (far * side, of_near, side)
    context.launch("conv/winograd_input", {"N": n, "C": c, "H": h, "W": w, "strides": tiles.spec.strides, "origin": tiles.origin,
                                           "rows": tiles.rows, "cols": tiles.cols, "hop": tiles.hop, "matrix": by, "lanes": inner,
                                           "places": places, "panel": panel}, {"x": x}, {"v": made})
    return made


def transform_filters(context: Context, by: Transforms, inner: str, panel: int = 1) -> Operand:
    """The same of the filters, each an image of one tile."""
    return _transform(context, context.input(1), Tiles(context.inputs[1], (0, 0), 1, 1, 1), by.filters, inner, panel)


def _convolve(op, context: Context, image: Tiles, by: Transforms, transposed: bool) -> None:
    """Image times filters; with ``transposed`` the filters' inputs and outputs change places."""
    result, (k, cg) = context.outputs[0], context.inputs[1].shape[:2]
    kg = k // op.groups
    elements, tiles = len(by.images) ** 2, image.count
    outs, ins = (cg, kg) if transposed else (kg, cg)           # of one group
    context.check_workspace(4 * elements * (tiles * (outs + ins) * op.groups + k * cg))
    inner = "channels" if image.spec.layout == NHWC and op.groups == 1 else "tiles"
    # filters of one group lie as (K, C) or (C, K): on CPUs along the rows of A or of B, which are read as they lie
    flip = not transposed if inner == "channels" else transposed and context.target.is_cpu and op.groups == 1
    u = transform_filters(context, by, "tiles" if flip else "channels")
    v = _transform(context, context.input(0), image, by.images, inner)
    filters = matrix(kg, cg, 1, k, kg * cg) if flip else matrix(kg, cg, cg, 1, kg * cg)
    filters = filters.transposed if transposed else filters
    batch = elements * op.groups
    if inner == "tiles":
        products = context.scratch((elements, op.groups * outs, tiles))
        gemm = Gemm(filters, matrix(ins, tiles, tiles, 1, ins * tiles), matrix(outs, tiles, tiles, 1, outs * tiles), batch)
        launch_gemm(context, main_kind(context.target), gemm, u, v, products, tunables=BLOCKED)
        places = (op.groups * outs * tiles, tiles, 1)
    else:
        products = context.scratch((elements, tiles, outs))
        gemm = Gemm(matrix(tiles, ins, ins, 1, ins * tiles), filters.transposed, matrix(tiles, outs, outs, 1, outs * tiles),
                    batch)
        launch_gemm(context, main_kind(context.target), gemm, v, u, products, tunables=BLOCKED)
        places = (outs * tiles, 1, outs)
    n, channels, height, width = result.shape
    context.launch("conv/winograd_output",
                   {"N": n, "K": channels, "P": height, "Q": width, "strides": result.strides, "rows": image.rows,
                    "cols": image.cols, "matrix": by.results, "lanes": inner, "places": places},
                   {"m": products}, {"y": context.output(0)})


def cut_images(op, context: Context, side: int | None = None) -> tuple[Tiles, Transforms]:
    """The tiles of a convolution's images, and by what they are transformed; ``side`` is that of a tile of results, if fixed."""
    (x, w), (y,) = context.inputs, context.outputs
    m = _prepare(op, w.shape[2:], y, context, side)
    return Tiles(x, (-op.padding[0], -op.padding[2]), *_grid(y, m), m), transforms(m, w.shape[2])


def cut_gradients(op, context: Context, side: int | None = None) -> tuple[Tiles, Transforms]:
    """The same for the gradient of images: the convolution of the results' gradient, padded by the filter's side - 1 - padding,
    with the filters turned by half a circle."""
    (dy, w), (dx,) = context.inputs, context.outputs
    m, reach = _prepare(op, w.shape[2:], dx, context, side), w.shape[2] - 1
    by = transforms(m, reach + 1)
    turned = by._replace(filters=tuple(row[::-1] for row in by.filters))
    return Tiles(dy, (op.padding[0] - reach, op.padding[2] - reach), *_grid(dx, m), m), turned


def in_one_kernel(context: Context, image: Tiles, by: Transforms, transposed: bool) -> dict[str, object]:
    """The problem of a kernel that does a whole convolution."""
    result, (k, c) = context.outputs[0], context.inputs[1].shape[:2]
    outs, ins = (c, k) if transposed else (k, c)
    (x_strides, beside), (y_strides, _) = lying(image.spec), lying(result)
    return {"N": result.shape[0], "ins": ins, "outs": outs, "pixels": image.spec.shape[2:], "results": result.shape[2:],
            "x_strides": x_strides, "y_strides": y_strides, "beside": beside, "origin": image.origin, "rows": image.rows,
            "cols": image.cols, "images": by.images, "back": by.results}


def fprop(op, context: Context) -> None:
    _convolve(op, context, *cut_images(op, context), transposed=False)


def dgrad(op, context: Context) -> None:
    _convolve(op, context, *cut_gradients(op, context), transposed=True)


def wgrad(op, context: Context) -> None:
    """F(r, m): tiles of the gradient are the filters that slide over tiles of the image; the products sum over all tiles."""
    (x, dy), dw = context.inputs, context.outputs[0]
    m, side = _prepare(op, op.window, dy, context), op.window[0]
    by = transforms(side, m)
    (n, k, p, q), c = dy.shape, x.shape[1]
    cg, kg = c // op.groups, k // op.groups
    rows, cols = _grid(dy, m)
    tiles, elements = n * rows * cols, (m + side - 1) ** 2
    context.check_workspace(4 * elements * (tiles * (c + k) + k * cg))
    inner = "channels" if op.groups == 1 and (context.target.is_cpu or x.layout == NHWC) else "tiles"
    v = _transform(context, context.input(0), Tiles(x, (-op.padding[0], -op.padding[2]), rows, cols, m), by.images, inner)
    g = _transform(context, context.input(1), Tiles(dy, (0, 0), rows, cols, m), by.filters, inner)

    def view(channels: int) -> View:
        down, across = (tiles, 1) if inner == "tiles" else (1, channels)
        return matrix(channels, tiles, down, across, channels * tiles)
    products = context.scratch((elements, k, cg))
    gemm = Gemm(view(kg), view(cg).transposed, matrix(kg, cg, cg, 1, kg * cg), elements * op.groups)
    launch_gemm(context, main_kind(context.target), gemm, g, v, products, tunables=BLOCKED)
    context.launch("conv/winograd_output",
                   {"N": k, "K": cg, "P": side, "Q": side, "strides": dw.strides, "rows": 1, "cols": 1, "matrix": by.results,
                    "lanes": "channels", "places": (k * cg, 1, cg)}, {"m": products}, {"y": context.output(0)})
    if op.row_sum:
        problem = {"rows": k, "cols": n * p * q, "x": reduction_view(dy, (0, 2, 3)), "kind": "sum"}
        context.launch("reduce/rows", problem, {"x": context.input(1)}, {"y": context.output(1)})


def refuse(op, inputs, outputs, target: Target) -> str | None:
    """Where the transforms cost more than the multiplications that they save; the bounds were measured on a CPU in 2026-11."""
    # (x, y), (dy, dx) or (x, dy)
    source, result = (inputs[0], inputs[1]) if hasattr(op, "window") else (inputs[0], outputs[0])
    least = LEAST_CHANNELS_CPU if target.is_cpu else LEAST_CHANNELS
    if min(source.shape[1], result.shape[1]) // op.groups < least:
        return f"fewer than {least} channels do not pay for the transforms"
    side = op.window[0] if hasattr(op, "window") else inputs[1].shape[2]
    m = _tile(side, result, target)
    n, _, height, width = result.shape
    tiles, direct = n * math.prod(_grid(result, m)), side ** 2 * n * height * width
    if _cost(result, side, m) > direct if target.is_cpu else tiles < LEAST_TILES:
        return f"{tiles} tiles do not pay for transforming the filters"
    if _products(result, side, m) > MOST_PRODUCTS * direct:
        return f"tiles of {m}×{m} hang too far over images of {height}×{width}"
    return None
