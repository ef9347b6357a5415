"""Winograd convolution on CPUs in one kernel: what an item makes of its tiles never leaves the second cache.

The transformed tiles of a whole batch are 2.25 times the image, and so are their products. Written out, as ``winograd.py``
does, both go through memory twice; here an image is read once and a result written once. In return each item reads all
filters, so the cache must hold the tiles of enough pixels.
"""

from __future__ import annotations

from ..codegen.lowering import Context
from ..errors import LoweringError
from ..target import Target
from . import winograd
from .winograd import Transforms, grid_of, prepare, transforms

#: channels of a vector
LANES = 16


def _panel(outs: int, target: Target) -> tuple[int, tuple[int, ...]]:
    """Channels of a panel of filters, and what else is possible."""
    wide = target.vector_width >= LANES and outs % (2 * LANES) == 0
    return (2 * LANES, (LANES, 2 * LANES)) if wide else (LANES, (LANES,))


def _convolve(op, context: Context, origin: tuple[int, int], m: int, by: Transforms, transposed: bool) -> None:
    """Image times filters; with ``transposed`` the filters' inputs and outputs change places."""
    image, weights, result = context.inputs[0], context.inputs[1], context.outputs[0]
    k, c = weights.shape[:2]
    outs, ins = (c, k) if transposed else (k, c)
    if op.groups > 1 or outs % LANES or ins % LANES:
        raise LoweringError(f"takes vectors of {LANES} channels, without groups")
    panel = context.choice("panel", *_panel(outs, context.target))
    elements = len(by.images) ** 2
    u = context.scratch((outs // panel, elements, ins, panel))
    of_element, of_in, of_panel = ins * panel, panel, elements * ins * panel
    lanes, places = ("channels", (of_panel, of_in)) if transposed else ("tiles", (of_in, of_panel))
    context.launch("conv/winograd_input", {
        "N": k, "C": c, "H": weights.shape[2], "W": weights.shape[3], "strides": weights.strides, "origin": (0, 0), "rows": 1,
        "cols": 1, "hop": 1, "matrix": by.filters, "lanes": lanes, "places": (of_element, *places), "panel": panel},
        {"x": context.input(1)}, {"v": u})
    rows, cols = grid_of(result, m)
    context.launch("conv/winograd_blocks", {
        "N": image.shape[0], "ins": ins, "outs": outs, "pixels": image.shape[2:], "results": result.shape[2:],
        "x_strides": image.strides, "y_strides": result.strides, "origin": origin, "rows": rows, "cols": cols,
        "images": by.images, "back": by.results, "panel": panel}, {"x": context.input(0), "u": u}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    (_, w), (y,) = context.inputs, context.outputs
    m = prepare(op, w.shape[2:], y, context)
    _convolve(op, context, (-op.padding[0], -op.padding[2]), m, transforms(m, w.shape[2]), transposed=False)


def dgrad(op, context: Context) -> None:
    """The convolution of the gradient, padded by the filter's side - 1 - padding, with the filters turned by half a circle."""
    (_, w), (dx,) = context.inputs, context.outputs
    m, reach = prepare(op, w.shape[2:], dx, context), w.shape[2] - 1
    by = transforms(m, reach + 1)
    turned = by._replace(filters=tuple(row[::-1] for row in by.filters))
    _convolve(op, context, (op.padding[0] - reach, op.padding[2] - reach), m, turned, transposed=True)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    if not target.is_cpu:
        return "is made for the second cache of CPUs"
    return winograd.refuse(op, inputs, outputs, target)
