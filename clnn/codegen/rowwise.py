"""What kernels over rows of classes share.

A row begins at ``(row / inner) * extent * inner + row % inner`` and goes on in steps of ``inner``.
"""

from __future__ import annotations

from types import SimpleNamespace

from ..target import Target
from .header import Constraint, Tunable
from .walk import WALK, choose_walk, walk_items

PROBLEM = {"rows": "rows", "extent": "elements of a row", "inner": "step between the elements of a row"}

TUNABLES = (*WALK, Tunable("LANES", (1, 8, 32, 64, 128, 256), 1, 8, "items that share a row; 1 gives each item whole rows"))

CONSTRAINTS = (
    Constraint(lambda p, t, target: t.LANES & (t.LANES - 1) == 0, "the tree needs a power of two of items"),
)

SHARED_FROM = 256       # classes from which a work-group takes a row
HELD = 32               # elements of a row that an item of a GPU keeps
KEPT = 1024             # results of exp that an item of a CPU keeps instead of computing them again


def choose_rows(p: SimpleNamespace, target: Target) -> dict[str, int]:
    shared = p.extent >= SHARED_FROM and not target.is_cpu
    return choose_walk(p.rows, target, cost=16 * p.extent) | {"LANES": (256 if p.extent >= 1024 else 64) if shared else 1}


def row_items(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (p.rows * t.LANES,) if t.LANES > 1 else walk_items(p.rows, t)


def row_group(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (t.LANES if t.LANES > 1 else t.GROUP,)


def row_start(p: SimpleNamespace, row: str) -> str:
    """C text for the offset of a row's first element."""
    if p.inner == 1:
        return f"(index_t){row} * {p.extent}"
    return f"(index_t)({row} / {p.inner}) * {p.extent * p.inner} + {row} % {p.inner}"


def held(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Elements of a row that each of several items holds in registers; 0 where they are too many, or an item has whole rows."""
    count = -(-p.extent // t.LANES)
    return count if t.LANES > 1 and count <= HELD else 0


def keeps(p: SimpleNamespace, t: SimpleNamespace) -> bool:
    """Whether an item keeps the exponentials of a row in private memory."""
    return t.LANES == 1 and t.GROUP == 1 and p.extent <= KEPT
