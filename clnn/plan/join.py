"""Which launches of a plan become one, and what each of them waits for there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codegen.joined import SHORT_FLOPS, Joined, joins, part_of
from ..target import Target

if TYPE_CHECKING:
    from .plan import Location, PlannedLaunch

#: operations of a run above which the microseconds between its launches are little
SHORT_RUN = 1_000_000_000
#: bytes of a launch above which cores wait long for the last
SHORT_BYTES = 8 << 20


@dataclass(frozen=True)
class Join:
    """Launches ``first`` … ``last`` − 1 as one kernel; ``arguments`` are locations in the order of its parameters."""

    first: int
    last: int
    kernel: Joined
    arguments: tuple[Location, ...]


def find_joins(launches: Sequence[PlannedLaunch], target: Target, board: Callable[[int], Location]) -> list[Join]:
    """The longest rows of short launches that can be one, on CPUs through PoCL, in a run that is short itself.

    Args:
        board: makes the location of a board of so many bytes.
    """
    if not joins(target) or sum(launch.flops for launch in launches) > SHORT_RUN:
        return []
    found = []
    for short, row in itertools.groupby(enumerate(launches), lambda numbered: _may_join(numbered[1])):
        numbers = [number for number, _ in row]
        if short and len(numbers) > 1:
            found.append(_join(numbers[0], launches[numbers[0]:numbers[-1] + 1], target, board))
    return found


def _may_join(launch: PlannedLaunch) -> bool:
    return launch.flops <= SHORT_FLOPS and launch.bytes <= SHORT_BYTES and part_of(launch.kernel) is not None


def _join(first: int, launches: Sequence[PlannedLaunch], target: Target, board: Callable[[int], Location]) -> Join:
    places = list(dict.fromkeys(location for launch in launches for location in launch.arguments))
    kernel = Joined(
        tuple(launch.kernel for launch in launches),
        tuple(tuple(places.index(location) for location in launch.arguments) for launch in launches),
        _waits(launches),
        target.compute_units,
    )
    return Join(first, first + len(launches), kernel, (*places, board(kernel.board_bytes)))


def _waits(launches: Sequence[PlannedLaunch]) -> tuple[tuple[int, ...], ...]:
    """For each launch those before it that must end first: that write what it touches, or touch what it writes. Those that must
    end before one of these are left out."""
    found: list[tuple[int, ...]] = []
    before: list[set[int]] = []         # all that have ended when one begins
    for number, launch in enumerate(launches):
        needed, ended = [], set()
        for other in reversed(range(number)):
            if other not in ended and _conflict(launches[other], launch):
                needed.append(other)
                ended |= {other} | before[other]
        found.append(tuple(needed))
        before.append(ended)
    return tuple(found)


def _conflict(one: PlannedLaunch, other: PlannedLaunch) -> bool:
    return any(_overlap(a, b) for a in one.written for b in other.arguments) or any(
        _overlap(a, b) for a in one.arguments for b in other.written)


def _overlap(a: Location, b: Location) -> bool:
    """Whether two tensors share memory; boards do not count, as joined kernels draw from one of their own."""
    return (a.kind != "board" and (a.kind, a.key) == (b.kind, b.key)
            and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes)
