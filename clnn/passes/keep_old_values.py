"""Copies old values of updated variables where they are wanted when the run has ended."""

from __future__ import annotations

from ..codegen.expr import arg
from ..ir import Graph, Value
from ..ops.pointwise import Map
from ..target import Target


def keep_old_values(graph: Graph, target: Target) -> Graph:
    """An output or an update that is the old value of a variable with an update becomes a copy of it, made before the update."""
    graph = graph.clone()
    copies: dict[Value, Value] = {}

    def kept(value: Value) -> Value:
        if _root(value) not in graph.updates:
            return value
        if value not in copies:
            copies[value] = graph.append(Map((arg(0),), (value.dtype,)), [value], [value.spec], value.path).outputs[0]
        return copies[value]

    graph.outputs = [kept(value) for value in graph.outputs]
    graph.updates = {old: kept(new) for old, new in graph.updates.items()}
    return graph


def _root(value: Value) -> Value:
    """The value that a view looks at."""
    while value.node is not None and (source := value.node.op.view_of()) is not None:
        value = value.node.inputs[source]
    return value
