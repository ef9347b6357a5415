"""The loss by name, as a function of scores and class numbers, and the probabilities that go with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..codegen.expr import arg, call, select
from ..compiler import loss_function
from ..ir import Value
from ..ops.pointwise import pointwise

_ONE_HOT = ("mse", "binary_cross_entropy_with_logits")


def one_hot(labels: Value, classes: int) -> Value:
    """Labels (N,) → (N, classes), 1 at the label."""
    column = ops.reshape(labels, (labels.shape[0], 1))
    numbers = labels.graph.constant(np.arange(classes).reshape(1, classes), "int32")
    return pointwise(labels.graph, [select(call("equal", arg(0), arg(1)), 1.0, 0.0)], [column, numbers])[0]


class Objective:
    """A loss between scores (N, classes) and labels (N,).

    Args:
        loss: a name that :func:`clnn.compile` knows, or a function (scores, labels) → scalar. Named losses that compare
            numbers get the labels one-hot.
    """

    def __init__(self, loss: str | Callable):
        self.function = loss_function(loss)
        self.name = loss if isinstance(loss, str) else None

    def loss(self, output: Value, labels: Value) -> Value:
        target = one_hot(labels, output.shape[1]) if self.name in _ONE_HOT else labels
        return self.function(output, target)

    def probabilities(self, output: Value) -> Value:
        """Probabilities of the classes: softmax, but sigmoid for a loss per class and the output itself for squared errors."""
        if self.name == "mse":
            return output
        return ops.sigmoid(output) if self.name == "binary_cross_entropy_with_logits" else ops.softmax(output, 1)
