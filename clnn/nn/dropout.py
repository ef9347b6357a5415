"""Dropout."""

from __future__ import annotations

from .. import ops
from ..ir import Value
from .checks import number
from .module import Module


class Dropout(Module):
    """In training mode zeroes each element with probability p and scales the others by 1 / (1 − p); Srivastava et al., 2014.

    The mask follows from the seed, the step and the layer, so that runs repeat. ``inplace`` is ignored, as in the activations.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = number("Dropout", "p", p, 0, 1)

    def forward(self, x: Value) -> Value:
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
