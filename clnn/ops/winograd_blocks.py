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
from .winograd import BLOCKED, Tiles, Transforms, cut_gradients, cut_images, in_one_kernel, transform_filters

#: channels of a vector
LANES = 16


def _panel(outs: int, target: Target) -> tuple[int, tuple[int, ...]]:
    """Channels of a panel of filters, and what else is possible."""
    wide = target.vector_width >= LANES and outs % (2 * LANES) == 0
    return (2 * LANES, (LANES, 2 * LANES)) if wide else (LANES, (LANES,))


def _convolve(op, context: Context, image: Tiles, by: Transforms, transposed: bool) -> None:
    """Image times filters; with ``transposed`` the filters' inputs and outputs change places."""
    problem = in_one_kernel(context, image, by, transposed)
    ins, outs = problem["ins"], problem["outs"]
    if op.groups > 1 or outs % LANES or ins % LANES:
        raise LoweringError(f"takes vectors of {LANES} channels, without groups")
    panel = context.choice("panel", *_panel(outs, context.target))
    u = transform_filters(context, by, "channels" if transposed else "tiles", panel)
    context.launch("conv/winograd_blocks", problem | {"block": BLOCKED["KC"], "panel": panel},
                   {"x": context.input(0), "u": u}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    _convolve(op, context, *cut_images(op, context), transposed=False)


def dgrad(op, context: Context) -> None:
    _convolve(op, context, *cut_gradients(op, context), transposed=True)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    if not target.is_cpu:
        return "is made for the second cache of CPUs"
    return winograd.refuse(op, inputs, outputs, target)
