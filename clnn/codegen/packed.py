"""How the kernel ``gemm/packed`` cuts a product: register blocks, tiles that fit the caches of a core, and the panels that are
packed for them.

Tunables are named as in the template: blocks of MR rows and NV vectors of 16 columns, tiles of MC rows, of which MB are packed or
kept cached at a time, and NC columns, panels KC deep.
"""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace

from ..target import Target

#: what an element takes in blocks of so many vectors: wider ones load fewer elements of A for as many multiply-adds
SLOWER = {3: 1.0, 2: 1.03, 1: 1.2}
#: multiply-adds that take as long as packing an element, seen on a Zen 3
PACKING = 12
#: the deepest panel of B that may be read from the second cache for each block of A, if A lies there, too
MOST_DEEP = 1024


def large(target: Target) -> bool:
    """Whether cores have 32 wide registers and a second cache of 2 MiB, which PoCL tells as local memory; others have 1 MiB."""
    return target.vector_width >= 16 and target.local_memory >= 2 << 20


def block(p: SimpleNamespace, target: Target) -> tuple[int, int]:
    """Rows and vectors of 16 columns of a register block: what fits the registers and pads C least."""
    if target.vector_width < 16:
        return 6, 1
    rows = min((4, 6, 8), key=lambda rows: -(-p.M // rows) * rows * (1 + 0.5 / rows))               # 12 spill on some CPUs

    def cost(vectors):
        """What the columns take, the last panel as narrow as what is left."""
        whole, rest = divmod(-(-p.N // 16), vectors)
        return whole * vectors * SLOWER[vectors] + rest * SLOWER.get(rest, 0)

    return rows, min(sorted(SLOWER), key=cost)


def even(extent: int, most: int, unit: int) -> int:
    """The least multiple of ``unit`` that cuts ``extent`` into as many pieces as pieces of ``most`` would."""
    piece = -(-extent // max(1, round(extent / most)))
    return -(-piece // unit) * unit


def tall(p: SimpleNamespace, a_lies: bool = False) -> bool:
    """Whether A has many long rows that are read where they lie: then B is packed once for many of them, in panels so deep as K
    where it can be, and so narrow that they fit the second cache."""
    return (p.a.straight or a_lies) and min(p.M, p.K) >= 1024


def tile(p: SimpleNamespace, target: Target, a_lies: bool, b_lies: bool) -> tuple[int, int, int]:
    """Most rows and columns of a tile and rows of A at a time.

    B is packed anew for each tile of rows; A for each of columns, unless it is read where it lies: then little is lost with few
    columns, and the cache has room for more rows.
    """
    if large(target):
        return (2048, 128, 8) if tall(p) else (1024, 256, 48)
    if target.vector_width >= 16:
        return 256, 256, 64
    if tall(p, a_lies):
        return 384 if b_lies else 1024, 32, 48
    if b_lies:
        return 384, 64, 48
    return (384, 128 if p.M > 192 else 256, 96) if p.a.straight or a_lies else (176, 256, 48)


@functools.cache
def few_tiles(
    m: int, n: int, rows: int, deep: int, kept: int, packs_a: bool, apart: bool, units: int, room: int
) -> tuple[int, int] | None:
    """(MC, NC) for a product m x n that has few tiles: equal shares for ``units`` cores, and little packed more than once.

    None if no tile fits into ``room`` floats with a panel of B and ``kept`` of A. ``apart`` asks that each core has rows of its
    own, if there are few cores.
    """
    best, least = None, (True, math.inf, 0)
    cuts = [pieces for pieces in range(1, 9) if not apart or pieces % units == 0]
    for most_m in {even(m, -(-m // pieces), rows) for pieces in cuts or range(1, 9)}:
        for most_n in {even(n, -(-n // pieces), 16) for pieces in range(1, 17)}:
            tiles = -(-m // most_m) * -(-n // most_n)
            packing = PACKING * (most_n + (most_m if packs_a else 0))
            cost = tiles < 2 * units, -(-tiles // units) * (most_m * most_n + packing), -tiles
            if cost < least and most_m * most_n + deep * most_n + kept <= room:
                best, least = (most_m, most_n), cost
    return best


def panel_depth(p: SimpleNamespace, target: Target, width: int, a_lies: bool, b_lies: bool) -> int:
    """Depth of the panels."""
    deep = p.K if p.K <= 2048 else 1024     # one panel, if it leaves the second cache room for A: then C is written once
    if target.vector_width < 16 and tall(p, a_lies):
        return deep
    if width == 16 and b_lies:          # one of B stays in the first cache
        return 512
    if shallow(p, target) or not large(target):
        return 256
    if not tall(p):
        return 512
    return deep


def shallow(p: SimpleNamespace, target: Target) -> bool:
    """Whether storing C is most of the work, and three vectors fit the registers and C."""
    return p.K <= 32 and p.N % 48 == 0 and target.vector_width >= 16


def choose(p: SimpleNamespace, target: Target) -> dict[str, int]:
    """What is run where nothing is measured: panels that fit, and enough tiles that every core gets some."""
    rows, vectors = (8, 3) if shallow(p, target) else block(p, target)
    width = 16 * vectors
    a_lies, b_lies = lie_packed(p, SimpleNamespace(MR=rows, NV=vectors))
    unit = width if b_lies else 16
    most_rows, most_columns, at_once = (480, 192, 64) if shallow(p, target) else tile(p, target, a_lies, b_lies)
    # C is cut no further: its rows, or K, are cut already
    whole = shallow(p, target) or (p.splits > 1 and max(p.M, p.N) <= 256)
    config = {"MR": rows, "NV": vectors, "MC": even(p.M, most_rows, rows), "MB": at_once // rows * rows,
              "KC": panel_depth(p, target, width, a_lies, b_lies), "NC": even(p.N, most_columns, unit)}

    def tiles():
        return math.prod(grid(p, SimpleNamespace(**config)))

    def halve(name, unit):
        config[name] = -(-config[name] // (2 * unit)) * unit

    def busy():
        """Whether every core gets many tiles, or as many large ones as every other."""
        share, rest = divmod(tiles(), target.compute_units)
        return share >= 8 or (large(target) and share >= 2 and not rest)

    def needed():
        """Bytes with room for sums, which are kept where a caller asks for shallower panels."""
        t = SimpleNamespace(**config)
        return local_bytes(p, t) + (0 if tall(p) or depth(p, t) > t.KC else 4 * t.MC * t.NC)

    few = None
    if target.vector_width < 16 and p.batch == p.splits == 1 and not busy() and not b_lies:
        packs_a = not (p.a.straight or a_lies)
        # one panel, whose sums stay in registers, or panels of equal depth
        deep = p.K if not packs_a and p.K <= MOST_DEEP else even(p.K, config["KC"], 8)
        kept = deep * config["MB"] * packs_a
        few = few_tiles(p.M, p.N, rows, deep, kept, packs_a, a_lies, target.compute_units, target.local_memory // 4)
        if few:
            config |= {"MC": few[0], "NC": few[1], "KC": deep}
    while not busy() and config["MC"] > 128 and not whole and not few:
        halve("MC", rows)
    while tiles() < 2 * target.compute_units and config["NC"] > width:
        halve("NC", unit)
    for name, step, least in (("KC", 1, 64), ("MC", rows, 8 * rows), ("NC", unit, width)):
        while needed() > target.local_memory and config[name] > least:
            halve(name, step)
    return config


def local_bytes(p: SimpleNamespace, t: SimpleNamespace) -> int:
    a_lies, b_lies = lie_packed(p, t)
    sums = 0 if depth(p, t) <= t.KC else t.MC * t.NC
    return 4 * ((0 if p.a.straight or a_lies else t.KC * min(t.MB, t.MC)) + (0 if b_lies else t.KC * across(t)) + sums + 16)


def panel_kinds(p: SimpleNamespace, t: SimpleNamespace) -> list[int]:
    """Vectors of the panels that there are, most first: the last panel of a tile is as narrow as what is left."""
    columns = {t.NC if p.N > t.NC else 0, (p.N - 1) % t.NC + 1} - {0}
    width = 16 * t.NV
    return sorted({t.NV for n in columns if n >= width} | {-(-(n % width) // 16) for n in columns if n % width}, reverse=True)


def low_block(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Rows of the lower blocks that finish a tile where whole ones would multiply many rows of nothing; 0 if there are none.

    Blocks of 4 rows and 2 vectors of 8 still keep the multiply-adds busy, and only rows that lie straight can be cut anywhere.
    """
    last = ((p.M - 1) % t.MC % t.MB + 1) % t.MR
    idle = (t.MR - last) % t.MR
    return 4 if p.a.straight and (t.MR, t.NV) == (6, 1) and idle > 1 and 100 * idle >= p.M else 0


def across(t: SimpleNamespace) -> int:
    """Columns of the panels of a tile, as they lie in memory."""
    return -(-t.NC // (16 * t.NV)) * 16 * t.NV


def depth(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Depth of one part of K: whole panels."""
    panels = -(-p.K // t.KC)
    return -(-panels // p.splits) * t.KC


def lie_packed(p: SimpleNamespace, t: SimpleNamespace) -> tuple[bool, bool]:
    """Whether A and B lie in panels already."""
    return p.a.transposed.in_panels(t.MR), p.b.in_panels(16 * t.NV)


def grid(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int, int, int]:
    """Tiles along N, along M, and of all products."""
    return -(-p.N // t.NC), -(-p.M // t.MC), p.batch * p.splits


def draws(p: SimpleNamespace, t: SimpleNamespace) -> bool:
    """Whether each core draws one tile after the other.

    PoCL gives half of what is left to whoever asks, at once, and would wait in the end for cores that are slower, by themselves
    or as their other thread is busy.
    """
    return 1 < p.cores < math.prod(grid(p, t))


def registers(p: SimpleNamespace, t: SimpleNamespace, target: Target) -> bool:
    """Accumulators, a row of B and one element of A: 32 registers of 16 floats, or 16 of 8."""
    vectors = t.NV * 16 // max(min(target.vector_width, 16), 8)
    return (t.MR + 1) * vectors + 1 <= 2 * max(min(target.vector_width, 16), 8)
