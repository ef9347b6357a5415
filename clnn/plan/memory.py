"""Where temporaries lie: lifetimes to offsets in one arena, or to buffers that take turns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lifetime:
    """A block that must exist from launch ``first`` to launch ``last``, both included."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Offsets of the blocks, in their order, and the size that holds them all. Bytes."""

    offsets: tuple[int, ...]
    nbytes: int


def place(blocks: list[Lifetime], alignment: int) -> Arena:
    """Largest block first, each at the lowest aligned offset that is free during its lifetime.

    Source: Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020 (greedy by size).
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    total = 0
    for number in sorted(range(len(blocks)), key=lambda i: (-blocks[i].nbytes, blocks[i].first)):
        block = blocks[number]
        taken = sorted((offsets[i], offsets[i] + blocks[i].nbytes) for i in placed
                       if blocks[i].first <= block.last and block.first <= blocks[i].last)
        offset = 0
        for start, end in taken:
            if offset + block.nbytes <= start:
                break
            offset = max(offset, -(-end // alignment) * alignment)
        offsets[number] = offset
        placed.append(number)
        total = max(total, offset + block.nbytes)
    return Arena(tuple(offsets), -(-total // alignment) * alignment)


@dataclass(frozen=True)
class Slots:
    """The slot of each block, in their order, and the sizes of the slots. Bytes."""

    numbers: tuple[int, ...]
    sizes: tuple[int, ...]


def share(blocks: list[Lifetime]) -> Slots:
    """Largest block first, each in the smallest slot whose blocks live at other times, or else in a new one of its size."""
    numbers = [0] * len(blocks)
    slots: list[list[int]] = []
    for number in sorted(range(len(blocks)), key=lambda i: (-blocks[i].nbytes, blocks[i].first)):
        block = blocks[number]
        free = [slot for slot, members in enumerate(slots)
                if all(blocks[i].last < block.first or block.last < blocks[i].first for i in members)]
        if free:
            numbers[number] = free[-1]          # slots are made from the largest to the smallest
            slots[free[-1]].append(number)
        else:
            numbers[number] = len(slots)
            slots.append([number])
    return Slots(tuple(numbers), tuple(blocks[members[0]].nbytes for members in slots))
