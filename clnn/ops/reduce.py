"""Reductions over axes: sum, mean, max."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..codegen.expr import arg, call, mul
from ..codegen.lowering import Context, Lowering
from ..codegen.views import Digit, View, matrix, merge
from ..errors import ArgumentError
from ..ir import NHWC, ROW, Op, Sample, TensorSpec, Value
from ..ir.op import distinct
from ..target import Target
from .pointwise import pointwise
from .shape import expand, reshape
from .tracing import Tensor, apply, as_value, axes_tuple, graph_of


@dataclass(frozen=True)
class Reduce(Op):
    """``kind`` (sum, mean, max) over ``axes``, which stay with extent 1."""

    kind: str
    axes: tuple[int, ...]
    tail_outputs = (0,)

    def infer(self, x):
        shape = tuple(1 if axis in self.axes else extent for axis, extent in enumerate(x.shape))
        if self.kind == "max" and math.prod(x.shape[axis] for axis in self.axes) == 0:
            raise ArgumentError("the maximum of no elements is not defined", where="max", got=x.shape)
        return (TensorSpec(shape, x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        (x,), (y,), (g,) = inputs, outputs, cotangents
        if self.kind == "max":
            hit = pointwise(x.graph, [call("equal", arg(0), arg(1))], [x, y])[0]
            count = apply(Reduce("sum", self.axes), hit)[0]
            return (pointwise(x.graph, [arg(0) * arg(1) / arg(2)], [hit, g, count])[0],)
        if self.kind == "mean":
            count = math.prod(x.shape[axis] for axis in self.axes)
            g = pointwise(x.graph, [mul(arg(0), 1.0 / count)], [g])[0]
        return (expand(g, x.shape),)

    def reference(self, x):
        return ({"sum": np.sum, "mean": np.mean, "max": np.max}[self.kind](x.astype(np.float64), self.axes, keepdims=True),)

    def flops(self, inputs, outputs):
        return inputs[0].size

    @property
    def lowerings(self):
        return (Lowering("rows", emit_rows, layouts=lambda op, i, o: [((layout,), (ROW,)) for layout in _layouts(op, i[0])]),)

    @classmethod
    def samples(cls):
        f = TensorSpec
        cases = [((0,), (7, 5)), ((1,), (7, 130)), ((0, 2, 3), (3, 5, 4, 7)), ((2, 3), (2, 3, 9, 5)), ((0, 1), (6, 1)),
                 ((1,), (4, 3, 5)), ((0,), (3000,)), ((), (3, 4))]
        return [Sample(cls(kind, axes), (f(shape),), {0: distinct} if kind == "max" else {})
                for kind in ("sum", "mean", "max") for axes, shape in cases]


def _layouts(op: Reduce, x: TensorSpec):
    return [ROW, NHWC] if x.rank == 4 and set(op.axes) in ({0, 2, 3}, {2, 3}) else [ROW]


def reduction_view(x: TensorSpec, axes: tuple[int, ...]) -> View:
    """Rows are the results in row-major order, columns the elements that each result is made of, in order of memory."""
    strides = x.strides
    rows = merge([Digit(x.shape[axis], strides[axis]) for axis in range(x.rank) if axis not in axes])
    cols = merge(sorted((Digit(x.shape[axis], strides[axis]) for axis in axes), key=lambda d: -d.stride))
    return View(rows, cols)


def emit_rows(op: Reduce, context: Context) -> None:
    (x,) = context.inputs
    view = reduction_view(x, op.axes)
    source, parts = context.input(0), _parts(view, context.target)
    if parts > 1:       # few long rows would leave most of the device idle
        outer, *inner = view.cols
        divided = View((*view.rows, Digit(parts, outer.stride * (outer.extent // parts))),
                       (Digit(outer.extent // parts, outer.stride), *inner), view.window, view.batch, view.base)
        rows, cols = divided.shape
        made = context.scratch((rows,))
        context.launch("reduce/rows", {"rows": rows, "cols": cols, "x": divided, "kind": op.kind}, {"x": source}, {"y": made})
        source, view = made, matrix(rows // parts, parts, parts, 1)
    rows, cols = view.shape
    context.launch("reduce/rows", {"rows": rows, "cols": cols, "x": view, "kind": op.kind}, {"x": source},
                   {"y": context.output(0)})


def _parts(view: View, target: Target) -> int:
    """Into how many equal parts the rows are cut, each reduced on its own: enough for 8 work-groups per compute unit of a GPU."""
    rows, cols = view.shape
    outer = view.cols[0].extent
    wanted = min(8 * target.compute_units // (rows or 1), cols // 4096)     # here, max is an operator
    return 1 if target.is_cpu else next((parts for parts in range(min(wanted, outer), 1, -1) if outer % parts == 0), 1)


def _reduce(kind: str, x: Tensor, axis: int | Sequence[int] | None, keepdims: bool) -> Value:
    value = as_value(graph_of(x), x)
    axes = axes_tuple(axis, len(value.shape), kind)
    result = apply(Reduce(kind, axes), value)[0]
    if keepdims:
        return result
    return reshape(result, tuple(extent for i, extent in enumerate(value.shape) if i not in axes))


def sum(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Sum over ``axis`` (one, several, or None for all)."""
    return _reduce("sum", x, axis, keepdims)


def mean(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Mean over ``axis`` (one, several, or None for all)."""
    return _reduce("mean", x, axis, keepdims)


def max(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Largest element over ``axis``; equal elements share the gradient, as in torch.amax."""
    return _reduce("max", x, axis, keepdims)
