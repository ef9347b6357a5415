"""Turns variables into constants, for inference with weights that no longer change."""

from __future__ import annotations

from ..ir import Graph
from ..target import Target


def freeze_variables(graph: Graph, target: Target) -> Graph:
    """Variables that the graph does not update become constants with their present value."""
    graph = graph.clone()
    graph.replace(
        {value: graph.constant(value.source.array, value.dtype) for value in graph.variables if value not in graph.updates}
    )
    return graph
