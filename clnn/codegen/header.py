"""What a kernel template declares about itself, in the ``KERNEL`` of its module block.

That one declaration serves the renderer, the launcher, the tuner, the verifier and the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

from ..target import Target


@dataclass(frozen=True)
class Tunable:
    """A choice that changes speed but not the result.

    ``odd`` is a value that shows mistakes: the generic tests run every sample with all tunables at their odd values.
    """

    name: str
    values: tuple
    default: object
    odd: object
    help: str = ""


@dataclass(frozen=True)
class Constraint:
    """A condition on (problem, tunables, target) and the reason given when it does not hold."""

    holds: Callable[[SimpleNamespace, SimpleNamespace, Target], bool]
    reason: str


def _default_size(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int, ...]:
    return (1,)


@dataclass(frozen=True)
class Kernel:
    """The declaration of a template.

    Args:
        summary: one sentence.
        reads: names of the input pointers.
        stores: names of the outputs, written through the store hook only, so that a pointwise tail can be fused.
        problem: the constants that the kernel is generated for, each with its meaning.
        local_size, global_size: work-items as functions of (problem, tunables).
        local_bytes: local memory as a function of (problem, tunables).
        grid: the work-groups that there would be, as a function of (problem, tunables), where fewer of them draw their work.
        tunables, constraints, features: the space, its rules, the probed features needed.
        in_place: (store, read) pairs: the store may overwrite that input, because each item reads what it overwrites first.
        auxiliary: the kernel only prepares or finishes what another one computes; the operator's flops are not its own.
        choose: tunables that depend on the problem and the target, as a function of (problem, target).
        seeds: configurations from which the tuner starts, at most 40; what one leaves out is taken from ``choose``.
    """

    summary: str
    reads: tuple[str, ...]
    stores: tuple[str, ...]
    problem: Mapping[str, str]
    global_size: Callable[[SimpleNamespace, SimpleNamespace], tuple[int, ...]]
    local_size: Callable[[SimpleNamespace, SimpleNamespace], tuple[int, ...]] = _default_size
    local_bytes: Callable[[SimpleNamespace, SimpleNamespace], int] = lambda p, t: 0
    grid: Callable[[SimpleNamespace, SimpleNamespace], tuple[int, ...]] | None = None
    tunables: tuple[Tunable, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    features: tuple[str, ...] = ()
    in_place: tuple[tuple[str, str], ...] = ()
    auxiliary: bool = False
    choose: Callable[[SimpleNamespace, Target], dict] = field(default=lambda p, target: {})
    seeds: tuple[Mapping[str, object], ...] = ()

    def defaults(self, problem: SimpleNamespace, target: Target) -> dict[str, object]:
        """The configuration used where nothing is measured."""
        return {t.name: t.default for t in self.tunables} | self.choose(problem, target)

    def odd(self) -> dict[str, object]:
        """The configuration that shows mistakes."""
        return {t.name: t.odd for t in self.tunables}

    def refuse(self, problem: SimpleNamespace, config: SimpleNamespace, target: Target) -> str | None:
        """Why the kernel cannot run so on this device, or None."""
        for feature in self.features:
            if not target.has(feature):
                return f"needs the feature {feature}"
        for tunable in self.tunables:
            if not hasattr(config, tunable.name):
                return f"the tunable {tunable.name} has no value"
        for constraint in self.constraints:
            if not constraint.holds(problem, config, target):
                return constraint.reason
        needed = self.local_bytes(problem, config)
        if needed > target.local_memory:
            return f"needs {needed} bytes of local memory, the device has {target.local_memory}"
        local = self.local_size(problem, config)
        items = 1
        for extent in local:
            items *= extent
        if items > target.max_work_group:
            return f"needs work-groups of {items} items, the device allows {target.max_work_group}"
        if any(extent > limit for extent, limit in zip(local, target.max_work_items, strict=False)):
            return f"needs a work-group of {local}, the device allows {target.max_work_items} per dimension"
        return None
