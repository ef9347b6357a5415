"""Losses as modules: called with (prediction, target), both symbolic."""

from __future__ import annotations

from .. import ops
from ..errors import ArgumentError
from ..ir import Value
from .checks import choice, is_whole, number
from .module import Module

REDUCTIONS = ("mean", "sum", "none")


class _Loss(Module):
    """``reduction``: "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = choice(type(self).__name__, "reduction", reduction, REDUCTIONS)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """−log softmax(input)[target] of scores (N, classes) and class numbers (N,).

    Args:
        ignore_index: a class number whose samples do not count; with None, all count and must lie in 0 … classes − 1.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread evenly over the classes (Szegedy et al., 2016), 0 ≤ · ≤ 1.
    """

    def __init__(self, *, ignore_index: int | None = None, reduction: str = "mean", label_smoothing: float = 0.0):
        super().__init__(reduction)
        if ignore_index is not None and not is_whole(ignore_index):
            raise ArgumentError("ignore_index must be a whole number or None", where="CrossEntropyLoss",
                                got=f"ignore_index={ignore_index!r}")
        self.ignore_index = ignore_index
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1.0 + 1e-9)

    def forward(self, input: Value, target: Value) -> Value:
        return ops.cross_entropy(input, target, ignore_index=self.ignore_index, reduction=self.reduction,
                                 label_smoothing=self.label_smoothing)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, {super().extra_repr()}, label_smoothing={self.label_smoothing}"


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of sigmoid(input) and a target of the same shape with values in 0 … 1."""

    def forward(self, input: Value, target: Value) -> Value:
        return ops.binary_cross_entropy_with_logits(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """(input − target)²."""

    def forward(self, input: Value, target: Value) -> Value:
        return ops.mse_loss(input, target, reduction=self.reduction)
