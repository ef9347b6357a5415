"""Work-groups that hold their part of a channel in registers, or local memory, while they wait for the sums of the other parts.

So memory is read once, where sums and what is made of them would read it twice. A group of ``items`` holds ``held`` elements
each. What a part sums up to is handed on through a ``board`` of ints; ``kernels/lib/held.mako`` says how, and why nothing waits
for ever. Channels that begin together wait together, while memory rests, and those that follow do the same; so where few are held
at a time they take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace

from ..target import Target
from .channels import channels_across
from .header import Constraint, Tunable

PROBLEM = {"C": "channels", "outer": "extent of the axes before the channel", "inner": "extent of the axes behind it",
           "across": "channels of a work-group", "items": "items of a work-group", "held": "elements that each of them holds",
           "parts": "parts of a channel", "eps": "added to the variance"}


def _along(vector: int, inner: int) -> bool:
    """Whether vectors fit planes of so many elements."""
    return vector == 1 or (inner > 1 and inner % vector == 0)


def _fits(vector: int, p: SimpleNamespace) -> bool:
    return _along(vector, p.inner) and p.held % vector == 0


TUNABLES = (Tunable("VECTOR", (1, 2, 4), 1, 2, "neighbours of a plane that an item loads at once"),
            Tunable("KEPT", (0, 1), 0, 1, "whether half of what is held lies in local memory; of two tensors, the second"),
            Tunable("READING", (0, 2, 3, 4, 5, 6, 7, 8), 0, 2, "channels that are read at a time, or 0 for all that are held"))
CONSTRAINTS = (Constraint(lambda p, t, target: _fits(t.VECTOR, p), "the vector does not fit the planes, or what an item holds"),
               Constraint(lambda p, t, target: t.READING == 0 or p.parts > 1, "a channel of one part has nothing to wait for"))
#: 32-bit registers of a compute unit, as most GPUs have, and how many of them an item takes for each element that it holds in one
REGISTERS, EACH = 65536, 2.25
#: the share that is read at a time of the channels that are held, and the most that need turns
SHARE, TURNS = 0.65, 8
#: of more elements, of one tensor or of two, an item holds half in local memory, as registers for all would leave few groups
#: per unit
KEPT = 32


def keeps(elements: int) -> bool:
    """Whether an item that holds so many elements, of all tensors, should hold half of them in local memory."""
    return elements > KEPT


@dataclass(frozen=True)
class Sizes:
    """The (items, held) of groups that hold a channel ``alone``, and of those by which one is ``shared``, smaller parts first:
    ``singly`` where no vectors of a plane can be loaded, as single elements have an address each, which takes registers.
    ``others`` are for channels that these cannot hold, and for tuners. With at least ``many`` parts the ``large`` size is better,
    as fewer parts find each other sooner, where vectors can be loaded and a device has registers for it.

    An item holds so many elements of each of one or two ``tensors``.
    """

    alone: tuple[tuple[int, int], ...]
    shared: tuple[tuple[int, int], ...]
    singly: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...]
    large: tuple[int, int]
    many: int
    tensors: int = 1

    def sharing(self, inner: int) -> tuple[tuple[int, int], ...]:
        """Those that share a channel of planes of so many elements."""
        return self.shared if _along(2, inner) else self.singly

    def possible(self, inner: int, target: Target) -> list[tuple[int, int]]:
        """Those that a device can run, for planes of so many elements."""
        sizes = sorted({*self.alone, *self.sharing(inner), *self.others, self.large}, key=lambda size: (size[0] * size[1], size))
        return [size for size in sizes
                if size[0] <= target.max_work_group and self._local_bytes(*size) <= target.local_memory] or [self.alone[0]]

    def _local_bytes(self, items: int, held: int) -> int:
        return items * (12 + 2 * self.tensors * held * keeps(self.tensors * held))


SMALL = ((64, 4), (64, 8), (128, 8), (256, 8), (256, 16), (512, 16))
SINGLE = Sizes((*SMALL, (512, 32)), ((128, 32), (128, 64)), ((128, 32), (256, 32), (512, 32)), ((512, 40),), (128, 128), many=16)
PAIRS = Sizes(SMALL, ((128, 32), (128, 56)), ((128, 32), (256, 32)), ((128, 48), (256, 40)), (128, 56), many=40, tensors=2)
#: what a part finds, which has neighbouring entries on the board for each part
FINDS = 2
#: ints from one channel's count to the next: at neighbouring places the atomics and loads of some would wait for those of others
APART = 32
#: a count is below this; its higher bits are anything
COUNTS = 1 << 20


def held_problem(channels: int, outer: int, inner: int, items: int, held: int, eps: float) -> dict[str, object]:
    """The problem constants of a reduction to channels."""
    return {"C": channels, "outer": outer, "inner": inner, "across": channels_across(channels, inner), "items": items,
            "held": held, "parts": count_parts(channels, outer, inner, items, held), "eps": eps}


def count_parts(channels: int, outer: int, inner: int, items: int, held: int) -> int:
    """Into how many parts groups of so many items cut a channel."""
    return -(-outer * inner // (items // channels_across(channels, inner) * held))


def default_size(channels: int, outer: int, inner: int, sizes: Sizes, target: Target) -> tuple[int, int]:
    """The smallest (items, held) with one part; or else the large one, for many parts on devices with registers for it; or else
    the smallest with so few parts that all run at a time."""
    possible = sizes.possible(inner, target)
    alone = [size for size in possible if size in sizes.alone]
    shared, others = ([size for size in possible if size in some] for some in (sizes.sharing(inner), sizes.others))
    parts, most = {size: count_parts(channels, outer, inner, *size) for size in possible}, most_parts(target)
    roomy = _along(2, inner) and target.has("resident_twice")
    return next(chain((size for size in alone if parts[size] == 1),
                      (size for size in possible if size == sizes.large and roomy and sizes.many <= parts[size] <= most),
                      (size for size in (*shared, *others) if parts[size] <= most),
                      (size for size in reversed(possible) if size != sizes.large or size in shared)))


def most_parts(target: Target) -> int:
    """Parts of a channel that all run at a time."""
    return (2 if target.has("resident_twice") else 1) * target.compute_units


def choose_held(p: SimpleNamespace, target: Target, tensors: int = 1) -> dict[str, int]:
    kept = keeps(tensors * p.held)
    return {"VECTOR": next(v for v in (4, 2, 1) if _fits(v, p)), "KEPT": int(kept),
            "READING": _turns(p, target, tensors * p.held // (1 + kept)) if p.parts > 1 else 0}


def _turns(p: SimpleNamespace, target: Target, registers: int) -> int:
    """How many channels should be read at a time, or 0 where so many are held that some are always read while others wait."""
    held_at_a_time = int(REGISTERS / (p.items * EACH * registers)) * target.compute_units / p.parts
    turns = round(SHARE * held_at_a_time)
    return turns if 2 <= turns <= TURNS else 0


def part_size(p: SimpleNamespace) -> int:
    """Elements of a channel in each part but the last."""
    return p.items // p.across * p.held


def last_size(p: SimpleNamespace) -> int:
    """Elements of a channel in the last part."""
    return p.outer * p.inner - (p.parts - 1) * part_size(p)


def held_items(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (-(-p.C // p.across) * p.parts * p.items,)


def held_group(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (p.items,)


def board_size(channels: int, parts: int, others: int = 0) -> int:
    """Ints of a board: what each part finds, ``others`` of each channel, and how many groups have found all."""
    return channels * (FINDS * parts + others + APART)


def entry(p: SimpleNamespace, part: str, channel: str = "c") -> str:
    """C text for the place on the board of a part's finds: neighbours where neighbouring items look for them."""
    return f"{FINDS} * (" + (f"{channel} * {p.parts} + {part}" if p.inner > 1 else f"{part} * {p.C} + {channel}") + ")"


def channel_entry(p: SimpleNamespace) -> str:
    """C text for the place on the board of what is told of a channel as a whole."""
    return f"{FINDS * p.parts * p.C} + c"


def count_entry(p: SimpleNamespace, others: int) -> str:
    """C text for the place on the board of how many groups have found all of a channel; behind it is whether it was left."""
    return f"{(FINDS * p.parts + others) * p.C} + c * {APART}"
