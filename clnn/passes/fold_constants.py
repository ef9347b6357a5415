"""Computes at compile time what depends on constants only."""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Value
from ..target import Target

LARGEST = 1 << 24       # elements; a larger constant would rather be computed on the device than kept


def fold_constants(graph: Graph, target: Target) -> Graph:
    """Replace nodes whose inputs are all constants by constants."""
    graph = graph.clone()
    folded: dict[Value, Value] = {}
    for node in list(graph.nodes):
        inputs = [folded.get(value, value) for value in node.inputs]
        if not all(value.kind == "constant" for value in inputs) or any(value.spec.size > LARGEST for value in node.outputs):
            continue
        results = node.op.reference(*(value.source for value in inputs))
        for value, array in zip(node.outputs, results, strict=True):
            folded[value] = graph.constant(np.asarray(array).reshape(value.shape), value.dtype)
        graph.remove({node})
    graph.replace(folded)
    return graph
