"""Reshapes of reshapes become one, and those that change nothing disappear."""

from __future__ import annotations

from ..ir import Graph, Value
from ..ops.shape import Reshape
from ..target import Target


def simplify_views(graph: Graph, target: Target) -> Graph:
    """Let every reader of a reshape look at the tensor itself."""
    graph = graph.clone()
    same: dict[Value, Value] = {}
    for node in graph.nodes:
        node.inputs = tuple(same.get(value, value) for value in node.inputs)
        if not isinstance(node.op, Reshape):
            continue
        source = node.inputs[0]
        while source.node is not None and isinstance(source.node.op, Reshape):
            source = source.node.inputs[0]
        node.inputs = (source,)
        if source.shape == node.outputs[0].shape:
            same[node.outputs[0]] = source
    graph.replace(same)
    return graph
