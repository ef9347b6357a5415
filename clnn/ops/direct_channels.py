"""Convolutions of few channels, and their gradients, on CPUs where channels are innermost: vectors of result channels, summed
over taps of pixels. The results may lie in blocks of channels.

A product of matrices would unfold the image first; here rows of pixels are copied once.
"""

from __future__ import annotations

from ..codegen.convolution import sides, turned_padding
from ..codegen.lowering import Context
from ..errors import LoweringError
from ..target import Target
from .direct_planes import sum_parts
from .tiles import turn

#: fewest channels that fill a vector
NARROWEST = 4
#: most channels of a group that are read with which products of matrices do not pay against this, and with 1×1 filters, which
#: nothing need be unfolded for; measured on a CPU in 2026-11
MANY, MANY_SINGLE = 64, 32
#: elements of a row of a filter for which its gradient is made as vectors of neighbours
SHORTEST, LONGEST_RUN = 5, 40


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
    padding = turned_padding(op, (r, s))
    filters = context.scratch((k, r * s, c))
    turn(context, context.input(1), filters, k, r * s, c)
    _launch(op, context, filters, padding, backwards=True)


def wgrad(op, context: Context) -> None:
    """A row of a filter is a run of neighbours in the image, whose products with a gradient are a few vectors."""
    if not context.target.is_cpu:
        raise LoweringError("is made for CPUs")
    if op.groups > 1 or op.dilation != (1, 1):
        raise LoweringError("takes runs of neighbours, without groups or dilation")
    problem = sides(op, *context.inputs, op.window, False)
    problem |= {"C": problem.pop("ins"), "K": problem.pop("outs")}
    for name in ("backwards", "groups", "dilation"):
        del problem[name]
    sum_parts(op, context, "conv/direct_channels_wgrad", problem, 4 * context.target.compute_units)


def refuse_wgrad(op, inputs, outputs, target: Target) -> str | None:
    """Where a row of a filter is too long for the registers, or so short that its vectors are mostly empty."""
    if not target.is_cpu:
        return "is made for CPUs"
    run = inputs[0].shape[1] * op.window[1]
    return None if SHORTEST <= run <= LONGEST_RUN else f"is made for rows of filters of {SHORTEST} to {LONGEST_RUN} elements"


def refuse(op, inputs, outputs, target: Target) -> str | None:
    """Where other ways are faster."""
    if not target.is_cpu:
        return "is made for CPUs"
    channels = inputs[0].shape[1] // op.groups
    most = MANY_SINGLE if tuple(inputs[1].shape[2:]) == (1, 1) else MANY
    if channels > most:
        return f"with more than {most} channels products of matrices are faster"
    return None
