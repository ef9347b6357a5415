"""Softmax and log-softmax along any axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..codegen.expr import arg, call
from ..codegen.lowering import Context, Lowering
from ..errors import ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .pointwise import pointwise, require_float
from .reduce import sum
from .tracing import Tensor, apply, as_value, axis_index, graph_of

SHAPES = (((5, 10), 1), ((3, 300), 1), ((4, 1), 1), ((2, 7, 3, 5), 1), ((6, 4), 0), ((17,), 0), ((2, 1100), -1))


def large(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    """Numbers whose exponentials overflow."""
    return (rng.standard_normal(spec.shape) * 3 + 300).astype(spec.dtype)


@dataclass(frozen=True)
class RowOp(Op):
    """Base of the operators along one axis; two inputs, the result and its gradient, for the gradient operators."""

    axis: int
    kind: ClassVar[str]
    tail_outputs = (0,)

    def infer(self, x, *rest):
        axis_index(self.axis, x.rank, self.kind)
        if any(spec.shape != x.shape for spec in rest):
            raise ShapeError("the gradient does not have the shape of the result", where=self.kind, got=rest[0].shape,
                             expected=x.shape)
        return (TensorSpec(x.shape, x.dtype),)

    def flops(self, inputs, outputs):
        return 5 * outputs[0].size

    @property
    def lowerings(self):
        return (Lowering("rows", emit_rows),)

    @classmethod
    def samples(cls):
        count = 2 if cls.kind.endswith("grad") else 1
        plain = [Sample(cls(axis), (TensorSpec(shape),) * count) for shape, axis in SHAPES]
        return plain if count == 2 else [*plain, Sample(cls(1), (TensorSpec((3, 9)),), {0: large}, tolerance=1e-4)]


def emit_rows(op: RowOp, context: Context) -> None:
    (y,) = context.outputs
    axis = op.axis % y.rank
    extent, inner = y.shape[axis], math.prod(y.shape[axis + 1:])
    context.launch("softmax/rows", {"rows": y.size // max(extent, 1), "extent": extent, "inner": inner, "kind": op.kind},
                   dict(zip(("x", "g"), map(context.input, range(len(context.inputs))), strict=False)), {"y": context.output(0)})


def softmax_of(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax in numpy, for references."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax_of(x: np.ndarray, axis: int) -> np.ndarray:
    """Log-softmax in numpy, for references."""
    z = x - x.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


@dataclass(frozen=True)
class Softmax(RowOp):
    """eˣ / Σ eˣ along ``axis``."""

    kind = "softmax"

    def grad(self, inputs, outputs, cotangents):
        return apply(SoftmaxGrad(self.axis), outputs[0], cotangents[0])

    def reference(self, x):
        return (softmax_of(x, self.axis),)


@dataclass(frozen=True)
class SoftmaxGrad(RowOp):
    """(y, g) → y (g − Σ g y)."""

    kind = "softmax_grad"

    def grad(self, inputs, outputs, cotangents):
        (y, g), (h,) = inputs, cotangents
        dots = [sum(pointwise(y.graph, [arg(0) * arg(1)], [y, v])[0], self.axis, keepdims=True) for v in (g, h)]
        dy = pointwise(y.graph, [arg(0) * (arg(1) - arg(2)) - arg(3) * arg(4)], [h, g, dots[0], g, dots[1]])[0]
        return dy, apply(SoftmaxGrad(self.axis), y, h)[0]

    def reference(self, y, g):
        return (y * (g - (g * y).sum(self.axis, keepdims=True)),)


@dataclass(frozen=True)
class LogSoftmax(RowOp):
    """x − log Σ eˣ along ``axis``."""

    kind = "log_softmax"

    def grad(self, inputs, outputs, cotangents):
        return apply(LogSoftmaxGrad(self.axis), outputs[0], cotangents[0])

    def reference(self, x):
        return (log_softmax_of(x, self.axis),)


@dataclass(frozen=True)
class LogSoftmaxGrad(RowOp):
    """(y, g) → g − e^y Σ g."""

    kind = "log_softmax_grad"

    def grad(self, inputs, outputs, cotangents):
        (y, g), (h,) = inputs, cotangents
        total = sum(g, self.axis, keepdims=True)
        weighted = pointwise(y.graph, [arg(0) * call("exp", arg(1))], [h, y])[0]
        dy = pointwise(y.graph, [-(arg(0) * arg(1))], [weighted, total])[0]
        return dy, pointwise(y.graph, [arg(0) - arg(1)], [h, sum(weighted, self.axis, keepdims=True)])[0]

    def reference(self, y, g):
        return (g - np.exp(y) * g.sum(self.axis, keepdims=True),)


def _along(operator: type[RowOp], x: Tensor, axis: int, where: str) -> Value:
    value = require_float(as_value(graph_of(x), x), where)
    return apply(operator(axis_index(axis, len(value.shape), where)), value)[0]


def softmax(x: Tensor, dim: int = -1) -> Value:
    """eˣ / Σ eˣ along ``dim``."""
    return _along(Softmax, x, dim, "softmax")


def log_softmax(x: Tensor, dim: int = -1) -> Value:
    """x − log Σ eˣ along ``dim``, accurate where softmax underflows."""
    return _along(LogSoftmax, x, dim, "log_softmax")
