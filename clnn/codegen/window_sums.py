"""How the kernel ``conv/window_sums`` cuts the gradient of filters: what an item sums, what lies in local memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

from ..target import Target

#: sums of an item, also on GPUs that share the processor's memory, which have few registers
MOST, MOST_INTEGRATED = 56, 16
#: pixels that an item of those has under way, and how much longer more take, as they do not stay in registers
MOST_LOADS, SPILLING = 4, 100
#: items of a work-group, and bytes of its local memory, at most
ITEMS, LOCAL = 256, 24 << 10
BANKS = 32
#: turns of a compute unit that the items of a work-group wait for each other, for each chunk
MEETING = 300


class Cut(NamedTuple):
    """The sides of a work-group's part of the gradient.

    ``taps`` are filter elements of one output channel, and one more for the bias; ``lanes`` items share them and ``filters``
    items the output channels, of which a work-group has ``block``. ``span``, ``pitch`` and ``area`` are the pixels of a row that
    a chunk looks at, the room of a row and of all rows, ``pitch_y`` the room for a row of results.
    """

    taps: int
    lanes: int
    filters: int
    block: int
    slices: int
    items: int
    span: int
    pitch: int
    area: int
    pitch_y: int

    @property
    def floats(self) -> int:
        return self.block * self.pitch_y + self.area + self.items


def cut(p: SimpleNamespace, t: SimpleNamespace) -> Cut:
    window = p.C * p.R * p.S
    taps = window + p.bias
    lanes = -(-taps // t.TN)
    filters = max(1, min(-(-p.K // t.TM), t.LIMIT // lanes))
    slices = max(1, min(t.COLS // 4, t.LIMIT // (lanes * filters)))
    slices = 1 << slices.bit_length() - 1
    while (t.COLS // 4) % slices:
        slices //= 2
    span = (t.COLS - 1) * p.stride[1] + (p.S - 1) * p.dilation[1] + 1
    # neighbouring taps lie in neighbouring banks, also from the end of one row of the filter to the beginning of the next
    pitch = span + (p.S * p.dilation[1] - span) % BANKS
    area = p.C * p.R * pitch + p.bias * span
    return Cut(taps, lanes, filters, filters * t.TM, slices, lanes * filters * slices, span, pitch, area, t.COLS + 4)


def chunks(p: SimpleNamespace, cols: int) -> int:
    """Pieces of rows of results, of all images."""
    return p.N * p.P * -(-p.Q // cols)


def choose(p: SimpleNamespace, target: Target) -> dict[str, int]:
    """The cut that takes the fewest turns of a compute unit, in each of which it issues four instructions, for all results."""
    best = None
    most = MOST_INTEGRATED if target.unified_memory else MOST
    for tm in (8, 4):
        for tn in range(1, most // tm + 1):
            for cols in (64, 32, 16):
                t = SimpleNamespace(TM=tm, TN=tn, COLS=cols, LIMIT=ITEMS)
                c = cut(p, t)
                if c.items > ITEMS or 4 * c.floats > LOCAL:
                    continue
                products = -(-c.items // 32) * max((tm * tn + tm / 4 + tn) / 4, tm + tn) / c.slices
                staged = (3 * c.block + 14 * p.C * p.R * c.span / cols) / 128
                if spills(p, t, target):
                    staged *= SPILLING
                cost = -(-p.K // c.block) * (products + staged + MEETING / cols) * -(-p.Q // cols) * cols
                if best is None or cost < best[0]:
                    best = (cost, {"TM": tm, "TN": tn, "COLS": cols, "LIMIT": ITEMS})
    return best[1] if best else {}


def spills(p: SimpleNamespace, t: SimpleNamespace, target: Target) -> bool:
    """Whether an item has more pixels under way than stay in registers."""
    c = cut(p, t)
    return target.unified_memory and -(-p.C * p.R * c.span // c.items) > MOST_LOADS
