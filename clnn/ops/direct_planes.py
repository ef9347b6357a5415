"""Convolutions of few channels on CPUs, depthwise ones among them: sums of taps over zero-padded planes of pixels.

Where a group has few channels, the matrices of a product are thin, and unfolding the image for it costs more than the product.
"""

from __future__ import annotations

import math

from ..codegen.convolution import sides
from ..codegen.lowering import Context
from ..codegen.views import matrix
from ..errors import LoweringError
from ..target import Target

#: most elements of a filter in one channel, as every one is spelled out
LARGEST_WINDOW = 256
#: fewest channels of a group, in and out, with which products of matrices pay against this
MANY = 48
#: most filter elements of a group whose gradients are kept close
MOST_SUMS = 1 << 15


def _check(context: Context, window: tuple[int, int]) -> None:
    if not context.target.is_cpu:
        raise LoweringError("is made for CPUs")
    if window[0] * window[1] > LARGEST_WINDOW:
        raise LoweringError(f"spells out filters of at most {LARGEST_WINDOW} elements")


def _launch(op, context: Context, backwards: bool) -> None:
    (image, w), (result,) = context.inputs, context.outputs
    _check(context, w.shape[2:])
    context.launch("conv/direct_planes", sides(op, image, result, w.shape[2:], backwards),
                   {"x": context.input(0), "f": context.input(1)}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    _launch(op, context, backwards=False)


def dgrad(op, context: Context) -> None:
    _launch(op, context, backwards=True)


def wgrad(op, context: Context) -> None:
    """Sums over part of the rows of all images; where there are several parts, their sum."""
    x, dy = context.inputs
    _check(context, op.window)
    problem = sides(op, x, dy, op.window, False)
    problem |= {"C": problem.pop("ins"), "K": problem.pop("outs")}
    del problem["backwards"]
    wanted = 1 if op.groups >= 8 * context.target.compute_units else -(-2 * context.target.compute_units // op.groups)
    sum_parts(op, context, "conv/direct_planes_wgrad", problem, wanted)


def sum_parts(op, context: Context, template: str, problem: dict[str, object], wanted: int) -> None:
    """Launch a kernel for the gradient in the filters that cuts the rows of all results into parts, and join these."""
    x, dy = context.inputs
    parts = context.choice("parts", min(wanted, x.shape[0] * dy.shape[2]), (1, 2, 4, 8, 16, 32))
    outputs = {"part": context.output(0)} | ({"sums": context.output(1)} if op.row_sum else {})
    depth = math.prod(context.outputs[0].shape[1:])
    stores = outputs if parts == 1 else {"part": context.scratch((parts, dy.shape[1], depth))} | (
        {"sums": context.scratch((parts, dy.shape[1]))} if op.row_sum else {})
    context.launch(template, problem | {"parts": parts}, {"x": context.input(0), "dy": context.input(1)}, stores)
    if parts > 1:
        reads = {"part": stores["part"]} | ({"part_sum": stores["sums"]} if op.row_sum else {})
        results = {"c": outputs["part"]} | ({"row_sum": outputs["sums"]} if op.row_sum else {})
        context.launch("gemm/join", {"M": dy.shape[1], "N": depth, "batch": 1, "splits": parts,
                                     "c": matrix(dy.shape[1], depth, depth, 1, dy.shape[1] * depth)}, reads, results)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    """Where other ways are faster; the bounds were measured on a CPU in 2026-11."""
    if not target.is_cpu:
        return "is made for CPUs"
    backwards_to_filters = hasattr(op, "window")
    window = op.window if backwards_to_filters else inputs[1].shape[2:]
    image, result = (inputs[0], inputs[1]) if backwards_to_filters else (inputs[0], outputs[0])
    few = min(image.shape[1], result.shape[1]) // op.groups
    if tuple(window) == (1, 1) and few > 4:
        return "1×1 filters are matrices as they are"
    if few >= MANY:
        return f"with {MANY} channels or more products of matrices are faster"
    sums = result.shape[1] * image.shape[1] // op.groups ** 2 * window[0] * window[1]
    if backwards_to_filters and sums > MOST_SUMS:
        return f"keeps the sums of {sums} filter elements, more than {MOST_SUMS} leave the cache"
    return None
