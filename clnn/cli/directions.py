"""Which launches of a program belong to the forward and which to the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ir import Graph, Node

FORWARD, BACKWARD = "forward", "backward"


def forward_nodes(graph: Graph, buffers: frozenset[int]) -> set[Node]:
    """The nodes that the outputs depend on, and those that update buffers such as running statistics."""
    wanted = [*graph.outputs, *(new for old, new in graph.updates.items() if id(old.source) in buffers)]
    found: set[Node] = set()
    for value in wanted:
        found |= graph.producers(value)
    return found


def direction(node: Node, forward: set[Node], inference: bool) -> str:
    """``forward`` or ``backward``; updates of parameters count as backward. Inference knows only forward."""
    return FORWARD if inference or node in forward else BACKWARD
