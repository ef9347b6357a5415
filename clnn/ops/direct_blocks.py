"""Convolutions, and their gradients in the image, on CPUs where channels lie in blocks (NCHW8c, NCHW16c).

A block of channels is a vector, so pixels are read, and results stored, in whole runs of memory, and nothing need be packed but
the filters. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", 2018.
"""

from __future__ import annotations

from ..codegen.convolution import sides, turned_padding
from ..codegen.lowering import Context, Operand
from ..codegen.register_blocks import best, candidates
from ..codegen.views import Digit, View
from ..errors import LoweringError
from ..target import Target


def fprop(op, context: Context) -> None:
    k, c, r, s = context.inputs[1].shape
    made, read = k // op.groups, c * r * s
    filters = View((Digit(read, 1),), (Digit(made, read),), batch=made * read)
    _convolve(op, context, filters, (op.padding[0], op.padding[2]), backwards=False)


def dgrad(op, context: Context) -> None:
    """A convolution with the filters turned about."""
    k, c, r, s = context.inputs[1].shape
    padding = turned_padding(op, (r, s))
    read = k // op.groups
    filters = View((Digit(read, c * r * s), Digit(r * s, 1)), (Digit(c, r * s),), batch=read * c * r * s)
    _convolve(op, context, filters, padding, backwards=True)


def refuse(op, inputs, outputs, target: Target) -> str | None:
    return None if target.is_cpu else "is made for CPUs"


def _convolve(op, context: Context, filters: View, padding: tuple[int, int], backwards: bool) -> None:
    """Pack the filters, a matrix (what is read × channels that are made), and launch the convolution."""
    (image, w), (result,), block = context.inputs, context.outputs, context.target.channel_block
    if image.layout.block != block or not block:
        raise LoweringError(f"takes blocks of {block} channels here" if block else "is made for CPUs")
    problem = sides(op, image, result, w.shape[2:], backwards) | {"padding": padding, "block": block}
    ins, outs = problem["ins"], problem["outs"]
    if ins % block or outs % block:
        raise LoweringError(f"takes blocks of {block} channels, of one group each")
    vectors = sorted({vectors for _, vectors in candidates(outs, block, context.target)})
    panel = context.choice("panel", block * best(outs, block, context.target)[1], tuple(block * many for many in vectors))
    context.launch("conv/direct_blocks", problem | {"panel": panel},
                   {"x": context.input(0), "f": _packed(context, filters, panel, op.groups)}, {"y": context.output(0)})


def _packed(context: Context, filters: View, panel: int, groups: int) -> Operand:
    rows, cols = filters.shape
    made = context.scratch((groups, cols // panel, rows, panel))
    context.launch("gemm/pack", {"rows": rows, "cols": cols, "batch": groups, "x": filters, "width": panel},
                   {"x": context.input(1)}, {"panels": made})
    return made
