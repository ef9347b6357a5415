"""Changing how a tensor lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

from ..codegen.lowering import Context, Lowering
from ..codegen.views import Digit
from ..ir import ROW, Layout, Op, Sample, TensorSpec
from .tiles import transpose_tiles


@dataclass(frozen=True)
class Relayout(Op):
    """The same tensor in another layout; layout assignment inserts it."""

    layout: Layout

    def infer(self, x):
        return (x.with_layout(self.layout),)

    def grad(self, inputs, outputs, cotangents):
        return (cotangents[0],)

    def reference(self, x):
        return (x,)

    def flops(self, inputs, outputs):
        return 0

    @property
    def lowerings(self):
        def layouts(op, inputs, outputs):
            return [((inputs[0].layout,), (op.layout,))]
        return (Lowering("tiles", emit_tiles, layouts=layouts), Lowering("permute", emit_relayout, layouts=layouts))

    @classmethod
    def samples(cls):
        from ..ir import NHWC, blocked
        few, many = TensorSpec((2, 8, 3, 5)), TensorSpec((3, 40, 5, 9))
        return [Sample(cls(made), (f.with_layout(given),), differentiable=False) for f in (few, many)
                for given, made in ((ROW, NHWC), (NHWC, ROW), (ROW, blocked(8)), (blocked(8), NHWC))]


def physical_digits(result: TensorSpec, source: TensorSpec) -> tuple[Digit, ...]:
    """The physical dimensions of ``result``, each with its step in ``source``; block structures of both are split to match."""
    digits = []
    step = {}
    width = 1
    for dim in reversed(source.layout.dims(source.shape)):
        step.setdefault(dim.axis, []).append((dim.scale, dim.extent, width))
        width *= dim.extent
    for dim in result.layout.dims(result.shape):
        parts = step[dim.axis]
        if len(parts) == 1:
            digits.append(Digit(dim.extent, parts[0][2] * dim.scale))
            continue
        block = parts[0][1]                                     # the source splits this axis: (inner, outer)
        inner_width, outer_width = parts[0][2], parts[1][2]
        if dim.scale >= block:
            digits.append(Digit(dim.extent, outer_width * (dim.scale // block)))
        elif dim.extent <= block:
            digits.append(Digit(dim.extent, inner_width * dim.scale))
        else:
            digits += [Digit(dim.extent // block, outer_width), Digit(block, inner_width)]
    return tuple(digits)


def emit_relayout(op: Relayout, context: Context) -> None:
    (x,), (y,) = context.inputs, context.outputs
    digits = physical_digits(y, x)
    axes = tuple((digit.stride, 0, digit.extent, 1, 1) for digit in digits)
    context.launch("pointwise/move", {"N": y.size, "shape": tuple(d.extent for d in digits), "axes": axes, "fill": 0.0},
                   {"x": context.input(0)}, {"y": context.output(0)})


def emit_tiles(op: Relayout, context: Context) -> None:
    (x,), (y,) = context.inputs, context.outputs
    transpose_tiles(context, physical_digits(y, x))
