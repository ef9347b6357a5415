"""Reverse-mode differentiation: one walk over the graph, from the outputs back."""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Graph, Value
from .ops import add


def differentiate(
    graph: Graph, outputs: Sequence[Value], cotangents: Sequence[Value], wanted: Sequence[Value]
) -> list[Value | None]:
    """Append the gradient nodes and return the cotangent of each wanted value; None where no path leads to an output.

    Gradients that meet in one value are added in the order of its uses, so the result is deterministic.
    """
    needed = _needed(graph, set(wanted))
    total: dict[Value, Value] = {}

    def accumulate(value: Value, cotangent: Value) -> None:
        total[value] = add(total[value], cotangent) if value in total else cotangent

    for output, cotangent in zip(outputs, cotangents, strict=True):
        accumulate(output, cotangent)
    for node in reversed(list(graph.nodes)):
        if not any(value in total for value in node.outputs) or not any(value in needed for value in node.inputs):
            continue
        with graph.scope(node.path):
            gradients = node.op.grad(node.inputs, node.outputs, tuple(total.get(value) for value in node.outputs))
            for value, gradient in zip(node.inputs, gradients, strict=True):
                if gradient is not None and value in needed:
                    accumulate(value, gradient)
    return [total.get(value) for value in wanted]


def _needed(graph: Graph, wanted: set[Value]) -> set[Value]:
    """The values on a path from a wanted value."""
    needed = set(wanted)
    for node in graph.nodes:
        if any(value in needed for value in node.inputs):
            needed.update(node.outputs)
    return needed
