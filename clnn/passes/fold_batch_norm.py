"""Moves what scales and shifts the channels of a convolution or a linear layer into its weights: the batch norm of inference
disappears."""

from __future__ import annotations

from ..codegen.expr import Expr, arg, arguments, const, differentiate, substitute
from ..ir import Graph, Node, Value
from ..ops.conv import Conv2d
from ..ops.matmul import Matmul
from ..ops.pointwise import Map, pointwise
from ..ops.shape import reshape
from ..target import Target


def fold_batch_norm(graph: Graph, target: Target) -> Graph:
    """conv(x, w) · scale + shift, with constants per channel, becomes conv(x, w · scale) + shift.

    Needs frozen weights (:func:`clnn.passes.freeze_variables`); constant folding then computes the new weights once. Source:
    Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018, section
    3.2.
    """
    graph = graph.clone()
    for node in list(graph.nodes):
        weights = _weights(node)
        if weights is None:
            continue
        users, kept = graph.users(), graph.kept()
        chain, last, expr, operands = [], node.outputs[0], arg(0), [node.outputs[0]]
        while (follower := _affine_reader(last, users, kept, weights)) is not None:
            expr, operands = _compose(expr, operands, follower, last)
            chain.append(follower)
            last = follower.outputs[0]
        scale = differentiate(expr, const(1.0)).get(0)
        if not chain or scale is None or scale is const(1.0):
            continue
        _rewrite(graph, node, weights, chain, expr, scale, operands)
    graph.sort()
    return graph


def _weights(node: Node) -> Value | None:
    """The constant weights of a layer whose output channels they scale."""
    if (
        isinstance(node.op, Conv2d)
        or (isinstance(node.op, Matmul)
        and not node.op.transpose_a
        and node.op.transpose_b
        and not node.op.row_sum)
    ):
        weights = node.inputs[1]
        return weights if weights.kind == "constant" and len(weights.shape) in (2, 4) else None
    return None


def _is_constant(value: Value) -> bool:
    """Whether constant folding will compute the value."""
    if value.node is None:
        return value.kind == "constant"
    return all(_is_constant(v) for v in value.node.inputs)


def _affine_reader(value: Value, users: dict[Value, list[Node]], kept: set[Value], weights: Value) -> Node | None:
    """The only reader of ``value``, if it scales and shifts its channels by constants."""
    readers = users.get(value, [])
    if value in kept or len(readers) != 1 or not isinstance(readers[0].op, Map) or len(readers[0].op.exprs) != 1:
        return None
    node = readers[0]
    channels, axis = weights.shape[0], 1
    rank = len(value.shape)
    for v in node.inputs:
        shape = (1,) * (rank - len(v.shape)) + v.shape
        if v is not value and (
            not _is_constant(v) or any(extent not in (1, channels if i == axis else 1) for i, extent in enumerate(shape))
        ):
            return None
    if node.outputs[0].shape != value.shape or list(node.inputs).count(value) != 1:
        return None
    number = node.inputs.index(value)
    partial = differentiate(node.op.exprs[0], const(1.0)).get(number)
    if partial is None or number in arguments([partial]):
        return None
    return node if _is_linear(node.op.exprs[0], number) else None


def _is_linear(expr: Expr, number: int) -> bool:
    """Whether the argument is only added, subtracted and multiplied on the way to the result."""
    if number not in arguments([expr]):
        return True
    if expr.function == "arg":
        return True
    if expr.function == "div":
        return number not in arguments([expr.args[1]]) and _is_linear(expr.args[0], number)
    return expr.function in ("add", "sub", "mul") and all(_is_linear(a, number) for a in expr.args)


def _compose(expr: Expr, operands: list[Value], node: Node, value: Value) -> tuple[Expr, list[Value]]:
    """``node``'s expression over (layer output, all constants so far)."""
    operands = list(operands)
    replacements = {}
    for i, v in enumerate(node.inputs):
        if v is value:
            replacements[arg(i)] = expr
            continue
        if v not in operands:
            operands.append(v)
        replacements[arg(i)] = arg(operands.index(v))
    return substitute(node.op.exprs, replacements)[0], operands


def _rewrite(graph: Graph, node: Node, weights: Value, chain: list[Node], expr: Expr, scale: Expr, operands: list[Value]) -> None:
    channels, rank = weights.shape[0], len(weights.shape)
    (shift,) = substitute([expr], {arg(0): const(0.0)})
    per_channel = (1, channels, 1, 1) if rank == 4 else (1, channels)
    with graph.scope(node.path):
        factor, offset = (reshape(pointwise(graph, [e], operands, per_channel)[0], (channels,)) for e in (scale, shift))
        scaled = pointwise(graph, [arg(0) * arg(1)], [weights, reshape(factor, (channels,) + (1,) * (rank - 1))])[0]
        twin = graph.append(node.op, [node.inputs[0], scaled], [node.outputs[0].spec])
        shifted = pointwise(graph, [arg(0) + arg(1)], [twin.outputs[0], reshape(offset, per_channel)])[0]
    graph.replace({chain[-1].outputs[0]: shifted})
    graph.remove({node, *chain})
