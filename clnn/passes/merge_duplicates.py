"""Computes equal things once."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..target import Target


def merge_duplicates(graph: Graph, target: Target) -> Graph:
    """Nodes with equal operators and equal inputs become one; so do equal scalar constants."""
    graph = graph.clone()
    known: dict[tuple, Node] = {}
    scalars: dict[tuple, Value] = {}
    same: dict[Value, Value] = {}
    gone: set[Node] = set()

    def canonical(value: Value) -> Value:
        value = same.get(value, value)
        if value.kind == "constant" and value.spec.size == 1:
            return scalars.setdefault((value.spec, value.source.tobytes()), value)
        return value

    for node in graph.nodes:
        node.inputs = tuple(canonical(value) for value in node.inputs)
        first = known.setdefault((node.op, node.inputs), node)
        if first is not node:
            same.update(zip(node.outputs, first.outputs, strict=True))
            gone.add(node)
    graph.remove(gone)
    graph.replace(same)
    return graph
