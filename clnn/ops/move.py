"""Operators that move elements and compute nothing: transpose, slice, pad, concat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..codegen.views import Digit
from ..errors import ArgumentError, ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .tiles import transpose_tiles
from .tracing import Tensor, apply, as_value, axis_index, graph_of


@dataclass(frozen=True)
class Move(Op):
    """Base of the operators that fill each output element from one input element or with a constant."""

    def flops(self, inputs, outputs):
        return 0

    @property
    def lowerings(self):
        return (Lowering("copy", emit_move),)

    def source(self, x: TensorSpec) -> tuple[tuple[tuple[int, int, int, int, int], ...], float]:
        """(one tuple per output axis, fill value).

        The tuple is (stride, start, limit, step, divide): output coordinate o reads input coordinate (start + o · step) /
        divide, if that is whole and within [0, limit).
        """
        raise NotImplementedError


def emit_move(op: Move, context: Context) -> None:
    (x,), (y,) = context.inputs, context.outputs
    axes, fill = op.source(x)
    context.launch(
        "pointwise/move",
        {"N": y.size, "shape": y.shape, "axes": axes, "fill": float(fill)},
        {"x": context.input(0)},
        {"y": context.output(0)},
    )


@dataclass(frozen=True)
class Transpose(Move):
    """Axes in another order: output axis i is input axis perm[i]."""

    perm: tuple[int, ...]

    def infer(self, x):
        if sorted(self.perm) != list(range(x.rank)):
            raise ShapeError(
                "not a permutation of the axes", where="transpose", got=self.perm, expected=f"0 … {x.rank - 1} in any order"
            )
        return (TensorSpec(tuple(x.shape[axis] for axis in self.perm), x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        return (transpose(cotangents[0], tuple(int(i) for i in np.argsort(self.perm))),)

    def reference(self, x):
        return (x.transpose(self.perm),)

    @property
    def lowerings(self):
        return (Lowering("tiles", emit_transpose), *super().lowerings)

    def source(self, x):
        return tuple((x.strides[axis], 0, x.shape[axis], 1, 1) for axis in self.perm), 0.0

    @classmethod
    def samples(cls):
        shapes = (((1, 0), (3, 5)), ((0, 2, 3, 1), (2, 3, 5, 1)), ((1, 0), (19, 37)), ((0, 2, 1), (2, 9, 33)),
                  ((2, 0, 1), (8, 2, 17)))
        return [Sample(cls(perm), (TensorSpec(shape),)) for perm, shape in shapes]


def emit_transpose(op: Transpose, context: Context) -> None:
    (x,) = context.inputs
    transpose_tiles(context, [Digit(x.shape[axis], x.strides[axis]) for axis in op.perm])


@dataclass(frozen=True)
class Slice(Move):
    """Every ``steps``-th element from ``starts``, ``shape`` of them per axis."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, ...]

    def infer(self, x):
        for axis, (start, step, extent) in enumerate(zip(self.starts, self.steps, self.shape, strict=True)):
            last = start + step * (extent - 1)
            if extent < 1 or step < 1 or start < 0 or last >= x.shape[axis]:
                raise ShapeError(
                    "the slice does not lie inside the tensor",
                    where=f"slice, axis {axis}",
                    got=f"start {start}, step {step}, {extent} elements",
                    expected=f"within 0 … {x.shape[axis] - 1}",
                )
        return (TensorSpec(self.shape, x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        return apply(Embed(self.starts, self.steps, inputs[0].shape), cotangents[0])

    def reference(self, x):
        return (
            x[tuple(np.s_[a : a + s * (n - 1) + 1 : s] for a, s, n in zip(self.starts, self.steps, self.shape, strict=True))],
        )

    def source(self, x):
        return tuple((x.strides[i], self.starts[i], x.shape[i], self.steps[i], 1) for i in range(x.rank)), 0.0

    @classmethod
    def samples(cls):
        return [Sample(cls((1, 0), (2, 1), (3, 4)), (TensorSpec((7, 5)),)), Sample(cls((2,), (1,), (1,)), (TensorSpec((3,)),))]


@dataclass(frozen=True)
class Embed(Move):
    """The inverse of a slice: a tensor of ``value`` with the input at ``starts`` and every ``steps``-th element from there.

    Negative starts crop, so that it also computes padding of either sign.
    """

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, ...]
    value: float = 0.0

    def infer(self, x):
        if x.rank != len(self.shape) or any(extent < 1 for extent in self.shape):
            raise ShapeError(
                "nothing is left of the tensor, or its rank does not fit", where="pad", got=f"{x.shape} -> {self.shape}"
            )
        return (TensorSpec(self.shape, x.dtype),)

    def grad(self, inputs, outputs, cotangents):
        x = inputs[0]
        if all(
            a >= 0 and a + s * (n - 1) < out for a, s, n, out in zip(self.starts, self.steps, x.shape, self.shape, strict=True)
        ):
            return apply(Slice(self.starts, self.steps, x.shape), cotangents[0])
        return apply(Embed(tuple(-a for a in self.starts), (1,) * len(self.starts), x.shape), cotangents[0])

    def reference(self, x):
        y = np.full(self.shape, self.value, dtype=x.dtype)
        indices = [np.arange(n) * s + a for a, s, n in zip(self.starts, self.steps, x.shape, strict=True)]
        inside = [(i >= 0) & (i < n) for i, n in zip(indices, self.shape, strict=True)]
        y[np.ix_(*(i[k] for i, k in zip(indices, inside, strict=True)))] = x[np.ix_(*inside)]
        return (y,)

    def source(self, x):
        return tuple((x.strides[i], -self.starts[i], x.shape[i], 1, self.steps[i]) for i in range(x.rank)), self.value

    @classmethod
    def samples(cls):
        return [
            Sample(cls((1, 0), (2, 1), (7, 5)), (TensorSpec((3, 4)),)),
            Sample(cls((1, -1), (1, 1), (6, 3), 2.5), (TensorSpec((3, 4)),)),
            Sample(cls((0, 2, 0), (1, 3, 1), (2, 9, 1)), (TensorSpec((2, 3, 1)),)),
        ]


@dataclass(frozen=True)
class Concat(Op):
    """Inputs one after the other along ``axis``."""

    axis: int

    def infer(self, *inputs):
        first = inputs[0]
        for number, x in enumerate(inputs):
            if (
                x.rank != first.rank
                or x.dtype != first.dtype
                or any(a != b for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if i != self.axis)
            ):
                raise ShapeError(
                    "the tensors do not fit together",
                    where=f"concat, tensor {number}",
                    got=str(x),
                    expected=f"{first} in all axes but {self.axis}",
                )
        total = sum(x.shape[self.axis] for x in inputs)
        return (TensorSpec((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), first.dtype),)

    def grad(self, inputs, outputs, cotangents):
        gradients, start = [], 0
        rank = len(inputs[0].shape)
        for x in inputs:
            starts = tuple(start if i == self.axis else 0 for i in range(rank))
            gradients += apply(Slice(starts, (1,) * rank, x.shape), cotangents[0])
            start += x.shape[self.axis]
        return tuple(gradients)

    def reference(self, *arrays):
        return (np.concatenate(arrays, self.axis),)

    def flops(self, inputs, outputs):
        return 0

    @property
    def lowerings(self):
        return (Lowering("copies", emit_concat),)

    @classmethod
    def samples(cls):
        f = TensorSpec
        return [
            Sample(cls(1), (f((2, 3, 4)), f((2, 1, 4)), f((2, 5, 4)))),
            Sample(cls(0), (f((3,)), f((4,)))),
            Sample(cls(0), (f((3, 2)),)),
        ]


def emit_concat(op: Concat, context: Context) -> None:
    (y,) = context.outputs
    start = 0
    for number, x in enumerate(context.inputs):
        inner = math.prod(x.shape[op.axis :])
        context.launch(
            "pointwise/place",
            {"N": x.size, "inner": inner, "stride": math.prod(y.shape[op.axis :]), "base": start},
            {"x": context.input(number)},
            {"y": context.output(0)},
        )
        start += inner


def transpose(x: Tensor, perm: Sequence[int]) -> Value:
    """Axes reordered: result axis i is x's axis perm[i] (torch.permute)."""
    value = as_value(graph_of(x), x)
    perm = tuple(axis_index(axis, len(value.shape), "transpose") for axis in perm)
    return value if perm == tuple(range(len(perm))) else apply(Transpose(perm), value)[0]


def slice(x: Tensor, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None) -> Value:
    """x[start:stop:step] for each axis, with Python's meaning of negative and overlong bounds; steps are positive."""
    value = as_value(graph_of(x), x)
    rank = len(value.shape)
    steps = (1,) * rank if steps is None else tuple(steps)
    if not len(starts) == len(stops) == len(steps) == rank:
        raise ShapeError(
            "needs one start, stop and step per axis",
            where="slice",
            got=(tuple(starts), tuple(stops), steps),
            expected=f"{rank} of each",
        )
    if any(step < 1 for step in steps):
        raise ArgumentError("steps must be positive", where="slice", got=steps)
    ranges = [range(n)[a:b:s] for n, a, b, s in zip(value.shape, starts, stops, steps, strict=True)]
    if any(len(r) == 0 for r in ranges):
        raise ShapeError(
            "the slice is empty", where="slice", got=(tuple(starts), tuple(stops)), expected=f"a part of {value.shape}"
        )
    return apply(Slice(tuple(r.start for r in ranges), steps, tuple(len(r) for r in ranges)), value)[0]


def pad(x: Tensor, pad: Sequence[int], value: float = 0.0) -> Value:
    """Constant padding as torch.nn.functional.pad: (left, right, top, bottom, …) from the last axis; negative widths crop."""
    tensor = as_value(graph_of(x), x)
    rank = len(tensor.shape)
    if len(pad) % 2 or len(pad) > 2 * rank:
        raise ShapeError(
            "needs a pair of widths per padded axis", where="pad", got=tuple(pad), expected=f"at most {2 * rank} numbers"
        )
    before, after = [0] * rank, [0] * rank
    for number in range(len(pad) // 2):
        before[rank - 1 - number], after[rank - 1 - number] = int(pad[2 * number]), int(pad[2 * number + 1])
    shape = tuple(b + n + a for b, n, a in zip(before, tensor.shape, after, strict=True))
    return tensor if not any(pad) else apply(Embed(tuple(before), (1,) * rank, shape, float(value)), tensor)[0]


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Value:
    """Tensors one after the other along ``axis``."""
    if not tensors:
        raise ArgumentError("needs at least one tensor", where="concat")
    graph = graph_of(*tensors)
    values = [as_value(graph, tensor) for tensor in tensors]
    return apply(Concat(axis_index(axis, len(values[0].shape), "concat")), *values)[0]
