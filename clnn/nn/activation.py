"""Activations as modules. ``inplace`` is taken for PyTorch's sake and ignored: plans reuse memory by themselves."""

from __future__ import annotations

import math

from .. import ops
from ..errors import ArgumentError
from ..ir import Value
from .checks import choice, is_whole, number
from .module import Module


class _Activation(Module):
    """An activation without parameters of its own: the function of clnn.ops that ``function`` names."""

    function = ""

    def __init__(self, inplace: bool = False):
        super().__init__()

    def forward(self, x: Value) -> Value:
        return getattr(ops, self.function)(x)


class ReLU(_Activation):
    """max(x, 0)."""

    function = "relu"


class ReLU6(_Activation):
    """min(max(x, 0), 6)."""

    function = "relu6"


class SiLU(_Activation):
    """x · sigmoid(x)."""

    function = "silu"


class Hardswish(_Activation):
    """x · relu6(x + 3) / 6."""

    function = "hardswish"


class Hardsigmoid(_Activation):
    """relu6(x + 3) / 6."""

    function = "hardsigmoid"


class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ)."""

    function = "sigmoid"

    def __init__(self) -> None:
        super().__init__()


class Tanh(_Activation):
    """Hyperbolic tangent."""

    function = "tanh"

    def __init__(self) -> None:
        super().__init__()


class LeakyReLU(Module):
    """x for x ≥ 0, negative_slope · x below."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__()
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, -math.inf)

    def forward(self, x: Value) -> Value:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x for x > 0, alpha · (eˣ − 1) below."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__()
        self.alpha = number("ELU", "alpha", alpha, -math.inf)

    def forward(self, x: Value) -> Value:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """x · Φ(x); ``approximate="tanh"`` for the approximation."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: Value) -> Value:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """eˣ / Σ eˣ along axis ``dim``."""

    function = "softmax"

    def __init__(self, dim: int):
        super().__init__()
        if not is_whole(dim):
            raise ArgumentError("dim must be a whole number", where=type(self).__name__, got=f"dim={dim!r}",
                                hint="dim=1 for (N, classes)")
        self.dim = int(dim)

    def forward(self, x: Value) -> Value:
        return getattr(ops, self.function)(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """x − log Σ eˣ along axis ``dim``."""

    function = "log_softmax"
