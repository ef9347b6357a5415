"""Convolutions, and their gradients in the image, on CPUs where channels are innermost: vectors of result channels, summed over
taps of pixels. The results may lie in blocks of channels.

A product of matrices would unfold the image first; here rows of pixels are copied once.
"""

from __future__ import annotations

from ..codegen.convolution import sides
from ..codegen.lowering import Context
from ..errors import LoweringError
from ..target import Target
from .tiles import turn

#: fewest channels that fill a vector
NARROWEST = 4
#: most channels of a group that are read with which products of matrices do not pay against this, and with 1×1 filters, which
#: nothing need be unfolded for; measured on a CPU in 2026-11
MANY, MANY_SINGLE = 64, 32


def _check(op, context: Context, made: int) -> None:
    if not context.target.is_cpu:
        raise LoweringError("is made for CPUs")
    by = context.outputs[0].layout.block or NARROWEST
    if made // op.groups % by:
        raise LoweringError(f"takes channels by {by} at least")


def _launch(op, context: Context, filters, padding, backwards: bool) -> None:
    (image, w), (result,) = context.inputs, context.outputs
    problem = sides(op, image, result, w.shape[2:], backwards) | {"padding": padding, "beside": result.layout.block}
    context.launch("conv/direct_channels", problem, {"x": context.input(0), "f": filters}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    k, c, r, s = context.inputs[1].shape
    _check(op, context, k)
    filters = context.scratch((c * r * s, k))       # so that those of neighbouring channels are neighbours
    turn(context, context.input(1), filters, 1, c * r * s, k)
    _launch(op, context, filters, (op.padding[0], op.padding[2]), backwards=False)


def dgrad(op, context: Context) -> None:
    """A convolution with the filters turned about."""
    k, c, r, s = context.inputs[1].shape
    _check(op, context, c * op.groups)
    if op.stride != (1, 1):
        raise LoweringError("the pixels of a stride are apart")
    padding = tuple((size - 1) * apart - pad for size, apart, pad in
                    zip((r, s), op.dilation, (op.padding[0], op.padding[2]), strict=True))
    if min(padding) < 0:
        raise LoweringError("pads more than a filter covers")
    filters = context.scratch((k, r * s, c))
    turn(context, context.input(1), filters, k, r * s, c)
    _launch(op, context, filters, padding, backwards=True)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    """Where other ways are faster."""
    if not target.is_cpu:
        return "is made for CPUs"
    channels = inputs[0].shape[1] // op.groups
    most = MANY_SINGLE if tuple(inputs[1].shape[2:]) == (1, 1) else MANY
    if channels > most:
        return f"with more than {most} channels products of matrices are faster"
    return None
