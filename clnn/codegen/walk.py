"""The tunables and sizes that all kernels over independent elements share; ``kernels/lib/loops.mako`` writes the loop."""

from __future__ import annotations

from types import SimpleNamespace

from ..target import Target
from .header import Tunable

WALK = (
    Tunable("CHUNK", (1, 2, 4, 8, 64, 512, 2048, 8192), 4, 3, "elements that one item computes"),
    Tunable("GROUP", (1, 64, 128, 256), 256, 2, "items of a work-group; 1 on CPUs"),
)


def choose_walk(n: int, target: Target, cost: int = 1) -> dict[str, int]:
    """CHUNK and GROUP for n elements that each cost about as much as ``cost`` additions."""
    if not target.is_cpu:
        return {"CHUNK": 4 if n >= 1 << 20 and cost < 16 else 1, "GROUP": 256 if n >= 256 * target.compute_units else 64}
    share = -(-n // (4 * target.compute_units))
    chunk = 1
    while chunk < min(share, 8192 // min(cost, 64)):
        chunk *= 2
    return {"CHUNK": chunk, "GROUP": 1}


def walk_items(n: int, t: SimpleNamespace) -> tuple[int]:
    """Work-items for n elements."""
    return (max(-(-n // (t.CHUNK * t.GROUP)), 1) * t.GROUP,)


def walk_group(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (t.GROUP,)


def row_items(n: int, inner: int, t: SimpleNamespace) -> tuple[int]:
    """Work-items for n elements in rows of ``inner``; ``kernels/lib/rows.mako`` writes the loop."""
    if t.GROUP > 1:
        return walk_items(n, t)
    return (max(-(-(n // inner) // max(t.CHUNK // inner, 1)), 1),)
