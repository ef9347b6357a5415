"""Other shapes for the same elements: reshape, flatten, expand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..errors import ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .tracing import Tensor, apply, as_value, axis_index, graph_of


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in row-major order under another shape; costs nothing."""

    shape: tuple[int, ...]

    def infer(self, x):
        if math.prod(self.shape) != x.size:
            raise ShapeError("the number of elements changes", where="reshape", got=f"{x.shape} -> {self.shape}",
                             expected=f"{x.size} elements")
        return (TensorSpec(self.shape, x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        return (reshape(cotangents[0], inputs[0].shape),)

    def reference(self, x):
        return (x.reshape(self.shape),)

    def flops(self, inputs, outputs):
        return 0

    def bytes(self, inputs, outputs):
        return 0

    def view_of(self):
        return 0

    @property
    def lowerings(self):
        return (Lowering("view", lambda op, context: None),)

    @classmethod
    def samples(cls):
        return [Sample(cls((6, 4)), (TensorSpec((2, 3, 4)),)), Sample(cls((1, 5, 1)), (TensorSpec((5,)),))]


@dataclass(frozen=True)
class Expand(Op):
    """Broadcast to ``shape``; pointwise fusion dissolves it into its readers."""

    shape: tuple[int, ...]

    def infer(self, x):
        if np.broadcast_shapes(x.shape, self.shape) != self.shape:
            raise ShapeError("cannot be broadcast", where="expand", got=x.shape, expected=self.shape)
        return (TensorSpec(self.shape, x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        from .pointwise import sum_to
        return (sum_to(cotangents[0], inputs[0].shape),)

    def reference(self, x):
        return (np.broadcast_to(x, self.shape).copy(),)

    def flops(self, inputs, outputs):
        return 0

    @property
    def lowerings(self):
        return (Lowering("copy", emit_expand),)

    @classmethod
    def samples(cls):
        return [Sample(cls((2, 3, 4)), (TensorSpec((3, 1)),)), Sample(cls((5,)), (TensorSpec(()),))]


def emit_expand(op: Expand, context: Context) -> None:
    (x,), (y,) = context.inputs, context.outputs
    shape = (1,) * (y.rank - x.rank) + x.shape
    strides = TensorSpec(shape, x.dtype).strides
    axes = tuple((0 if shape[i] == 1 else strides[i], 0, y.shape[i], 1, 1) for i in range(y.rank))
    context.launch("pointwise/move", {"N": y.size, "shape": y.shape, "axes": axes, "fill": 0.0},
                   {"x": context.input(0)}, {"y": context.output(0)})


def reshape(x: Tensor, shape: Sequence[int]) -> Value:
    """Another shape for the same elements; one extent may be −1."""
    value = as_value(graph_of(x), x)
    shape = tuple(int(extent) for extent in shape)
    if shape.count(-1) == 1:
        known = -math.prod(shape)
        if known == 0 or value.spec.size % known:
            raise ShapeError("the missing extent is not a whole number", where="reshape", got=f"{value.shape} -> {shape}")
        shape = tuple(value.spec.size // known if extent == -1 else extent for extent in shape)
    if shape == value.shape:
        return value
    if value.node is not None and isinstance(value.node.op, Reshape):
        return reshape(value.node.inputs[0], shape)
    return apply(Reshape(shape), value)[0]


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Axes start_dim … end_dim joined into one."""
    value = as_value(graph_of(x), x)
    rank = len(value.shape)
    first, last = axis_index(start_dim, rank, "flatten"), axis_index(end_dim, rank, "flatten")
    if first > last:
        raise ShapeError("start_dim lies behind end_dim", where="flatten", got=(start_dim, end_dim))
    return reshape(value, (*value.shape[:first], math.prod(value.shape[first:last + 1]), *value.shape[last + 1:]))


def expand(x: Tensor, shape: Sequence[int]) -> Value:
    """x broadcast to ``shape``; a pointwise operator, so it fuses into what reads it."""
    value = as_value(graph_of(x), x)
    shape = tuple(shape)
    if value.shape == shape:
        return value
    return apply(Expand(shape), value)[0]
