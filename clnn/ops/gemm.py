"""How a product of two matrix views is launched; matrix products and all directions of a convolution share it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..codegen.lowering import Context, Operand
from ..codegen.views import View, matrix
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


#: (BM, BN, BK, TM, TN) and the share of the peak that a full machine reaches with it, as a guide for choosing
TILES = (
    ((128, 128, 16, 8, 8), 1.0),
    ((64, 128, 16, 8, 8), 0.9),
    ((128, 64, 16, 8, 8), 0.9),
    ((128, 64, 16, 8, 4), 0.85),
    ((64, 128, 16, 4, 8), 0.75),
    ((64, 64, 16, 8, 4), 0.75),
    ((128, 32, 16, 8, 4), 0.65),
    ((32, 128, 16, 4, 8), 0.65),
    ((64, 64, 16, 4, 4), 0.55),
    ((32, 64, 16, 2, 4), 0.4),
    ((64, 32, 16, 4, 2), 0.4),
    ((32, 32, 16, 2, 2), 0.25),
    ((16, 32, 32, 1, 2), 0.15),
)

#: items that a compute unit needs at once to hide what its loads take, and how its speed falls with fewer
RESIDENT, STARVED = 512, 0.6
#: most rows, or columns, that make a product one of vectors
FEW = 4
#: what a further launch costs, in multiply-adds of one compute unit: some 10 µs
JOIN = 4_000_000
#: sums that keep blocks of 16 × 8 busy
LONG = 1024
#: parts into which a long sum may be cut
SPLITS = (1, 2, 4, 8, 16, 32, 64, 128)


def choose_tile(gemm: Gemm, target: Target) -> tuple[dict[str, int], int]:
    """Tile and number of splits of K: the estimate counts rounds of work-groups over the machine, and how busy they keep it."""
    m, n, k = gemm.sizes
    best = None
    # GPUs that share the processor's memory have few registers, and places in windows take some
    most = (16 if gemm.a.window or gemm.b.window else 32) if target.unified_memory else 64
    for (bm, bn, bk, tm, tn), efficiency in TILES:
        if tm * tn > most or (target.unified_memory and tn > 4):
            continue
        tiles = -(-m // bm) * -(-n // bn) * gemm.batch
        wanted = max(1, RESIDENT * tm * tn // (bm * bn))      # work-groups of a compute unit
        for splits in SPLITS:
            depth = -(-k // splits)
            if splits > 1 and depth < 8 * bk:
                break
            rounds = -(-tiles * splits // target.compute_units)
            speed = efficiency * min(1.0, rounds / wanted) ** STARVED
            cost = rounds * bm * bn * (depth + 2 * tm * tn) / speed       # of a block, its ends take as long as some steps
            if splits > 1:  # each partial product is written and read once more, and joining them is one more launch
                cost += splits * m * n * gemm.batch * 60 / target.compute_units + JOIN
            if best is None or cost < best[0]:
                best = (cost, {"BM": bm, "BN": bn, "BK": bk, "TM": tm, "TN": tn}, splits)
    return best[1] | large_tile(gemm, target, best[1]), best[2]


def large_tile(gemm: Gemm, target: Target, tile: dict[str, int]) -> dict[str, int]:
    """What suits large plain matrices better than the tile of 128 × 128, by which sides are staged as they lie in memory.

    Measured on a GPU with 132 units in 2026-11 for 4096³.
    """
    m, n, k = gemm.sizes
    plain = gemm.a.window is None and gemm.b.window is None and (tile["BM"], tile["BN"]) == (128, 128)
    if not plain or k < LONG or target.max_work_group < 1024 or gemm.a.row_contiguous:      # an A that is staged as it lies
        return {}
    if gemm.b.row_contiguous:
        return {"BK": 8, "TM": 16, "UNROLL": 8, "STAGES": 2}
    wide = -(-m // 128) * -(-n // 256) * gemm.batch
    return {"BN": 256, "TM": 16, "UNROLL": 8} if wide >= 2 * target.compute_units else {}


def cpu_splits(gemm: Gemm, target: Target) -> int:
    """Splits of K so that every core has work."""
    m, n, k = gemm.sizes
    tiles = -(-m // 48) * -(-n // 16) * gemm.batch
    splits = 1
    while tiles * splits < 2 * target.compute_units and k // (2 * splits) >= 512:
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
) -> None:
    """Append the launches of ``gemm`` by the template ``kind``: packed, tiled, vector or simple.

    ``tunables`` go over those chosen here.
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
    config, splits = choose_tile(gemm, context.target) if kind == "tiled" else ({}, SPLITTERS[kind](gemm, context.target))
    config = config | (tunables or {})
    problem["splits"] = splits = context.choice(
        "splits", splits, tuple(s for s in SPLITS if s == 1 or k // s >= 16)
    )
    if splits == 1:
        context.launch(f"gemm/{kind}", problem, {"a": a, "b": b}, {"c": c, **sums}, config)
        return
    problem["c"] = matrix(m, n, n, 1, m * n)
    part = context.scratch((gemm.batch * splits, m, n))
    part_sum = {} if row_sum is None else {"part_sum": context.scratch((gemm.batch * splits, m))}
    context.launch(
        f"gemm/{kind}", problem, {"a": a, "b": b}, {"c": part, **({"row_sum": part_sum["part_sum"]} if sums else {})}, config
    )
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
