"""Removes nodes that nothing needs, and outputs of nodes that can do without them."""

from __future__ import annotations

from ..ir import Graph
from ..target import Target


def eliminate_dead_code(graph: Graph, target: Target) -> Graph:
    """Keep what the outputs and the updates depend on."""
    graph = graph.clone()
    needed = graph.kept()
    for node in reversed(list(graph.nodes)):
        if any(value in needed for value in node.outputs):
            needed.update(node.inputs)
    graph.remove({node for node in graph.nodes if not any(value in needed for value in node.outputs)})
    for position, node in enumerate(list(graph.nodes)):
        dead = {value.index for value in node.outputs if value not in needed}
        smaller = node.op.without_outputs(dead) if dead else None
        if smaller is None:
            continue
        twin = graph.append(smaller, node.inputs, [value.spec for value in node.outputs if value.index not in dead], node.path)
        graph.nodes.insert(position, graph.nodes.pop())
        graph.replace(dict(zip([value for value in node.outputs if value.index not in dead], twin.outputs, strict=True)))
        graph.remove({node})
    return graph
