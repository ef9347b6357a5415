"""A plan: launches in order and the location of every tensor; printable, and bound to a device elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..codegen.expr import arg
from ..codegen.kernel import KernelSpec, specify
from ..codegen.store import Store
from ..codegen.template import declaration
from ..config import config
from ..errors import InternalError
from ..ir import Graph, Node, TensorSpec, Value, Variable
from ..target import Target
from .join import Join, find_joins
from .memory import Lifetime, place, share
from .schedule import schedule, storage_root

#: share of a GPU's memory that temporaries may take if they are buffers of their own
MOST_OF_MEMORY = 0.6


@dataclass(frozen=True)
class Location:
    """Where a tensor lies: ``arena`` at ``offset`` bytes, or the whole buffer of a ``slot``, ``board``, ``variable``, ``input``
    or ``constant``. A board is all zeros before and after each run, but for what a joined kernel remembers at its end."""

    kind: str
    key: object = None
    offset: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class PlannedLaunch:
    """One kernel launch; ``arguments`` are locations in the order of the kernel's parameters."""

    kernel: KernelSpec
    arguments: tuple[Location, ...]
    node: Node
    flops: int
    bytes: int

    @property
    def name(self) -> str:
        """Layer path and operator, for tables."""
        return f"{self.node.path or '-'} {self.node.op.name}"

    @property
    def written(self) -> list[Location]:
        """The arguments that it writes."""
        rest = iter(self.arguments[len(self.kernel.reads):])
        return [place for _, store in self.kernel.stores
                for place in [next(rest) for _ in (*store.operands, *store.outputs)][len(store.operands):]]


@dataclass
class Plan:
    """Everything that :class:`clnn.runtime.executable.Executable` needs, free of OpenCL."""

    launches: list[PlannedLaunch]
    locations: dict[Value, Location]
    inputs: list[Value]
    outputs: list[Value]
    #: the variables that are read or written, and those of them that a run changes
    variables: list[Variable]
    updated: list[Variable]
    constants: list[np.ndarray]
    arena_bytes: int
    temporary_bytes: int
    nodes: list[tuple[Node, int, int]] = field(default_factory=list)
    #: whether the temporaries are buffers of their own and not parts of one
    slots: bool = False
    board_bytes: int = 0
    #: launches that are one where nobody looks at what single ones do
    joins: list[Join] = field(default_factory=list)

    @property
    def variable_bytes(self) -> int:
        return sum(v.nbytes for v in self.variables)

    @property
    def peak_bytes(self) -> int:
        """Device memory that the plan needs: arena, boards, variables, inputs and constants."""
        return (
            self.arena_bytes
            + self.board_bytes
            + self.variable_bytes
            + sum(v.spec.nbytes for v in self.inputs)
            + sum(c.nbytes for c in self.constants)
        )

    def summary(self) -> str:
        """Launch count and memory in two lines."""
        share = 100 * self.arena_bytes / self.temporary_bytes if self.temporary_bytes else 0
        joined = "".join(f", of which {join.last - join.first} are one" for join in self.joins)
        return (
            f"{len(self.launches)} launches{joined}, {sum(n.flops for n in self.launches) / 1e9:.3f} GFLOP\n"
            f"peak device memory {readable(self.peak_bytes)}: temporaries {readable(self.arena_bytes)} ({share:.0f} % of the "
            f"{readable(self.temporary_bytes)} they sum up to), variables {readable(self.variable_bytes)}"
        )

    def __str__(self) -> str:
        lines = [self.summary()]
        for number, launch in enumerate(self.launches):
            places = " ".join(
                place.kind + {"arena": f"+{place.offset}", "slot": f"{place.key}", "board": f"{place.key}"}.get(place.kind, "")
                for place in launch.arguments
            )
            lines.append(f"{number:4d}  {launch.name:40s} {launch.kernel.label:60s} {places}")
        return "\n".join(lines)


def readable(nbytes: int) -> str:
    """A size in the unit that suits it."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} B"


def make_plan(graph: Graph, target: Target, join: bool = True) -> Plan:
    """Schedule the nodes, whose offers a pass has chosen, and lay out memory.

    Args:
        join: whether launches may become one; without, for those who look at single ones.

    Raises:
        InternalError: if a node has no offer.
    """
    order, in_place = schedule(graph)
    variables: dict[int, Variable] = {}
    constants: dict[int, np.ndarray] = {}
    lifetimes: dict[Value | tuple, list] = {}
    boards: dict[tuple, Location] = {}

    def fixed(root: Value) -> Location | None:
        if root in in_place:
            root = in_place[root]
        if root.kind == "variable":
            variables.setdefault(id(root.source), root.source)
            return Location("variable", root.source, 0, root.spec.nbytes)
        if root.kind == "constant":
            constants.setdefault(id(root.source), root.source)
            return Location("constant", id(root.source), 0, root.spec.nbytes)
        return Location("input", root.name, 0, root.spec.nbytes) if root.kind == "input" else None

    def touch(key: Value | tuple, spec: TensorSpec, when: int) -> None:
        if key in lifetimes:
            lifetimes[key][2] = when
        else:
            lifetimes[key] = [max(spec.nbytes, 1), when, when]

    steps: list[tuple] = []
    nodes = []
    for node in order:
        if node.offer is None:
            raise InternalError("a node has no lowering", where=node.path, got=node.op)
        begin = len(steps)
        for launch in node.offer.launches:
            keys = []
            for operand in launch.operands:
                if operand.kind == "work":
                    key, spec = (node, operand.index), node.offer.work[operand.index]
                    if operand.index in node.offer.boards:
                        boards.setdefault(key, Location("board", len(boards), 0, spec.nbytes))
                    else:
                        touch(key, spec, len(steps))
                else:
                    value = node.inputs[operand.index] if operand.kind == "in" else node.outputs[operand.index]
                    key = storage_root(value)
                    if fixed(key) is None:
                        touch(key, key.spec, len(steps))
                keys.append(key)
            steps.append((launch.kernel, keys, node))
        nodes.append((node, begin, len(steps)))
    end = len(steps)
    copies = [(storage_root(new), old) for old, new in graph.updates.items() if new not in in_place]
    for value in (*graph.outputs, *(new for new, _ in copies)):
        root = storage_root(value)
        if fixed(root) is None:
            touch(root, root.spec, end + 1)
    where, arena_bytes, slots = _place({key: Lifetime(*entry) for key, entry in lifetimes.items()}, target)
    where |= boards

    def locate(key) -> Location:
        found = where.get(key)
        return found if found is not None else fixed(key)

    launches = []
    for kernel, keys, node in steps:
        inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
        main = [launch.kernel for launch in node.offer.launches if not declaration(launch.kernel.template).auxiliary]
        flops = node.op.flops(inputs, outputs) // len(main) if kernel in main else 0
        moved = {key: key.spec.nbytes if isinstance(key, Value) else node.offer.work[key[1]].nbytes for key in keys}
        launches.append(PlannedLaunch(kernel, tuple(locate(key) for key in keys), node, flops, sum(moved.values())))
    for new, old in copies:
        launches.append(_copy(graph, new, old, locate(new), fixed(old), target))
    joins = find_joins(launches, target, lambda nbytes: _board(boards, nbytes)) if join and config.join else []
    for value in graph.variables:
        if any(value in node.inputs for node in order) or value in graph.updates or value in graph.outputs:
            variables.setdefault(id(value.source), value.source)
    locations = {
        value: locate(storage_root(value))
        for value in (*graph.inputs, *graph.outputs, *(v for node in order for v in (*node.inputs, *node.outputs)))
        if locate(storage_root(value)) is not None
    }
    return Plan(
        launches,
        locations,
        list(graph.inputs),
        list(graph.outputs),
        list(variables.values()),
        [value.source for value in graph.updates],
        list(constants.values()),
        arena_bytes,
        sum(-(-entry[0] // target.alignment) * target.alignment for entry in lifetimes.values()),
        nodes,
        slots,
        sum(board.nbytes for board in boards.values()),
        joins,
    )


def _board(boards: dict, nbytes: int) -> Location:
    """One more board."""
    boards["join", len(boards)] = made = Location("board", len(boards), 0, nbytes)
    return made


def _place(lifetimes: dict[Value | tuple, Lifetime], target: Target) -> tuple[dict[Value | tuple, Location], int, bool]:
    """(locations of the temporaries, their bytes, whether they are buffers of their own).

    Drivers of GPUs look for overlaps among the parts of a buffer at every launch, which costs more than the launch itself, and
    the more the more parts there are. So temporaries are whole buffers there, though these share memory less well than parts of
    an arena, unless they would take too much of it; and wherever the arena is larger than one buffer can be.
    """
    blocks = list(lifetimes.values())
    arena = place(blocks, target.alignment) if target.is_cpu else None
    if arena is None or arena.nbytes > target.max_allocation:
        slots = share(blocks)
        largest, together = max(slots.sizes, default=0), sum(slots.sizes)
        if together <= MOST_OF_MEMORY * target.global_memory and largest <= target.max_allocation:
            return {key: Location("slot", number, 0, slots.sizes[number])
                    for key, number in zip(lifetimes, slots.numbers, strict=True)}, together, True
    arena = arena or place(blocks, target.alignment)
    return {key: Location("arena", None, offset, block.nbytes)
            for (key, block), offset in zip(lifetimes.items(), arena.offsets, strict=True)}, arena.nbytes, False


def _copy(graph: Graph, new: Value, old: Value, source: Location, destination: Location, target: Target) -> PlannedLaunch:
    """The launch that moves a finished update into its variable at the end of the run."""
    spec = old.spec
    store = Store(spec, (arg(1),), (spec,), (spec,))
    kernel = specify("pointwise/map", target, {"N": spec.size, "drawn": 1}, {}, {"y": store})
    node = Node(_CopyBack(), (new,), f"update of {old.name}")
    return PlannedLaunch(kernel, (source, destination), node, 0, 2 * spec.nbytes)


class _CopyBack:
    """Stands for the operator of a final copy in tables."""

    name = "CopyBack"

    def __str__(self) -> str:
        return self.name
