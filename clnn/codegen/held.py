"""Work-groups that hold their part of a channel in registers while they wait for the sums of the other parts.

So memory is read once, where sums and what is made of them would read it twice. A group of ``items`` holds ``held`` elements
each. What a part sums up to is handed on through a ``board`` of ints; ``kernels/lib/held.mako`` says how, and why nothing waits
for ever.
"""

from __future__ import annotations

from types import SimpleNamespace

from ..target import Target
from .channels import channels_across
from .header import Constraint, Tunable

PROBLEM = {"C": "channels", "outer": "extent of the axes before the channel", "inner": "extent of the axes behind it",
           "across": "channels of a work-group", "items": "items of a work-group", "held": "elements that each of them holds",
           "parts": "parts of a channel", "eps": "added to the variance"}
TUNABLES = (Tunable("VECTOR", (1, 2, 4), 1, 2, "neighbours of a plane that an item loads at once"),)
CONSTRAINTS = (Constraint(lambda p, t, target: t.VECTOR == 1 or (p.inner > 1 and p.inner % t.VECTOR == 0 == p.held % t.VECTOR),
                          "the vector does not fit the planes, or what an item holds"),)
#: (items, held) from the smallest to the largest part
SIZES = ((64, 4), (64, 8), (128, 8), (256, 8), (256, 16), (512, 16), (512, 32))


def held_problem(channels: int, outer: int, inner: int, items: int, held: int, eps: float) -> dict[str, object]:
    """The problem constants of a reduction to channels."""
    across = channels_across(channels, inner)
    parts = -(-outer * inner // (items // across * held))
    return {"C": channels, "outer": outer, "inner": inner, "across": across, "items": items, "held": held, "parts": parts,
            "eps": eps}


def default_size(channels: int, outer: int, inner: int, most: int, target: Target) -> tuple[int, int]:
    """The smallest (items, held) with one part, or else with so few that they all run at a time; ``most`` elements are held."""
    fitting = [size for size in SIZES if size[1] <= most and size[0] <= target.max_work_group] or [SIZES[0]]
    for wanted, sizes in ((1, fitting), (target.compute_units // 2, fitting[4:]), (target.compute_units, fitting[4:])):
        for items, held in sizes:
            if held_problem(channels, outer, inner, items, held, 0.0)["parts"] <= wanted:
                return items, held
    return fitting[-1]


def choose_held(p: SimpleNamespace, target: Target) -> dict[str, int]:
    fits = p.inner > 1
    return {"VECTOR": next(v for v in (4, 2, 1) if v == 1 or (fits and p.inner % v == 0 == p.held % v))}


def part_size(p: SimpleNamespace) -> int:
    """Elements of a channel in each part but the last."""
    return p.items // p.across * p.held


def held_items(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (-(-p.C // p.across) * p.parts * p.items,)


def held_group(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (p.items,)


def board_size(channels: int, parts: int, finds: int = 2, others: int = 0) -> int:
    """Ints of a board: ``finds`` of each part and ``others`` of each channel."""
    return channels * (finds * parts + others)


def entry(p: SimpleNamespace, number: int, part: str) -> str:
    """C text for the place on the board of a part's ``number``-th find: neighbours where neighbouring items look for them."""
    return f"{number * p.parts * p.C} + " + (f"c * {p.parts} + {part}" if p.inner > 1 else f"{part} * {p.C} + c")
