"""A kernel as data: which template, for which problem, with which tunables and stores."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from ..errors import LoweringError
from ..target import Target
from .store import Store
from .template import declaration


@dataclass(frozen=True)
class KernelSpec:
    """Everything that decides a kernel's text; equal specs are one kernel.

    ``reads`` are (name, dtype) and ``stores`` (name, Store), in the order of the kernel's parameters: all reads, then for each
    store its operands and its outputs.
    """

    template: str
    problem: tuple[tuple[str, object], ...]
    config: tuple[tuple[str, object], ...]
    reads: tuple[tuple[str, str], ...]
    stores: tuple[tuple[str, Store], ...]
    #: whether an offset can pass 2**31, so that indices are 64 bits wide
    wide: bool = False

    @property
    def p(self) -> SimpleNamespace:
        return SimpleNamespace(**dict(self.problem))

    @property
    def t(self) -> SimpleNamespace:
        return SimpleNamespace(**dict(self.config))

    @property
    def global_size(self) -> tuple[int, ...]:
        return tuple(int(n) for n in declaration(self.template).global_size(self.p, self.t))

    @property
    def local_size(self) -> tuple[int, ...]:
        return tuple(int(n) for n in declaration(self.template).local_size(self.p, self.t))

    @property
    def grid(self) -> tuple[int, ...]:
        """The work-groups among which the work is cut; where fewer of them draw it, those that there would be otherwise."""
        grid = declaration(self.template).grid
        if grid is not None:
            return grid(self.p, self.t)
        return tuple(-(-extent // size) for extent, size in zip(self.global_size, (*self.local_size, 1, 1), strict=False))

    @property
    def label(self) -> str:
        """A short name for tables."""
        values = " ".join(f"{key}={value}" for key, value in self.config)
        return f"{self.template}" + (f" [{values}]" if values else "")


def specify(
    template: str,
    target: Target,
    problem: dict[str, object],
    reads: dict[str, str],
    stores: dict[str, Store],
    config: dict[str, object] | None = None,
    largest: int = 0,
) -> KernelSpec:
    """Describe a kernel, with the template's default tunables overridden by ``config``. ``largest`` is the size of its largest
    input.

    Raises:
        LoweringError: with the template's reason, if the kernel cannot run so on ``target``.
    """
    kernel = declaration(template)
    for kind, given, declared in (
        ("problem constants", set(problem), set(kernel.problem)),
        ("inputs", set(reads) - set(kernel.reads), set()),
        ("outputs", set(stores) - set(kernel.stores), set()),
    ):
        if given != declared:
            raise LoweringError(
                f"the {kind} are not those that the template declares",
                where=template,
                got=sorted(given),
                expected=sorted(declared),
            )
    p = SimpleNamespace(**problem)
    values = kernel.defaults(p, target)
    if config:
        values |= {name: value for name, value in config.items() if name in values}
    reason = kernel.refuse(p, SimpleNamespace(**values), target)
    if reason:
        raise LoweringError(reason, where=template, got=values)
    return KernelSpec(
        template,
        tuple(problem.items()),
        tuple(values.items()),
        tuple((name, reads[name]) for name in kernel.reads if name in reads),
        tuple((name, stores[name]) for name in kernel.stores if name in stores),
        max(largest, *(spec.size for store in stores.values() for spec in (*store.outputs, *store.operands))) >= 2**31,
    )
