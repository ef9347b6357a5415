"""How the kernel ``conv/winograd_fused`` shares out a Winograd convolution among the items of a GPU's work-groups."""

from __future__ import annotations

from types import SimpleNamespace

from ..target import Target


def tiles(p: SimpleNamespace) -> int:
    """Tiles of all images."""
    return p.N * p.rows * p.cols


def items(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Of a work-group."""
    return len(p.images) ** 2 // t.SHARE * (t.OUTS // t.TK) * (t.TILES // t.TT)


def loads(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Tiles that an item loads for each step in depth; with fewer tiles than items some load none."""
    return -(-t.TILES * t.DEPTH // items(p, t))


def staged(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Floats of tiles and filters for a step in depth."""
    return len(p.images) ** 2 * t.DEPTH * (t.OUTS + t.TILES)


def meeting(p: SimpleNamespace, t: SimpleNamespace, channels: int) -> int:
    """Floats of local memory in which the products of so many channels of each item meet."""
    return len(p.images) ** 2 * (t.OUTS // t.TK) * channels * (t.TILES + 4)


def round_of(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Channels of an item whose products meet at a time: as many as find room where tiles and filters were."""
    return next((n for n in (4, 2) if meeting(p, t, n) <= t.STAGES * staged(p, t)), 1)


def local_bytes(p: SimpleNamespace, t: SimpleNamespace) -> int:
    return 4 * max(t.STAGES * staged(p, t), meeting(p, t, round_of(p, t)))


def choose(p: SimpleNamespace, target: Target) -> dict[str, int]:
    """Two steps in depth in local memory, where they fit. Compilers for devices of small work-groups load the operands of all the
    channels that they see, and spill them."""
    outs = 64 if p.outs % 64 == 0 else 32
    twice = local_bytes(p, SimpleNamespace(OUTS=outs, TILES=32, DEPTH=4, STAGES=2, TK=8, TT=8)) <= target.local_memory
    return {"OUTS": outs, "STAGES": 2 if twice else 1, **({} if target.max_work_group >= 1024 else {"UNROLL": 1})}
