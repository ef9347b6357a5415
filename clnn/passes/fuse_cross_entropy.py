"""Computes the loss, its gradient and the hits of a batch in one kernel, which reads the logits once."""

from __future__ import annotations

from collections.abc import Iterable

from ..ir import Graph, Node, Value
from ..ops.cross_entropy import PARTS, CrossEntropy, CrossEntropyGrad, Hits, SoftmaxCrossEntropy
from ..target import Target


def fuse_cross_entropy(graph: Graph, target: Target) -> Graph:
    """Merge CrossEntropy, CrossEntropyGrad and Hits of the same logits and labels.

    It runs after differentiation and before pointwise fusion, so that tails fuse into the merged node. A gradient whose cotangent
    needs the loss or the hits themselves stays apart.
    """
    graph = graph.clone()
    while groups := _groups(graph):
        merge(graph, groups[0])
    graph.sort()
    return graph


def _groups(graph: Graph) -> list[list[Node]]:
    """Nodes that can become one, at least two each; hits join the first loss of the same logits and labels."""
    groups: dict[tuple, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, (CrossEntropy, CrossEntropyGrad)):
            key = (*node.inputs[:2], node.op.soft, node.op.smoothing, node.op.ignore_index)
            found = groups.setdefault(key, [])
            if all(type(other.op) is not type(node.op) for other in found):
                found.append(node)
    for node in graph.nodes:
        if isinstance(node.op, Hits):
            found = next((group for key, group in groups.items() if key[:2] == node.inputs), None)
            if found is not None and not any(isinstance(other.op, Hits) for other in found):
                found.append(node)
    result = []
    for members in groups.values():
        results = {node.outputs[0] for node in members}
        independent = [node for node in members if not depends(node.inputs, results)]
        if len(independent) > 1:
            result.append(sorted(independent, key=lambda node: PARTS.index(node.op.parts[0])))
    return result


def depends(values: Iterable[Value], on: set[Value]) -> bool:
    """Whether some of ``values`` is computed from a value in ``on``."""
    stack, seen = list(values), set()
    while stack:
        value = stack.pop()
        if value in on:
            return True
        if value.node is not None and value.node not in seen:
            seen.add(value.node)
            stack.extend(value.node.inputs)
    return False


def merge(graph: Graph, members: list[Node]) -> None:
    """Put one SoftmaxCrossEntropy in the place of ``members``, which are in the order of its parts."""
    model = next(node for node in members if not isinstance(node.op, Hits)).op
    op = SoftmaxCrossEntropy(model.soft, model.smoothing, model.ignore_index, tuple(node.op.parts[0] for node in members))
    longest = max(members, key=lambda node: len(node.inputs))
    merged = graph.append(op, longest.inputs, [node.outputs[0].spec for node in members], members[0].path)
    graph.replace({node.outputs[0]: value for node, value in zip(members, merged.outputs, strict=True)})
    graph.remove(set(members))
