"""Losses of the user's hand, named and called as in torch.nn.functional."""

from __future__ import annotations

import numpy as np

from ..codegen.expr import Expr, arg, call, select
from ..errors import ArgumentError, ShapeError
from ..ir import Graph, Value
from .cross_entropy import CrossEntropy, Hits
from .pointwise import broadcast_shape, pointwise, require_float
from .reduce import mean, sum
from .tracing import Tensor, apply, as_value, graph_of

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str, where: str) -> None:
    if reduction not in REDUCTIONS:
        raise ArgumentError("unknown reduction", where=where, got=reduction, expected=" or ".join(map(repr, REDUCTIONS)))


def reduced(loss: Value, reduction: str) -> Value:
    return {"mean": mean, "sum": sum}[reduction](loss) if reduction != "none" else loss


def as_labels(graph: Graph, target: Tensor) -> Value:
    """Labels as a value; whole numbers of any width become int32."""
    if isinstance(target, (np.ndarray, list, tuple)) and np.asarray(target).dtype.kind in "iub":
        target = np.asarray(target, np.int32)
    return as_value(graph, target)


def cross_entropy(input: Tensor, target: Tensor, ignore_index: int | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Value:
    """−log softmax(input)[target] per row, reduced.

    Args:
        input: logits (N, C) or (N, C, d1, …).
        target: class numbers (N, d1, …), or a weight per class: a float tensor of input's shape (one-hot or soft labels).
        ignore_index: rows with this label count neither in the loss nor in the mean. PyTorch's default is −100; here it is
            None: no row is ignored, the mean divides by the number of rows, and a label that is no class gives NaN.
        reduction: ``mean``, ``sum`` or ``none``.
        label_smoothing: the share of each target that is spread evenly over all classes.
    """
    graph = graph_of(input, target)
    logits, labels = require_float(as_value(graph, input), "cross_entropy"), as_labels(graph, target)
    check_reduction(reduction, "cross_entropy")
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError("label_smoothing is out of range", where="cross_entropy", got=label_smoothing, expected="0 … 1")
    soft = labels.dtype.startswith("float")
    ignored = None if soft or ignore_index is None else int(ignore_index)
    rows = apply(CrossEntropy(soft, float(label_smoothing), ignored), logits, labels)[0]
    if reduction != "mean" or ignored is None:
        return reduced(rows, reduction)
    counted = pointwise(graph, [select(call("equal", arg(0), ignored), 0.0, 1.0)], [labels])[0]
    return pointwise(graph, [arg(0) / arg(1)], [sum(rows), sum(counted)])[0]


def accuracy_hits(logits: Tensor, labels: Tensor) -> Value:
    """1 for each row whose first largest logit is the label, else 0; for soft labels the class of the largest weight."""
    graph = graph_of(logits, labels)
    values = require_float(as_value(graph, logits), "accuracy_hits"), as_labels(graph, labels)
    return apply(Hits(values[1].dtype.startswith("float")), *values)[0]


def _elementwise(expr: Expr, input: Tensor, target: Tensor, others: tuple[Tensor, ...], reduction: str, where: str) -> Value:
    """The reduced loss of an expression over (input, target, others …)."""
    graph = graph_of(input, target, *others)
    values = [require_float(as_value(graph, tensor), where) for tensor in (input, target, *others)]
    check_reduction(reduction, where)
    if values[0].shape != values[1].shape:
        raise ShapeError("input and target differ in shape", where=where, got=values[1].shape, expected=values[0].shape)
    if broadcast_shape([value.spec for value in values], where) != values[0].shape:
        raise ShapeError("the weight does not broadcast to the input", where=where, got=values[2].shape, expected=values[0].shape)
    return reduced(pointwise(graph, [expr], values, values[0].shape)[0], reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Value:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) per element, in a form that does not overflow.

    ``pos_weight`` multiplies the first term.
    """
    where = "binary_cross_entropy_with_logits"
    x, t = arg(0), arg(1)
    tail = call("log1p", call("exp", -call("abs", x)))
    if pos_weight is None:
        return _elementwise(call("max", x, 0.0) - x * t + tail, input, target, (), reduction, where)
    weighted = (1.0 - t) * x + (1.0 + (arg(2) - 1.0) * t) * (tail + call("max", -x, 0.0))
    return _elementwise(weighted, input, target, (pos_weight,), reduction, where)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Value:
    """(input − target)² per element."""
    difference = arg(0) - arg(1)
    return _elementwise(difference * difference, input, target, (), reduction, "mse_loss")
