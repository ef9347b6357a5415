"""Learning rates as pure functions of the step, so that resuming at a step is exact.

All lengths are in steps: one step is one batch. ``schedule(step)`` is the learning rate of the step that follows ``step``
completed ones.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ArgumentError


def _check(schedule: object, name: str, good: bool, rule: str) -> None:
    if not good:
        raise ArgumentError(f"{name} {rule}", where=type(schedule).__name__, got=f"{name}={getattr(schedule, name)!r}")


def _is_number(value: object, lowest: float = 0.0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= lowest


def _check_rate(schedule: object, name: str) -> None:
    _check(schedule, name, _is_number(getattr(schedule, name)), "must be a finite number of at least 0")


def _check_steps(schedule: object, name: str, lowest: int = 1) -> None:
    value = getattr(schedule, name)
    good = isinstance(value, int) and _is_number(value, lowest)
    _check(schedule, name, good, f"must be a whole number of steps, at least {lowest}")


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules: ``schedule(step)`` → learning rate."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError(type(self).__name__)

    def config(self) -> dict:
        """A JSON-able description that :func:`from_config` takes."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"name": type(self).__name__} | {
            key: value.config() if isinstance(value, Schedule) else list(value) if isinstance(value, tuple) else value
            for key, value in fields.items()}


@dataclass(frozen=True)
class Constant(Schedule):
    """``lr`` at every step."""

    lr: float

    def __post_init__(self) -> None:
        _check_rate(self, "lr")

    def __call__(self, step: int) -> float:
        return float(self.lr)


@dataclass(frozen=True)
class Step(Schedule):
    """``lr`` times ``gamma`` once per ``every`` steps; torch's StepLR."""

    lr: float
    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check_rate(self, "lr")
        _check_steps(self, "every")
        _check_rate(self, "gamma")

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** (step // self.every)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """``lr`` times ``gamma`` at each of the ``milestones``, which are steps in rising order; torch's MultiStepLR."""

    lr: float
    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _check_rate(self, "lr")
        rising = all(isinstance(m, int) and m >= 0 for m in self.milestones) and list(self.milestones) == sorted(self.milestones)
        _check(self, "milestones", rising, "must be steps in rising order")
        _check_rate(self, "gamma")

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** bisect.bisect_right(self.milestones, step)


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from start (progress 0) to end (1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``lr`` to ``final`` in ``total`` steps, then ``final``; torch's CosineAnnealingLR.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, equation 5, without restarts.
    """

    lr: float
    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_rate(self, "lr")
        _check_steps(self, "total")
        _check_rate(self, "final")

    def __call__(self, step: int) -> float:
        return _cosine(self.lr, self.final, min(step / self.total, 1.0))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from max_lr / start_divisor to ``max_lr`` and down to max_lr / start_divisor / final_divisor, both along half a cosine.

    It goes up for the share ``warm_fraction`` of ``total`` steps. The same as torch's OneCycleLR, without its change of momentum;
    after ``total`` steps the last rate stays. Source: Smith and Topin, "Super-convergence", 2018.
    """

    max_lr: float
    total: int
    warm_fraction: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        _check_rate(self, "max_lr")
        _check_steps(self, "total", 2)
        _check(self, "warm_fraction", _is_number(self.warm_fraction) and self.warm_fraction <= 1, "must lie in 0 … 1")
        _check(self, "start_divisor", _is_number(self.start_divisor) and self.start_divisor > 0, "must be above 0")
        _check(self, "final_divisor", _is_number(self.final_divisor) and self.final_divisor > 0, "must be above 0")

    def __call__(self, step: int) -> float:
        top, last = self.warm_fraction * self.total - 1, self.total - 1
        start = self.max_lr / self.start_divisor
        if step <= top and top > 0:
            return _cosine(start, self.max_lr, step / top)
        return _cosine(self.max_lr, start / self.final_divisor, min((step - top) / (last - top), 1.0) if last > top else 0.0)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line from the rate ``start`` to ``schedule``'s first one in ``steps`` steps; then ``schedule`` from its step 0.

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2. With ``start`` = 0 the first step changes nothing.
    """

    schedule: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "schedule", isinstance(self.schedule, Schedule), "must be a schedule")
        _check_steps(self, "steps", 0)
        _check_rate(self, "start")

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.start + (self.schedule(0) - self.start) * step / self.steps


SCHEDULES: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (Constant, Step, MultiStep, Cosine, OneCycle, Warmup)}


def from_config(config: Mapping) -> Schedule:
    """The schedule that :meth:`Schedule.config` described.

    Raises:
        ArgumentError: for an unknown name, or fields that the schedule does not have.
    """
    options = {key: from_config(value) if isinstance(value, Mapping) else value for key, value in config.items() if key != "name"}
    kind = SCHEDULES.get(str(config.get("name")))
    if kind is None:
        raise ArgumentError("unknown schedule", got=config.get("name"), expected=", ".join(SCHEDULES))
    try:
        return kind(**options)
    except TypeError as error:
        raise ArgumentError("the schedule does not take these fields", where=kind.__name__, got=sorted(options),
                            expected=[field.name for field in dataclasses.fields(kind)]) from error


def as_schedule(lr: float | Schedule | Mapping) -> Schedule:
    """A learning rate given as a number, a schedule or a schedule's description."""
    if isinstance(lr, Schedule):
        return lr
    return from_config(lr) if isinstance(lr, Mapping) else Constant(lr)
