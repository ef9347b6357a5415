"""Lowerings: the ways in which an operator becomes kernel launches.

A lowering offers launches for given specs and device, or refuses with a reason. An operator lists its lowerings best first; the
last always applies. Tails fused into an operator's outputs are attached here, once for all operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..config import config
from ..errors import LoweringError
from ..ir import ROW, Layout, TensorSpec
from ..target import Target
from .expr import Expr
from .kernel import KernelSpec, specify
from .store import Store


class Operand(NamedTuple):
    """A tensor that a launch touches: ``in``, ``out`` or ``work`` (scratch), and its number."""

    kind: str
    index: int


class Tail(NamedTuple):
    """A pointwise tail on one base output: expressions over (element, operands …), one per output tensor."""

    exprs: tuple[Expr, ...]
    operands: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Choice(NamedTuple):
    """A decision of a lowering itself, such as into how many parts a sum is split: the value taken, and those it could have
    taken."""

    name: str
    value: object
    values: tuple


#: choices that follow from the sizes of the tensors and so fit no others, by the first word of their names
SIZED = ("splits", "parts", "size", "prepack", "tile")


@dataclass(frozen=True)
class Launch:
    """One kernel with the tensors bound to its parameters: ``reads`` in order, then per store its operands and outputs."""

    kernel: KernelSpec
    reads: tuple[Operand, ...]
    stores: tuple[tuple[Operand, ...], ...]

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (*self.reads, *(operand for group in self.stores for operand in group))

    @property
    def written(self) -> tuple[Operand, ...]:
        """The tensors that it writes."""
        return tuple(
            operand
            for (_, store), group in zip(self.kernel.stores, self.stores, strict=True)
            for operand in group[len(store.operands) :]
        )


@dataclass(frozen=True)
class Offer:
    """What a lowering would run: launches in order, the scratch tensors they need, and the choices that led to them.

    ``boards`` are the numbers of those scratch tensors that are all zeros when a run begins, and that it leaves so.
    """

    launches: tuple[Launch, ...]
    work: tuple[TensorSpec, ...] = ()
    choices: tuple[Choice, ...] = ()
    boards: tuple[int, ...] = ()


class Context:
    """Collects the launches of one offer. ``reads`` and ``stores`` map template parameters to operands, with helpers to name
    them.

    ``config`` may be written as JSON. Under a template's id it holds tunables of that template; every other key names a choice
    of the lowering, or a tunable of whatever template has one of that name: ``{"splits": 4, "gemm/tiled": {"BM": 64}}``.
    ``tail`` is how many tensors of its size are read where the first output is stored.
    """

    def __init__(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], target: Target, config: dict | None = None,
        tail: int = 0,
    ):
        self.inputs, self.outputs, self.target, self.config, self.tail = inputs, outputs, target, config, tail
        self._launches: list[Launch] = []
        self._work: list[TensorSpec] = []
        self._boards: list[int] = []
        self._choices: dict[str, Choice] = {}

    def input(self, index: int) -> Operand:
        return Operand("in", index)

    def output(self, index: int) -> Operand:
        return Operand("out", index)

    def scratch(self, shape: tuple[int, ...], dtype: str = "float32") -> Operand:
        """A scratch tensor that lives for this node only."""
        self._work.append(TensorSpec(shape, dtype))
        return Operand("work", len(self._work) - 1)

    def board(self, entries: int) -> Operand:
        """So many ints that are zeros when a run begins, by which work-groups tell each other something. The launches leave
        zeros, for the next run."""
        operand = self.scratch((entries,), "int32")
        self._boards.append(operand.index)
        return operand

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory that a lowering may ask for: ``CLNN_WORKSPACE_MB``, or what fits the device where that is 0."""
        return config.workspace << 20 or max(1 << 30, min(self.target.global_memory // 16, self.target.max_allocation // 2))

    def check_workspace(self, nbytes: int) -> None:
        """Refuse a lowering that asks for too much scratch memory.

        Raises:
            LoweringError: if that is more than :attr:`workspace`.
        """
        if nbytes > self.workspace:
            allowed = f"{self.workspace >> 20} are allowed (CLNN_WORKSPACE_MB)"
            raise LoweringError(f"needs {nbytes >> 20} MiB of scratch, of which {allowed}")

    def spec(self, operand: Operand) -> TensorSpec:
        return {"in": self.inputs, "out": self.outputs, "work": self._work}[operand.kind][operand.index]

    def choice(self, name: str, default, values: tuple):
        """A decision of the lowering that the configuration may make.

        Args:
            default: what is taken where nothing is configured; it counts as allowed.
            values: what else may be taken; all must give the same result.

        Raises:
            LoweringError: if the configuration asks for something else.
        """
        allowed = tuple(dict.fromkeys((*values, default)))
        taken = (self.config or {}).get(name, default)
        if taken not in allowed:
            raise LoweringError(f"the choice {name} cannot be {taken!r} here, only {', '.join(map(str, allowed))}")
        self._choices[name] = Choice(name, taken, allowed)
        return taken

    def tunables(self, template: str) -> dict[str, object]:
        """What the configuration says about a template."""
        given = self.config or {}
        return {name: value for name, value in given.items() if not isinstance(value, Mapping)} | given.get(template, {})

    def launch(
        self,
        template: str,
        problem: dict[str, object],
        reads: dict[str, Operand],
        stores: dict[str, Operand],
        config: dict | None = None,
    ) -> None:
        """Append a launch of ``template``."""
        kernel = specify(
            template,
            self.target,
            problem,
            {name: self.spec(op).dtype for name, op in reads.items()},
            {name: Store(self.spec(op)) for name, op in stores.items()},
            {**(config or {}), **self.tunables(template)},
            max((self.spec(op).size for op in reads.values()), default=0),
        )
        self._launches.append(
            Launch(kernel, tuple(reads[name] for name, _ in kernel.reads), tuple((stores[name],) for name, _ in kernel.stores))
        )

    def add(self, launch: Launch) -> None:
        """Append a launch that was described by hand."""
        self._launches.append(launch)

    def adopt(self, offer: Offer) -> None:
        """Take over a whole offer."""
        self._launches += offer.launches
        self._boards += (len(self._work) + number for number in offer.boards)
        self._work += offer.work
        self._choices |= {choice.name: choice for choice in offer.choices}

    def offer(self) -> Offer:
        return Offer(tuple(self._launches), tuple(self._work), tuple(self._choices.values()), tuple(self._boards))


@dataclass(frozen=True)
class Lowering:
    """A named way to compute an operator.

    ``emit(op, context)`` appends launches to the context; it may raise LoweringError, whose text is the recorded reason.
    ``refuse(op, inputs, outputs, target)`` returns a reason not to use it where it would work but is known to be the worse
    choice or does not apply. ``layouts(op, inputs, outputs)`` lists the (input layouts, output layouts) that it takes,
    preferred first.
    """

    name: str
    emit: Callable
    refuse: Callable = lambda op, inputs, outputs, target: None
    layouts: Callable = lambda op, inputs, outputs: [((ROW,) * len(inputs), (ROW,) * len(outputs))]

    def offer(
        self,
        op,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        target: Target,
        config: dict | None = None,
        forced: bool = False,
        tail: int = 0,
    ) -> Offer:
        """The launches for these specs. ``tail`` tensors of its size will be read where the first output is stored.

        Raises:
            LoweringError: the reason why this lowering does not apply.
        """
        wanted = (tuple(s.layout for s in inputs), tuple(s.layout for s in outputs))
        if wanted not in [(tuple(i), tuple(o)) for i, o in self.layouts(op, inputs, outputs)]:
            raise LoweringError(
                f"does not take the layouts {' '.join(map(str, wanted[0]))} -> {' '.join(map(str, wanted[1]))}", where=self.name
            )
        reason = None if forced else self.refuse(op, inputs, outputs, target)
        if reason:
            raise LoweringError(reason, where=self.name)
        context = Context(inputs, outputs, target, config, tail)
        self.emit(op, context)
        return context.offer()


def same_layouts(*layouts: Layout) -> Callable:
    """A ``layouts`` function for operators that work in any of these layouts, rank-4 tensors all alike, others row-major."""

    def offered(op, inputs, outputs):
        def pick(spec, layout):
            return layout if spec.rank == 4 else ROW

        return [(tuple(pick(s, layout) for s in inputs), tuple(pick(s, layout) for s in outputs)) for layout in layouts]

    return offered


def attach_tails(offer: Offer, tails: dict[int, Tail], base_inputs: int, base_outputs: int) -> Offer:
    """The offer with pointwise tails on some base outputs.

    The inputs of the fused node are the base inputs, then each tail's operands in order of the outputs; its outputs are, for
    each base output in order, the base output itself or the tail's outputs. Launches that store to the same output store
    different elements of it: none is stored twice.
    """
    first_input, first_output = {}, {}
    inputs = base_inputs
    outputs = 0
    for index in range(base_outputs):
        first_output[index] = outputs
        first_input[index] = inputs
        tail = tails.get(index)
        inputs += len(tail.operands) if tail else 0
        outputs += len(tail.outputs) if tail else 1
    launches = []
    for launch in offer.launches:
        stores, groups = [], []
        for (name, store), group in zip(launch.kernel.stores, launch.stores, strict=True):
            target_operand = group[-1]
            if target_operand.kind != "out":
                stores.append((name, store))
                groups.append(group)
                continue
            index = target_operand.index
            tail = tails.get(index)
            if tail is None:
                stores.append((name, store))
                groups.append((Operand("out", first_output[index]),))
                continue
            stores.append((name, Store(store.result, tail.exprs, tail.operands, tail.outputs)))
            groups.append(
                (
                    *(Operand("in", first_input[index] + i) for i in range(len(tail.operands))),
                    *(Operand("out", first_output[index] + i) for i in range(len(tail.outputs))),
                )
            )
        if any(read.kind == "out" for read in launch.reads):
            reads = []
            for read in launch.reads:
                if read.kind == "out":
                    if read.index in tails:
                        raise LoweringError("reads back an output, so no tail can follow it")
                    read = Operand("out", first_output[read.index])
                reads.append(read)
            launch = replace(launch, reads=tuple(reads))
        launches.append(Launch(replace(launch.kernel, stores=tuple(stores)), launch.reads, tuple(groups)))
    return replace(offer, launches=tuple(launches))
