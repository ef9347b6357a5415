"""The base class of optimisers: state, and one pointwise node per parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from ..codegen.expr import Expr, arg
from ..errors import ArgumentError, InternalError
from ..ir import Graph, Value, Variable
from ..ops.pointwise import pointwise
from .schedules import Schedule, as_schedule


class Optimizer:
    """How a parameter changes, given its gradient. The parameters are those of the model that it is compiled with.

    A subclass names its state in ``slots``, its hyperparameters in ``options``, and defines ``rule``.

    Args:
        lr: a learning rate, or a schedule from :mod:`clnn.optim.schedules`.
    """

    #: the state variables of each parameter
    slots: ClassVar[tuple[str, ...]] = ()
    #: the constructor arguments besides lr
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, lr: float | Schedule):
        try:
            self.schedule = as_schedule(lr)
        except ArgumentError as error:
            raise ArgumentError("lr must be a finite number of at least 0, or a schedule", where=type(self).__name__,
                                got=f"lr={lr!r}") from error
        self._states: WeakKeyDictionary[Variable, dict[str, Variable]] = WeakKeyDictionary()

    def lr_at(self, step: int) -> float:
        """The learning rate after ``step`` completed steps."""
        return self.schedule(step)

    def active_slots(self) -> tuple[str, ...]:
        """The slots that the hyperparameters ask for."""
        return self.slots

    def state_of(self, variable: Variable) -> dict[str, Variable]:
        """The state of a parameter by slot, made once and filled with zeros."""
        if variable not in self._states:
            self._states[variable] = {slot: Variable(np.zeros(variable.shape, np.float32), f"{variable.name}.{slot}")
                                      for slot in self.active_slots()}
        return self._states[variable]

    def scalars(self, graph: Graph, lr: Value, step: Value) -> Sequence[Value]:
        """Numbers that all parameters share, made once per graph; ``rule`` gets them as its last arguments."""
        return (lr,)

    def rule(self, parameter: Expr, gradient: Expr, *state_and_scalars: Expr) -> Sequence[Expr]:
        """The new parameter and the new state, slot by slot."""
        raise NotImplementedError(type(self).__name__)

    def update(self, graph: Graph, variable_value: Value, gradient: Value, lr: Value, step: Value) -> None:
        """Append the node that computes the new parameter and its new state, and register both as updates of the graph.

        Args:
            variable_value: the parameter's value in ``graph``.
            gradient: of the same shape.
            lr: float32 scalar.
            step: int32 scalar, the number of completed steps.
        """
        variable = variable_value.source
        if not isinstance(variable, Variable) or gradient.shape != variable_value.shape:
            raise InternalError("the gradient does not fit the parameter", where=variable_value.name, got=gradient,
                                expected=variable_value)
        old = [variable_value, *(graph.variable(state) for state in self.state_of(variable).values())]
        values = [variable_value, gradient, *old[1:], *self.scalars(graph, lr, step)]
        with graph.scope(variable.name):
            new = pointwise(graph, self.rule(*(arg(i) for i in range(len(values)))), values)
        graph.updates.update(zip(old, new, strict=True))

    # -- description ------------------------------------------------------------------------------------------------

    def config(self) -> dict:
        """A JSON-able description that :meth:`from_config` takes."""
        options = {name: getattr(self, name) for name in self.options}
        return {"name": type(self).__name__, "lr": self.schedule.config()} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

    @classmethod
    def from_config(cls, config: Mapping) -> Optimizer:
        """The optimiser that :meth:`config` described; call it on Optimizer or on the class itself.

        Raises:
            ArgumentError: for an unknown name, or options that the optimiser does not have.
        """
        known = {kind.__name__: kind for kind in _below(cls)}
        kind = known.get(str(config.get("name")))
        if kind is None:
            raise ArgumentError("unknown optimiser", got=config.get("name"), expected=", ".join(sorted(known)))
        options = {key: value for key, value in config.items() if key != "name"}
        unknown = sorted(set(options) - {"lr", *kind.options})
        if unknown:
            raise ArgumentError("the optimiser does not take these options", where=kind.__name__, got=unknown,
                                expected=", ".join(("lr", *kind.options)))
        return kind(**options)

    def __repr__(self) -> str:
        lr = self.schedule(0) if type(self.schedule).__name__ == "Constant" else self.schedule
        return f"{type(self).__name__}({', '.join([f'lr={lr}', *(f'{name}={getattr(self, name)}' for name in self.options)])})"

    def _number(self, name: str, value: float, below: float = math.inf) -> float:
        """``value`` as float, if 0 ≤ value < below."""
        if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 <= value < below:
            raise ArgumentError(f"{name} is out of range", where=type(self).__name__, got=f"{name}={value!r}",
                                expected=f"0 <= {name}" + (f" < {below:g}" if below < math.inf else ", finite"))
        return float(value)


def _below(kind: type[Optimizer]) -> list[type[Optimizer]]:
    """The class, if it can be made, and all its subclasses."""
    own = [kind] if kind is not Optimizer else []
    return own + [leaf for child in kind.__subclasses__() for leaf in _below(child)]
