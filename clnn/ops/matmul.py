"""Matrix products and the linear layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..codegen.views import matrix
from ..errors import ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .elementwise import add
from .gemm import Gemm, launch_gemm, refuse_packed, refuse_tiled, refuse_vector
from .shape import expand, reshape
from .tracing import Tensor, apply, as_value, graph_of


@dataclass(frozen=True)
class Matmul(Op):
    """C = A' B' for matrices or stacks of them, (batch, M, K) · (batch, K, N); a prime transposes the last two axes if the flag
    says so.

    With ``row_sum`` there is a second output, the sums of the rows of A': the bias gradient of a linear layer beside its weight
    gradient.
    """

    transpose_a: bool = False
    transpose_b: bool = False
    row_sum: bool = False
    tail_outputs = (0, 1)

    def _sizes(self, a: TensorSpec, b: TensorSpec) -> tuple[tuple[int, ...], int, int, int]:
        m, k = a.shape[-2:][::-1] if self.transpose_a else a.shape[-2:]
        k_b, n = b.shape[-2:][::-1] if self.transpose_b else b.shape[-2:]
        if k != k_b or a.shape[:-2] != b.shape[:-2]:
            raise ShapeError(
                "the matrices do not fit together",
                where="matmul",
                got=f"{a.shape} · {b.shape}",
                expected=f"{k} rows in the second matrix (it has {k_b}), equal leading axes",
            )
        return a.shape[:-2], m, n, k

    def infer(self, a, b):
        if a.rank != b.rank or a.rank not in (2, 3):
            raise ShapeError(
                "needs two matrices or two stacks of them",
                where="matmul",
                got=f"{a.shape} · {b.shape}",
                expected="both of rank 2, or both of rank 3",
            )
        lead, m, n, _ = self._sizes(a, b)
        result = TensorSpec((*lead, m, n), a.dtype)
        return (result, TensorSpec((*lead, m), a.dtype)) if self.row_sum else (result,)

    def grad(self, inputs, outputs, cotangents):
        (a, b), g = inputs, cotangents[0]
        ta, tb = self.transpose_a, self.transpose_b
        da = db = None
        if g is not None:
            da = apply(Matmul(tb, True), b, g)[0] if ta else apply(Matmul(False, not tb), g, b)[0]
            db = apply(Matmul(True, ta), g, a)[0] if tb else apply(Matmul(not ta, False), a, g)[0]
        if self.row_sum and cotangents[1] is not None:
            s = cotangents[1]
            spread = expand(reshape(s, (*s.shape[:-1], 1, s.shape[-1]) if ta else (*s.shape, 1)), a.shape)
            da = spread if da is None else add(da, spread)
        return da, db

    def reference(self, a, b):
        a = np.swapaxes(a, -1, -2) if self.transpose_a else a
        b = np.swapaxes(b, -1, -2) if self.transpose_b else b
        product = a.astype(np.float64) @ b.astype(np.float64)
        return (product, a.astype(np.float64).sum(-1)) if self.row_sum else (product,)

    def flops(self, inputs, outputs):
        lead, m, n, k = self._sizes(*inputs)
        return 2 * math.prod(lead) * m * n * k

    def gemm(self, a: TensorSpec, b: TensorSpec) -> Gemm:
        lead, m, n, k = self._sizes(a, b)
        view_a = matrix(m, k, 1, m, m * k) if self.transpose_a else matrix(m, k, k, 1, m * k)
        view_b = matrix(k, n, 1, k, k * n) if self.transpose_b else matrix(k, n, n, 1, k * n)
        return Gemm(view_a, view_b, matrix(m, n, n, 1, m * n), math.prod(lead))

    @property
    def lowerings(self):
        return (
            Lowering("packed", lambda op, c: emit_matmul(op, c, "packed"), refuse_packed),
            Lowering("vector", lambda op, c: emit_matmul(op, c, "vector"), refuse_vector),
            Lowering("tiled", lambda op, c: emit_matmul(op, c, "tiled"), refuse_tiled),
            Lowering("simple", lambda op, c: emit_matmul(op, c, "simple")),
        )

    @classmethod
    def samples(cls):
        f = TensorSpec
        cases = []
        for ta, tb, sums in ((False, False, False), (False, True, False), (True, False, True), (True, True, False)):
            for m, n, k in ((5, 7, 3), (33, 65, 41), (1, 130, 17), (70, 1, 9), (13, 20, 1)):
                cases.append(Sample(cls(ta, tb, sums), (f((k, m) if ta else (m, k)), f((n, k) if tb else (k, n)))))
            # few rows or columns, whose matrix is read by vectors, and a result that leaves as vectors
            for m, n, k in ((1, 72, 260), (3, 8, 68), (76, 2, 132), (36, 72, 40)):
                cases.append(Sample(cls(ta, tb, sums and m == 36), (f((k, m) if ta else (m, k)), f((n, k) if tb else (k, n)))))
        cases.append(Sample(cls(False, True), (f((3, 5, 6)), f((3, 7, 6)))))
        cases.append(Sample(cls(True, False, True), (f((2, 4, 5)), f((2, 4, 3)))))
        cases.append(Sample(cls(True, False, True), (f((3000, 6)), f((3000, 10)))))
        return cases


def emit_matmul(op: Matmul, context: Context, kind: str) -> None:
    launch_gemm(
        context,
        kind,
        op.gemm(*context.inputs),
        context.input(0),
        context.input(1),
        context.output(0),
        context.output(1) if op.row_sum else None,
    )


def matmul(a: Tensor, b: Tensor) -> Value:
    """Matrix product with torch.matmul's rules: vectors are taken as a row or a column, leading axes are broadcast."""
    graph = graph_of(a, b)
    a, b = as_value(graph, a), as_value(graph, b)
    if not a.shape or not b.shape:
        raise ShapeError("needs at least one axis on both sides", where="matmul", got=f"{a.shape} · {b.shape}")
    drop_row, drop_col = len(a.shape) == 1, len(b.shape) == 1
    a = reshape(a, (1, *a.shape)) if drop_row else a
    b = reshape(b, (*b.shape, 1)) if drop_col else b
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            "the matrices do not fit together",
            where="matmul",
            got=f"{a.shape} · {b.shape}",
            expected=f"{a.shape[-1]} rows in the second matrix",
        )
    if len(b.shape) == 2:
        result = apply(Matmul(), reshape(a, (-1, a.shape[-1])), b)[0]
        result = reshape(result, (*a.shape[:-1], b.shape[-1]))
    else:
        try:
            lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError as error:
            raise ShapeError(
                "the leading axes cannot be broadcast together", where="matmul", got=f"{a.shape} · {b.shape}"
            ) from error
        stacked = [reshape(expand(v, (*lead, *v.shape[-2:])), (-1, *v.shape[-2:])) for v in (a, b)]
        result = reshape(apply(Matmul(), *stacked)[0], (*lead, a.shape[-2], b.shape[-1]))
    shape = result.shape
    if drop_row:
        shape = (*shape[:-2], shape[-1])
    if drop_col:
        shape = shape[:-1]
    return reshape(result, shape)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value:
    """x Wᵀ + b for x (…, in), W (out, in), b (out,)."""
    graph = graph_of(x, weight)
    x, weight = as_value(graph, x), as_value(graph, weight)
    if len(weight.shape) != 2 or not x.shape or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            "the input does not fit the weights",
            where=graph.path or "linear",
            got=f"input {x.shape}, weights {weight.shape}",
            expected=f"input (…, {weight.shape[-1]})",
            hint="flatten images before a linear layer" if len(x.shape) == 4 else None,
        )
    rows = reshape(x, (-1, x.shape[-1]))
    y = apply(Matmul(False, True), rows, weight)[0]
    if bias is not None:
        y = add(y, bias)
    return reshape(y, (*x.shape[:-1], weight.shape[0]))
