"""How the kernel ``conv/strips`` cuts a convolution: what strips of results, of how many channels, an item has in registers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import NamedTuple

from ..target import Target
from .taps import Taps

#: what an item may hold in registers, how many multiply-adds the text may have for each channel that is read, and what an item
#: may hold where a compiler loads all of a channel ahead
MOST_HELD, MOST_TEXT, MOST_AHEAD = 96, 2400, 207
#: the same on GPUs that share the processor's memory, which have few registers
MOST_HELD_INTEGRATED = 48
#: floats of filters in local memory
STAGED = 2048


class Load(NamedTuple):
    """What an item does for each channel that it reads, in instructions."""

    products: int
    issued: float
    moved: float        # reads, as 32 items together take a turn of the unit that serves them

    @property
    def turns(self) -> float:
        """Turns of a compute unit that issues four instructions in each."""
        return max(self.issued / 4, self.moved)


def axes(p: SimpleNamespace, rows: int) -> tuple[Taps, Taps]:
    """(vertical, horizontal): an item makes ``rows`` results, or strides of them, down a column, or a stride of columns."""
    def of(axis: int, per_item: int) -> Taps:
        return Taps(p.pixels[axis], p.results[axis], p.window[axis], p.stride[axis], p.padding[axis], p.dilation[axis],
                    p.backwards, per_item)
    return of(0, rows), of(1, 1)


def cells(p: SimpleNamespace, rows: int) -> int:
    """Strips of all images, for one block of channels."""
    down, across = axes(p, rows)
    return p.N * down.blocks * across.blocks


def blocks(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Blocks of channels of the results, in all groups."""
    return p.groups * -(-p.outs // t.OUTS)


def load(p: SimpleNamespace, rows: int, outs: int) -> Load:
    """What an item does for each channel that it reads."""
    down, across = axes(p, rows)
    products = outs * len(down.uses) * len(across.uses)
    filters, pixels = p.window[0] * p.window[1] * outs, len(down.needed) * len(across.needed)
    wide = next(v for v in (4, 2, 1) if outs % v == 0)
    # neighbouring items read pixels that lie ``advance`` apart, and mostly not at the beginning of what is fetched together
    return Load(products, products + filters / wide + 1.5 * pixels + 8, filters + pixels * (across.advance + 0.6))


def held(p: SimpleNamespace, rows: int, outs: int) -> int:
    """Registers of an item for sums, a column of pixels and the filters of a tap."""
    down, across = axes(p, rows)
    return outs * (down.block * across.block + 1) + len(down.needed)


def loaded_ahead(p: SimpleNamespace, rows: int, outs: int) -> int:
    """The same where a compiler loads all filters and pixels of a channel ahead, which those for small work-groups do."""
    down, across = axes(p, rows)
    return outs * (down.block * across.block + p.window[0] * p.window[1]) + len(down.needed) * len(across.needed)


def choose(p: SimpleNamespace, target: Target) -> dict[str, int]:
    """The strip that takes the fewest turns for all results."""
    least, rows_best, outs_best = math.inf, 1, 1
    most = MOST_HELD_INTEGRATED if target.unified_memory else MOST_HELD
    for outs in (1, 2, 3, 4, 6, 8):
        if outs > p.outs and outs > 1:
            continue
        for rows in (1, 2, 3, 4, 6, 8, 12):
            work = load(p, rows, outs)
            ahead = loaded_ahead(p, rows, outs) if target.max_work_group < 1024 else 0
            if (rows > 1 or outs > 1) and (held(p, rows, outs) > most or ahead > MOST_AHEAD or work.products > MOST_TEXT):
                break
            items = cells(p, rows) * p.groups * -(-p.outs // outs)
            # some 500 items on each unit hide the time that loads take
            starved = min(1.0, items / (512 * target.compute_units)) ** 0.6
            cost = work.turns * items / starved
            if cost < least:
                least, rows_best, outs_best = cost, rows, outs
    rows, outs = rows_best, outs_best
    depth = max(1, min(p.ins, STAGED // (outs * p.window[0] * p.window[1]), 16))
    return {"ROWS": rows, "OUTS": outs, "DEPTH": 1 << depth.bit_length() - 1,
            "GROUP": 128 if cells(p, rows) >= 128 else 64}


def share(p: SimpleNamespace, target: Target) -> float:
    """The share of a unit's multiply-adds that do some good, at best, by the chosen strip."""
    chosen = choose(p, target)
    work = load(p, chosen["ROWS"], chosen["OUTS"])
    down, across = axes(p, chosen["ROWS"])
    useful = p.results[0] * p.results[1] / (down.block * down.blocks * across.block * across.blocks)
    return useful * p.outs / (chosen["OUTS"] * -(-p.outs // chosen["OUTS"])) * work.products / 4 / work.turns
