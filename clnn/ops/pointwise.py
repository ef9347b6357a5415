"""The pointwise operator: any expression over broadcast operands, and everything that fusing such operators needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..codegen.expr import (
    Expr,
    add,
    arg,
    arguments,
    call,
    const,
    differentiate,
    div,
    evaluate,
    mul,
    select,
    sub,
    substitute,
    topological,
    uses,
)
from ..codegen.kernel import specify
from ..codegen.lowering import Context, Launch, Lowering, Operand
from ..codegen.philox import WORDS
from ..codegen.store import Store
from ..errors import DTypeError, ShapeError
from ..ir import NHWC, ROW, Graph, Op, Sample, TensorSpec, Value, blocked
from ..ir.op import distinct, integers, positive
from .shape import expand, reshape

LAYOUTS = (ROW, NHWC, blocked(8), blocked(16))


def broadcast_shape(specs: Sequence[TensorSpec], where: str) -> tuple[int, ...]:
    """The common shape of broadcast operands."""
    try:
        return np.broadcast_shapes(*(spec.shape for spec in specs))
    except ValueError as error:
        raise ShapeError(
            "the shapes cannot be broadcast together",
            where=where,
            got=[spec.shape for spec in specs],
            expected="axes that are equal or 1, aligned from the right",
        ) from error


def full_layout(inputs: Sequence[TensorSpec], shape: tuple[int, ...]):
    """The layout that the operands of full shape have in common."""
    return next((spec.layout for spec in inputs if spec.shape == shape), ROW)


@dataclass(frozen=True)
class Map(Op):
    """One output per expression; expression argument i is the element of input i, broadcast."""

    exprs: tuple[Expr, ...]
    dtypes: tuple[str, ...] = ()

    def output_dtypes(self) -> tuple[str, ...]:
        return self.dtypes or ("float32",) * len(self.exprs)

    def infer(self, *inputs):
        shape = broadcast_shape(inputs, self.name)
        layout = full_layout(inputs, shape)
        return tuple(TensorSpec(shape, dtype, layout if len(shape) == 4 else ROW) for dtype in self.output_dtypes())

    def grad(self, inputs, outputs, cotangents):
        graph = outputs[0].graph
        n, known = len(inputs), len(inputs) + len(outputs)
        totals: dict[int, Expr] = {}
        for k, (expr, cotangent) in enumerate(zip(self.exprs, cotangents, strict=True)):
            if cotangent is None:
                continue
            for i, partial in differentiate(expr, arg(known + k)).items():
                (partial,) = substitute([partial], {expr: arg(n + k)} if expr.args else {})
                totals[i] = add(totals[i], partial) if i in totals else partial
        result: list[Value | None] = [None] * n
        for i, expr in totals.items():
            if i >= n or not inputs[i].dtype.startswith("float"):
                continue
            values = [*inputs, *outputs, *(c if c is not None else outputs[0] for c in cotangents)]
            (gradient,) = pointwise(graph, [expr], values, outputs[0].shape)
            result[i] = sum_to(gradient, inputs[i].shape)
        return tuple(result)

    def reference(self, *arrays):
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        return tuple(
            value.astype(dtype) if not dtype.startswith("float") else value
            for value, dtype in zip(evaluate(self.exprs, arrays, shape), self.output_dtypes(), strict=True)
        )

    def flops(self, inputs, outputs):
        return outputs[0].size * sum(bool(e.args) for e in topological(self.exprs))

    @property
    def lowerings(self):
        return (Lowering("map", emit_map, layouts=map_layouts),)

    @classmethod
    def samples(cls):
        a, b, c = arg(0), arg(1), arg(2)
        f = TensorSpec
        return [
            Sample(cls((add(a, b),)), (f((2, 3, 5, 7)), f((2, 3, 5, 7)))),
            Sample(cls((mul(a, b),)), (f((2, 3, 5, 7)), f((3, 1, 1)))),
            Sample(cls((sub(mul(a, b), c),)), (f((4, 1, 6)), f((5, 1)), f(()))),
            Sample(cls((add(a, b), mul(a, b))), (f((1, 17)), f((3, 1)))),
            Sample(cls((div(a, b),)), (f((3, 5)), f((3, 5))), {1: positive}),
            Sample(cls((call("max", a, b), call("min", a, b))), (f((33,)), f((33,))), {0: distinct}),
            Sample(cls((call("pow", a, b),)), (f((3, 7)), f((3, 7))), {0: positive}),
            Sample(
                cls((select(call("less", a, b), call("exp", a), call("sqrt", c)),)), (f((19,)), f((19,)), f((19,))), {2: positive}
            ),
            *(
                Sample(cls((call(name, a),)), (f((2, 4, 3, 5)),), {0: distinct})
                for name in ("exp", "tanh", "sigmoid", "relu", "relu6", "abs", "sign", "erf")
            ),
            *(Sample(cls((call(name, a),)), (f((41,)),), {0: positive}) for name in ("log", "log1p", "sqrt", "rsqrt")),
            Sample(
                cls((call("leaky_relu", a, const(0.1)), call("elu", a, const(1.5)), call("clip", a, const(-0.5), const(1.0)))),
                (f((3, 11)),),
                {0: distinct},
            ),
            Sample(
                cls((add(call("uniform", a, b, const(7)), c),)),
                (f((), "int32"), f((1,), "int32"), f((2, 3, 4, 5))),
                {0: integers(0, 2**31), 1: integers(0, 1000)},
                differentiable=False,
            ),
        ]


def map_layouts(op: Map, inputs, outputs):
    """Full operands and results share one layout; operands that are broadcast lie row-major."""
    shape = outputs[0].shape
    offered = []
    for layout in LAYOUTS if len(shape) == 4 else (ROW,):
        if layout.fits(shape):
            offered.append(
                (tuple(layout if spec.shape == shape and spec.rank == 4 else ROW for spec in inputs), (layout,) * len(outputs))
            )
    return offered


def emit_map(op: Map, context: Context) -> None:
    shift = {arg(i): arg(i + 1) for i in range(len(context.inputs))}
    store = Store(context.outputs[0], substitute(op.exprs, shift), context.inputs, context.outputs)
    row_major = context.outputs[0].rank < 4 or context.outputs[0].layout == ROW
    problem = {"N": context.outputs[0].size, "drawn": WORDS if uses(op.exprs, "uniform") and row_major else 1}
    kernel = specify("pointwise/map", context.target, problem, {}, {"y": store}, context.tunables("pointwise/map"))
    operands = (
        *(Operand("in", i) for i in range(len(context.inputs))),
        *(Operand("out", i) for i in range(len(context.outputs))),
    )
    context.add(Launch(kernel, (), (operands,)))


def compact(exprs: Sequence[Expr], values: Sequence[Value]) -> tuple[tuple[Expr, ...], list[Value]]:
    """The same expressions over the operands that occur, each once; constants with one element move into the expression."""
    replacements: dict[Expr, Expr] = {}
    kept: list[Value] = []
    for number in sorted(arguments(exprs)):
        value = values[number]
        if value.kind == "constant" and value.spec.size == 1 and value.dtype == "float32":
            replacements[arg(number)] = const(value.source.item())
            continue
        if value not in kept:
            kept.append(value)
        replacements[arg(number)] = arg(kept.index(value))
    return substitute(exprs, replacements), kept


def pointwise(
    graph: Graph, exprs: Sequence[Expr], values: Sequence[Value], shape: tuple[int, ...] | None = None
) -> tuple[Value, ...]:
    """Append a Map of ``exprs`` over ``values``; what needs no computing is not computed.

    ``shape`` is the shape of the result where operands that drop out would have decided it.
    """
    exprs, kept = compact(exprs, values)
    if len(exprs) == 1 and exprs[0] is arg(0):
        results = (kept[0],)
    else:
        results = graph.add(Map(tuple(exprs)), kept or [graph.constant(0.0)])
    return results if shape is None else tuple(expand(value, shape) for value in results)


def sum_to(value: Value, shape: tuple[int, ...]) -> Value:
    """Sum over the axes along which ``shape`` was broadcast."""
    from .reduce import sum

    if value.shape == tuple(shape):
        return value
    lead = len(value.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, extent in enumerate(shape) if extent == 1 and value.shape[i + lead] != 1)
    if axes:
        value = sum(value, axes, keepdims=True)
    return reshape(value, shape)


def require_float(value: Value, where: str) -> Value:
    if not value.dtype.startswith("float"):
        raise DTypeError("needs a floating-point tensor", where=where, got=value.dtype, expected="float32")
    return value
