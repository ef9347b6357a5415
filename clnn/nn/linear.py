"""Fully connected layers, and the identity."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..errors import ShapeError
from ..ir import Value
from . import init
from .checks import whole
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """y = x · Wᵀ + b over the last axis: (…, in_features) → (…, out_features).

    ``weight`` is (out_features, in_features), drawn by :func:`clnn.nn.init.he_normal`; ``bias`` is (out_features,), zeros.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features = whole("Linear", "in_features", in_features)
        self.out_features = whole("Linear", "out_features", out_features)
        self.weight = Parameter(init.he_normal_draw((self.out_features, self.in_features)))
        self.register_parameter("bias", Parameter(np.zeros(self.out_features, np.float32)) if bias else None)

    def forward(self, x: Value) -> Value:
        if not x.shape or x.shape[-1] != self.in_features:
            hint = "put nn.Flatten() before it" if len(x.shape) == 4 else None
            raise ShapeError(f"in_features (={self.in_features}) does not fit the last axis of the input", got=f"shape {x.shape}",
                             expected=f"(…, {self.in_features})", hint=hint)
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Its input; arguments are accepted and ignored, so that it can stand in for any layer."""

    def __init__(self, *arguments, **options):
        super().__init__()

    def forward(self, x: Value) -> Value:
        return x


class Flatten(Module):
    """Axes start_dim … end_dim joined into one; by default (N, C, H, W) → (N, C · H · W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = whole("Flatten", "start_dim", start_dim, -99), whole("Flatten", "end_dim", end_dim, -99)

    def forward(self, x: Value) -> Value:
        return ops.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
