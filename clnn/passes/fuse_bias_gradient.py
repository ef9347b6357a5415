"""The bias gradient is a sum of the very numbers that the weight gradient reads: one kernel makes both."""

from __future__ import annotations

from dataclasses import replace

from ..ir import Graph, Node, Value
from ..ops.conv import Conv2dWgrad
from ..ops.matmul import Matmul
from ..ops.reduce import Reduce
from ..ops.shape import Reshape
from ..target import Target


def fuse_bias_gradient(graph: Graph, target: Target) -> Graph:
    """Reduce(sum over all axes but the channels) of dy beside a weight gradient of the same dy becomes its second output."""
    graph = graph.clone()
    sums = {node.inputs[0]: node for node in graph.nodes if isinstance(node.op, Reduce) and node.op.kind == "sum"
            and node.op.axes == ((0,) if len(node.inputs[0].shape) == 2 else (0, 2, 3))}
    for node in list(graph.nodes):
        gradient = _gradient_read(node)
        total = sums.get(gradient) if gradient is not None else None
        if total is None:
            continue
        del sums[gradient]
        weights, bias = node.outputs[0].spec, node.outputs[0].spec.with_shape((total.outputs[0].spec.size,))
        twin = graph.append(replace(node.op, row_sum=True), node.inputs, [weights, bias], node.path)
        shaped = graph.append(Reshape(total.outputs[0].shape), [twin.outputs[1]], [total.outputs[0].spec], total.path)
        graph.replace({node.outputs[0]: twin.outputs[0], total.outputs[0]: shaped.outputs[0]})
        for made in (shaped, twin):
            graph.nodes.remove(made)
            graph.nodes.insert(min(graph.nodes.index(node), graph.nodes.index(total)), made)
        graph.remove({node, total})
    graph.sort()
    return graph


def _gradient_read(node: Node) -> Value | None:
    """The output gradient that a weight gradient without bias reads."""
    op = node.op
    if isinstance(op, Matmul) and op.transpose_a and not op.row_sum and len(node.inputs[0].shape) == 2:
        return node.inputs[0]
    if isinstance(op, Conv2dWgrad) and not op.row_sum:
        return node.inputs[1]
    return None
