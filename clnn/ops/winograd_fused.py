"""Winograd convolution on GPUs in one kernel, with tiles of 2 × 2 results, for 3 × 3 filters: nothing but filters is written out.

Larger tiles need fewer products, but what is made of images, and the products, go through memory, some nine times the image,
and take a workspace: see ``winograd.py``. On an H200, with 4 TB/s, this is up to a tenth faster with 64 channels and as much
slower with 128; with less bandwidth for as many multiplications it pays for more. Its error is that of 2 × 2 tiles.
"""

from __future__ import annotations

from ..codegen.lowering import Context
from ..errors import LoweringError
from ..target import Target
from . import winograd
from .winograd import Tiles, Transforms, cut_gradients, cut_images, in_one_kernel, transform_filters

#: side of a tile of results: sums for larger ones do not fit an item's registers
SIDE = 2
#: what channels that are read, and made, must be a multiple of
READ, MADE = 8, 32


def _convolve(op, context: Context, image: Tiles, by: Transforms, transposed: bool) -> None:
    """Image times filters; with ``transposed`` the filters' inputs and outputs change places."""
    problem = in_one_kernel(context, image, by, transposed)
    if len(by.images) != SIDE + 2:
        raise LoweringError("is made for 3×3 filters")
    if op.groups > 1 or problem["ins"] % READ or problem["outs"] % MADE:
        raise LoweringError(f"reads channels by {READ} and makes them by {MADE}, without groups")
    u = transform_filters(context, by, "channels" if transposed else "tiles")
    context.launch("conv/winograd_fused", problem, {"x": context.input(0), "u": u}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    _convolve(op, context, *cut_images(op, context, SIDE), transposed=False)


def dgrad(op, context: Context) -> None:
    _convolve(op, context, *cut_gradients(op, context, SIDE), transposed=True)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    if target.is_cpu:
        return "barriers between many items are slow on CPUs"
    if target.unified_memory:
        return "needs more registers than GPUs that share the processor's memory have"
    return winograd.refuse(op, inputs, outputs, target)
