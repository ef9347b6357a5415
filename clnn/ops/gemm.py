"""How a product of two matrix views is launched; matrix products and all directions of a convolution share it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import NamedTuple

from ..codegen.joined import SHORT_FLOPS, joins
from ..codegen.lowering import Context, Operand
from ..codegen.template import declaration
from ..codegen.views import View, matrix, panels
from ..errors import LoweringError
from ..target import Target


@dataclass(frozen=True)
class Gemm:
    """C (M × N) = A (M × K) · B (K × N), ``batch`` times; ``row_sum`` also asks for the sums of A's rows."""

    a: View
    b: View
    c: View
    batch: int = 1

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.a.shape[0], self.b.shape[1], self.a.shape[1]


class Tile(NamedTuple):
    """A tile and the speeds that a full machine reaches with it, relative to the first of 128 × 128, by how the operands lie:
    see :func:`lie`. Fitted in 2026-11 to what a GPU of 132 units took for the products of training ResNet-50, MobileNetV2,
    LeNet-5 and a perceptron (``tests/core/measured_tiles.json``), and for 4096³."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    unroll: int
    stages: int
    speeds: dict[str, float]

    @property
    def config(self) -> dict[str, int]:
        return {"BM": self.bm, "BN": self.bn, "BK": self.bk, "TM": self.tm, "TN": self.tn, "UNROLL": self.unroll,
                "STAGES": self.stages}


def _tile(*sizes: int, plain: float, window: float, deep: float, turned: float) -> Tile:
    return Tile(*sizes, {"plain": plain, "window": window, "deep": deep, "turned": turned})


TILES = (
    _tile(128, 256, 16, 16, 8, 8, 1, plain=1.13, window=1.12, deep=1.12, turned=1.05),
    _tile(256, 128, 16, 16, 8, 8, 1, plain=1.09, window=1.10, deep=1.09, turned=1.05),
    _tile(128, 128, 16, 8, 8, 16, 1, plain=1.00, window=0.98, deep=0.99, turned=1.05),
    _tile(128, 128, 8, 8, 8, 8, 1, plain=0.99, window=0.99, deep=0.99, turned=0.98),
    _tile(128, 128, 8, 16, 8, 8, 2, plain=1.03, window=1.04, deep=1.14, turned=1.03),
    _tile(64, 128, 16, 8, 8, 16, 1, plain=0.91, window=0.88, deep=0.93, turned=0.91),
    _tile(128, 64, 16, 8, 8, 16, 1, plain=0.96, window=0.99, deep=0.94, turned=0.95),
    _tile(64, 64, 8, 8, 8, 8, 1, plain=0.99, window=0.90, deep=0.95, turned=0.94),
    _tile(64, 64, 16, 8, 8, 16, 1, plain=0.86, window=0.84, deep=0.87, turned=0.85),
    _tile(128, 64, 16, 8, 4, 16, 1, plain=0.87, window=0.90, deep=0.86, turned=0.90),
    _tile(64, 128, 16, 4, 8, 16, 1, plain=0.79, window=0.78, deep=0.79, turned=0.80),
    _tile(64, 64, 16, 8, 4, 16, 1, plain=0.90, window=0.80, deep=0.84, turned=0.83),
    _tile(64, 64, 8, 8, 4, 8, 2, plain=0.79, window=0.82, deep=0.78, turned=0.79),
    _tile(128, 32, 16, 8, 4, 16, 1, plain=0.78, window=0.78, deep=0.78, turned=0.84),
    _tile(32, 128, 16, 4, 8, 16, 1, plain=0.74, window=0.73, deep=0.76, turned=0.74),
    _tile(64, 64, 32, 4, 4, 16, 1, plain=0.66, window=0.66, deep=0.66, turned=0.65),
    _tile(64, 64, 16, 4, 4, 16, 1, plain=0.65, window=0.66, deep=0.65, turned=0.65),
    _tile(32, 64, 16, 4, 4, 16, 1, plain=0.65, window=0.64, deep=0.65, turned=0.66),
    _tile(64, 32, 16, 4, 4, 16, 1, plain=0.65, window=0.66, deep=0.64, turned=0.66),
    _tile(32, 32, 16, 4, 4, 16, 1, plain=0.58, window=0.58, deep=0.57, turned=0.60),
    _tile(32, 32, 32, 4, 2, 16, 1, plain=0.45, window=0.45, deep=0.46, turned=0.45),
    _tile(16, 32, 32, 2, 2, 16, 1, plain=0.26, window=0.26, deep=0.26, turned=0.26),
    _tile(16, 16, 32, 2, 1, 16, 1, plain=0.24, window=0.24, deep=0.24, turned=0.24),
    _tile(16, 16, 32, 2, 2, 16, 1, plain=0.23, window=0.23, deep=0.23, turned=0.23),
    _tile(16, 64, 16, 2, 4, 16, 1, plain=0.50, window=0.50, deep=0.50, turned=0.49),
    _tile(16, 64, 32, 2, 4, 16, 1, plain=0.49, window=0.50, deep=0.50, turned=0.47),
    _tile(32, 16, 32, 2, 2, 16, 1, plain=0.28, window=0.28, deep=0.28, turned=0.28),
    _tile(64, 32, 16, 4, 2, 16, 1, plain=0.52, window=0.52, deep=0.52, turned=0.52),
    _tile(32, 64, 16, 2, 4, 16, 1, plain=0.50, window=0.50, deep=0.50, turned=0.50),
)


def lie(gemm: Gemm) -> str:
    """How the operands lie: "window" where one is gathered; "turned" if neighbouring rows of A are neighbours in memory;
    "deep" if both are along K; else "plain"."""
    if gemm.a.window is not None or gemm.b.window is not None:
        return "window"
    return "turned" if gemm.a.row_contiguous else "deep" if gemm.b.row_contiguous else "plain"


#: items that a compute unit needs at once to hide what its loads take, and how its speed falls with fewer
RESIDENT, STARVED = 320, 0.35
#: the same where operands are gathered: places are computed while others multiply
RESIDENT_GATHERING, STARVED_GATHERING = 2000, 0.13
#: items of a compute unit below which a product that gathers does nothing but wait
AWAKE_GATHERING = 256
#: what beginning and ending a tile takes, in steps of depth, and for each element of a block, which is as much again for each
#: tensor that is read where C is stored
BEGIN, END, TAIL = 25, 0.6, 1.3
#: most rows, or columns, that make a product one of vectors
FEW = 4
#: steps of depth that compilers for devices of small work-groups unroll where there are no more
UNROLLED = 4
#: what a further launch costs, in multiply-adds of one compute unit: some 10 µs; and each partial product, for each element
JOIN, PART = 4_000_000, 35
#: tiles that would each pack the same operand, and elements that are spared, from which on it is packed once for all; and the
#: same of A, where the launch that packs is joined with the product's
REPACKED, REPACKED_JOINED = (3, 1 << 21), (2, 1 << 16)
#: depth from which on a CPU cuts the sum rather than a result of at most so many rows and columns, which fits one tile
LONG, TILE = 4096, 256
#: parts into which a long sum may be cut
SPLITS = (1, 2, 4, 8, 16, 32, 64, 128)


def choose_tile(gemm: Gemm, target: Target, tail: int = 0) -> tuple[dict[str, int], int]:
    """Tile and number of splits of K: the estimate counts rounds of work-groups over the machine, and how busy they keep it.

    Args:
        tail: tensors as large as C that are read where it is stored.
    """
    m, n, k = gemm.sizes
    how, best = lie(gemm), None
    resident, starved = (RESIDENT_GATHERING, STARVED_GATHERING) if how == "window" else (RESIDENT, STARVED)
    for tile in TILES:
        block, area = tile.tm * tile.tn, tile.bm * tile.bn
        if not _holds(target, tile, how, k):
            continue
        tiles = -(-m // tile.bm) * -(-n // tile.bn) * gemm.batch
        wanted = max(1.0, resident * block / area)      # work-groups of a compute unit
        for splits in SPLITS:
            depth = -(-k // splits)
            if splits > 1 and depth < 128:
                break
            rounds = -(-tiles * splits // target.compute_units)
            speed = tile.speeds[how] * min(1.0, rounds / wanted) ** starved
            if how == "window":
                speed *= min(1.0, rounds * area / block / AWAKE_GATHERING)
            end = END * block * (1 + TAIL * tail if splits == 1 else 1)
            cost = rounds * area * (depth + BEGIN + end) / speed
            if splits > 1:  # each partial product is written and read once more, and joining them is one more launch
                cost += splits * m * n * gemm.batch * PART / target.compute_units + JOIN
            if best is None or cost < best[0]:
                best = (cost, tile, splits)
    config = best[1].config
    if target.max_work_group < 1024:        # compilers that spill what they unroll: the template knows
        del config["UNROLL"]
    return config, best[2]


def _holds(target: Target, tile: Tile, how: str, depth: int) -> bool:
    """Whether an item has the registers for a block and what compilers load ahead for it."""
    if target.unified_memory:   # GPUs that share the processor's memory have few, and places in windows take some
        return tile.tn <= 4 and tile.tm * tile.tn <= (16 if how == "window" else 32)
    block = tile.tm * tile.tn
    if target.max_work_group >= 1024:
        return block <= 128
    if tile.stages > 1 and depth <= UNROLLED * tile.bk:     # all steps are unrolled, and all that they read is loaded first
        return False
    return block < 64 or (block == 64 and tile.bm * tile.bn >= 128 * block)     # fewer items hold more of the next tile each


def cpu_splits(gemm: Gemm, target: Target) -> int:
    """Splits of K so that every core has work. Long sums are cut rather than a C that fits a tile, as each of several tiles would
    pack A and B anew."""
    m, n, k = gemm.sizes
    rows, cols, least = (m, n, 1024) if k >= LONG and max(m, n) <= TILE else (48, 16, 512)
    tiles = -(-m // rows) * -(-n // cols) * gemm.batch
    splits = 1
    while tiles * splits < 2 * target.compute_units and k // (2 * splits) >= least:
        splits *= 2
    return splits


def vector_splits(gemm: Gemm, target: Target) -> int:
    """Splits of K so that some work-groups on every compute unit read the matrix, each a good piece of it."""
    _, n, k = gemm.sizes
    groups = -(-n // (4 if gemm.b.row_contiguous else 128)) * gemm.batch
    splits = 1
    while groups * splits < 4 * target.compute_units and k // (2 * splits) >= 512:
        splits *= 2
    return splits


def prepack(context: Context, problem: dict, a: Operand, b: Operand, config: dict[str, int],
            label: str) -> tuple[dict[str, int], Operand, Operand]:
    """Launch what packs A, or B, or both once, where the tiles of ``gemm/packed`` would pack them over and over.

    Changes their views in ``problem``; returns the tunables that fit, and where A and B lie then.
    """
    given = config | context.tunables("gemm/packed")

    def tunables(problem: dict) -> SimpleNamespace:
        return SimpleNamespace(**declaration("gemm/packed").defaults(SimpleNamespace(**problem), context.target) | given)

    t = tunables(problem)
    batch, widths = problem["batch"], {"a": t.MR, "b": 16 * t.NV}
    views = {"a": problem["a"].transposed, "b": problem["b"]}
    lies = {name: panels(*view.shape, widths[name], batch > 1) for name, view in views.items()}
    tiles = {"a": t, "b": t}
    short = joins(context.target) and 2 * problem["M"] * problem["N"] * problem["K"] * batch <= SHORT_FLOPS

    def pays(name: str) -> bool:
        times = -(-problem["N"] // tiles["a"].NC) if name == "a" else -(-problem["M"] // tiles["b"].MC)
        spared = (times - 1) * math.prod(views[name].shape) * batch
        least_times, least_spared = REPACKED_JOINED if name == "a" and short else REPACKED
        return times >= least_times and spared >= least_spared and not (name == "a" and problem["a"].straight)

    def scratch(names: str) -> int:
        return 4 * batch * sum(math.prod(lies[name].shape) for name in names)

    can = "".join(name for name in "ab" if views[name].window is None)
    if "a" in can and pays("a"):        # with A in panels other tiles are best, which may pack B less often
        tiles["b"] = tunables(problem | {"a": lies["a"].transposed})
    worth = "".join(filter(pays, can))
    default = worth if worth and scratch(worth) <= context.workspace else "none"
    choice = context.choice(f"prepack{label}", default, tuple(filter(None, ("none", can, *can))))
    taken = "" if choice == "none" else choice
    context.check_workspace(scratch(taken))
    where = {"a": a, "b": b}
    for name in taken:
        view, width = views[name], widths[name]
        rows, cols = view.shape
        made = context.scratch((batch, lies[name].shape[1] // width, rows, width))
        context.launch("gemm/pack", {"rows": rows, "cols": cols, "batch": batch, "x": view, "width": width},
                       {"x": where[name]}, {"panels": made})
        where[name] = made
        problem[name] = lies[name].transposed if name == "a" else lies[name]
    return (config | {"MR": t.MR, "NV": t.NV} if taken else config), where["a"], where["b"]


SPLITTERS = {"packed": cpu_splits, "vector": vector_splits}


def launch_gemm(
    context: Context,
    kind: str,
    gemm: Gemm,
    a: Operand,
    b: Operand,
    c: Operand,
    row_sum: Operand | None = None,
    tunables: dict[str, int] | None = None,
    label: str = "",
) -> None:
    """Append the launches of ``gemm`` by the template ``kind``: packed, tiled, vector or simple.

    ``tunables`` go over those chosen here. ``label`` ends the names of the choices, where one operator makes several products.
    """
    gemm = replace(gemm, a=gemm.a.flattened, b=gemm.b.flattened, c=gemm.c.flattened)
    if kind == "packed" and row_sum is None and gemm.c.row_contiguous:
        # Cᵀ = Bᵀ Aᵀ, which is stored, and mostly read, along memory
        gemm, a, b = Gemm(gemm.b.transposed, gemm.a.transposed, gemm.c.transposed, gemm.batch), b, a
    if kind == "vector" and gemm.sizes[1] < gemm.sizes[0]:
        # Cᵀ = Bᵀ Aᵀ: the vector, or the few of them, come first
        gemm, a, b = Gemm(gemm.b.transposed, gemm.a.transposed, gemm.c.transposed, gemm.batch), b, a
    m, n, k = gemm.sizes
    problem = {"M": m, "N": n, "K": k, "batch": gemm.batch, "a": gemm.a, "b": gemm.b, "c": gemm.c}
    sums = {} if row_sum is None else {"row_sum": row_sum}
    if kind == "simple":
        context.launch("gemm/simple", problem, {"a": a, "b": b}, {"c": c, **sums})
        return
    if kind == "vector" and row_sum is not None:
        raise LoweringError("adds up no rows beside the product")
    if kind == "tiled":
        config, splits = choose_tile(gemm, context.target, context.tail if c.kind == "out" else 0)
    else:
        config, splits = {}, SPLITTERS[kind](gemm, context.target)
    config = config | (tunables or {})
    problem["splits"] = splits = context.choice(
        f"splits{label}", splits, tuple(s for s in SPLITS if s == 1 or k // s >= 16)
    )
    board = {}
    if kind == "packed":
        problem["cores"] = context.target.compute_units
        problem["prefetch"] = context.target.has("prefetch")
        config, a, b = prepack(context, problem, a, b, config, label)
        board = {"board": context.board(2)}
    if splits == 1:
        context.launch(f"gemm/{kind}", problem, {"a": a, "b": b}, {"c": c, **sums, **board}, config)
        return
    problem["c"] = matrix(m, n, n, 1, m * n)
    part = context.scratch((gemm.batch * splits, m, n))
    part_sum = {} if row_sum is None else {"part_sum": context.scratch((gemm.batch * splits, m))}
    context.launch(f"gemm/{kind}", problem, {"a": a, "b": b},
                   {"c": part, **({"row_sum": part_sum["part_sum"]} if sums else {}), **board}, config)
    context.launch(
        "gemm/join",
        {"M": m, "N": n, "batch": gemm.batch, "splits": splits, "c": gemm.c},
        {"part": part, **part_sum},
        {"c": c, **sums},
    )


def refuse_packed(op, inputs, outputs, target: Target) -> str | None:
    return None if target.is_cpu else "is made for CPUs"


def refuse_tiled(op, inputs, outputs, target: Target) -> str | None:
    return "barriers between many items are slow on CPUs" if target.is_cpu else None


def refuse_vector(op, inputs, outputs, target: Target) -> str | None:
    """Where the kernel for few rows or columns, which is bound by reading the matrix, is not the best."""
    if target.is_cpu:
        return "barriers between many items are slow on CPUs"
    least = min(outputs[0].shape[-2:])
    return f"{least} rows or columns make a matrix" if least > FEW else None


def main_kind(target: Target) -> str:
    """The GEMM template for big products on this kind of device."""
    return "packed" if target.is_cpu else "tiled"
