"""Graphs run in numpy, node by node with each operator's reference: modules and optimisers are tested without a device."""

import numpy as np

from clnn.ir import Graph, TensorSpec, Value, verify


class Interpreter:
    """Evaluates a graph; variables are read from their host arrays and updated there."""

    def __init__(self, graph: Graph):
        verify(graph)
        self.graph = graph

    def run(self, **inputs) -> list[np.ndarray]:
        known = {value: np.asarray(inputs[value.name], value.dtype) for value in self.graph.inputs}

        def read(value: Value) -> np.ndarray:
            if value not in known:
                known[value] = value.source.array if value.kind == "variable" else value.source
            return known[value]

        for node in self.graph.nodes:
            results = node.op.reference(*(read(value) for value in node.inputs))
            for value, result in zip(node.outputs, results, strict=True):
                known[value] = np.asarray(result).astype(value.dtype)
        outputs = [read(value) for value in self.graph.outputs]
        for variable, array in [(old.source, read(new)) for old, new in self.graph.updates.items()]:
            variable.array[...] = array
        return outputs


def trace(function, *shapes, dtypes=()) -> Graph:
    """The graph of a function of inputs x0, x1, …"""
    graph = Graph()
    kinds = [*dtypes, *["float32"] * len(shapes)]
    values = [graph.input(TensorSpec(shape, kind), f"x{i}") for i, (shape, kind) in enumerate(zip(shapes, kinds, strict=False))]
    result = function(*values)
    graph.outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    return graph


def call(function, *arrays) -> np.ndarray:
    """``function`` of arrays, computed with the references."""
    graph = trace(function, *(a.shape for a in arrays), dtypes=[str(a.dtype) for a in arrays])
    return Interpreter(graph).run(**{f"x{i}": a for i, a in enumerate(arrays)})[0]
