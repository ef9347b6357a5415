"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..codegen.expr import Expr, arg, call
from ..errors import ArgumentError
from ..ir import Graph, Value
from ..ops import Map
from .optimizer import Optimizer
from .schedules import Schedule


class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − lr · m̂ / (√v̂ + eps), as torch.optim.Adam.

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ), t counting from 1. Source: Kingma and Ba, "Adam: a method for stochastic
    optimization", 2015, algorithm 1.

    Args:
        lr: learning rate or schedule.
        betas: (β₁, β₂).
        eps: added to √v̂.
        weight_decay: weight_decay · p is added to the gradient.
    """

    slots = ("exp_avg", "exp_avg_sq")
    options = ("betas", "eps", "weight_decay")
    #: whether the decay shrinks the parameter itself instead of entering the gradient
    decoupled = False

    def __init__(self, lr: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0):
        super().__init__(lr)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ArgumentError("betas must be a pair", where=type(self).__name__, got=f"betas={betas!r}",
                                expected="(0.9, 0.999)")
        self.betas = (self._number("betas[0]", betas[0], 1), self._number("betas[1]", betas[1], 1))
        self.eps = self._number("eps", eps)
        self.weight_decay = self._number("weight_decay", weight_decay)

    def scalars(self, graph: Graph, lr: Value, step: Value) -> Sequence[Value]:
        """lr / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), and lr where the decay needs it."""
        first, second = (_correction(beta, arg(1)) for beta in self.betas)
        op = Map((arg(0) / first, 1.0 / call("sqrt", second)))
        present = (node for node in graph.nodes if node.op == op and node.inputs == (lr, step))
        node = next(present, None)
        with graph.scope("optimizer"):
            made = node.outputs if node else graph.add(op, (lr, step))
        return (*made, lr) if self.decoupled and self.weight_decay else made

    def rule(self, parameter: Expr, gradient: Expr, *rest: Expr) -> Sequence[Expr]:
        mean, square, rate, scale, *lr = rest
        if lr:
            parameter = parameter * (1.0 - lr[0] * self.weight_decay)
        else:
            gradient = gradient + self.weight_decay * parameter
        mean = mean + (1 - self.betas[0]) * (gradient - mean)
        square = self.betas[1] * square + (1 - self.betas[1]) * (gradient * gradient)
        return parameter - rate * (mean / (call("sqrt", square) * scale + self.eps)), mean, square


class AdamW(Adam):
    """Adam with p ← p · (1 − lr · weight_decay) before the step instead of a decay in the gradient, as torch.optim.AdamW.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.
    """

    decoupled = True

    def __init__(self, lr: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01):
        super().__init__(lr, betas, eps, weight_decay)


def _correction(beta: float, step: Expr) -> Expr | float:
    """1 − βᵗ with t = step + 1, as −expm1(t · log β): 1 − 0.999 in single precision would keep only 5 digits.

    elu with slope 1 is expm1 below 0, and t · log β is.
    """
    return -call("elu", (step + 1.0) * math.log(beta), 1.0) if beta else 1.0
