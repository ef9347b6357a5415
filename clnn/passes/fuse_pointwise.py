"""Chains of pointwise operators become one generated kernel."""

from __future__ import annotations

from ..codegen.expr import Expr, arg, substitute, topological, uses
from ..ir import Graph, Node, Value
from ..ops.pointwise import Map, broadcast_shape, compact
from ..ops.shape import Expand, Reshape
from ..target import Target

#: functions that are worth computing once rather than for each element of a larger tensor
COSTLY = {"exp", "log", "log1p", "pow", "sqrt", "rsqrt", "tanh", "erf", "sigmoid", "elu", "uniform", "div"}


def fuse_pointwise(graph: Graph, target: Target) -> Graph:
    """Substitute pointwise producers into their only reader, and read through broadcasts."""
    graph = graph.clone()
    changed = True
    while changed:
        changed = False
        users, kept = graph.users(), graph.kept()
        for node in graph.nodes:
            if isinstance(node.op, Map) and any(_absorb(graph, node, value, users, kept) for value in node.inputs):
                changed = True
                break
    return graph


def _absorb(graph: Graph, node: Node, value: Value, users: dict[Value, list[Node]], kept: set[Value]) -> bool:
    """Merge the producer of ``value`` into ``node`` if that is right."""
    producer = value.node
    if producer is None:
        return False
    if isinstance(producer.op, Expand):
        return _read_through(graph, node, value, producer.inputs[0])
    if isinstance(producer.op, Reshape) and producer.inputs[0].spec.size == 1 and value.spec.size == 1:
        return _read_through(graph, node, value, producer.inputs[0])
    if not isinstance(producer.op, Map) or any(
        v in kept or users.get(v, []) != [node] for v in producer.outputs if users.get(v) or v in kept
    ):
        return False
    if value.shape != node.outputs[0].shape and any(e.function in COSTLY for e in topological(producer.op.exprs)):
        return False
    if uses(producer.op.exprs, "uniform") and value.shape != node.outputs[0].shape:
        return False
    values = [*node.inputs, *producer.inputs]
    shifted = substitute(producer.op.exprs, {arg(i): arg(len(node.inputs) + i) for i in range(len(producer.inputs))})
    replacements: dict[Expr, Expr] = {arg(i): shifted[v.index] for i, v in enumerate(node.inputs) if v.node is producer}
    return _rewrite(graph, node, substitute(node.op.exprs, replacements), values, {producer})


def _read_through(graph: Graph, node: Node, value: Value, source: Value) -> bool:
    inputs = [source if v is value else v for v in node.inputs]
    if broadcast_shape([v.spec for v in inputs], "") != node.outputs[0].shape:
        return False
    return _rewrite(graph, node, node.op.exprs, inputs, set())


def _rewrite(graph: Graph, node: Node, exprs: tuple[Expr, ...], values: list[Value], gone: set[Node]) -> bool:
    exprs, inputs = compact(exprs, values)
    if not inputs or broadcast_shape([v.spec for v in inputs], "") != node.outputs[0].shape:
        return False
    if any(v.dtype != "float32" for v in inputs) and any(
        v.dtype != "float32" and not uses(exprs, "uniform") and v.spec.size > 1 for v in inputs
    ):
        return False
    node.op = Map(exprs, node.op.dtypes)
    node.inputs = tuple(inputs)
    graph.remove(gone)
    return True
