"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

from ..codegen.expr import Expr, call, select
from ..errors import ArgumentError
from ..ir import Graph, Value
from .optimizer import Optimizer
from .schedules import Schedule


class SGD(Optimizer):
    """p ← p − lr · g, with momentum b ← momentum · b + (1 − dampening) · g, p ← p − lr · b, as torch.optim.SGD.

    The first step sets b = g, whatever the dampening. Source of Nesterov's form: Sutskever et al., "On the importance of
    initialization and momentum in deep learning", 2013.

    Args:
        lr: learning rate or schedule.
        momentum: share of the old direction that is kept.
        dampening: share of the gradient that is left out of the direction.
        weight_decay: weight_decay · p is added to the gradient.
        nesterov: step along g + momentum · b instead of b.
    """

    slots = ("momentum_buffer",)
    options = ("momentum", "dampening", "weight_decay", "nesterov")

    def __init__(self, lr: float | Schedule = 0.01, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False):
        super().__init__(lr)
        self.momentum = self._number("momentum", momentum)
        self.dampening = self._number("dampening", dampening)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ArgumentError("nesterov needs a momentum above 0 and no dampening", where="SGD",
                                got=f"momentum={momentum}, dampening={dampening}", hint="SGD(lr, momentum=0.9, nesterov=True)")

    def active_slots(self) -> tuple[str, ...]:
        return self.slots if self.momentum else ()

    def scalars(self, graph: Graph, lr: Value, step: Value) -> Sequence[Value]:
        return (lr, step) if self.momentum and self.dampening else (lr,)

    def rule(self, parameter: Expr, gradient: Expr, *rest: Expr) -> Sequence[Expr]:
        g = gradient + self.weight_decay * parameter
        if not self.momentum:
            (lr,) = rest
            return (parameter - lr * g,)
        buffer, lr, *step = rest
        fresh = select(call("equal", step[0], 0.0), 1.0, 1.0 - self.dampening) * g if step else g
        moved = self.momentum * buffer + fresh
        return parameter - lr * (g + self.momentum * moved if self.nesterov else moved), moved
