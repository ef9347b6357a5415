"""How the kernel ``conv/winograd_fused`` shares out a Winograd convolution among the items of a GPU's work-groups."""

from __future__ import annotations

from types import SimpleNamespace

from ..target import Target


def items(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Of a work-group."""
    return len(p.images) ** 2 // t.SHARE * (t.OUTS // t.TK) * (t.TILES // t.TT)


def loads(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Tiles that an item loads for each step in depth; with fewer tiles than items some load none."""
    return -(-t.TILES * t.DEPTH // items(p, t))


def staged(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Floats of tiles and filters for a step in depth."""
    return len(p.images) ** 2 * t.DEPTH * (t.OUTS + t.TILES)


def pitch(t: SimpleNamespace) -> int:
    """From a channel to the next where products meet: not a multiple of the banks of local memory."""
    return t.TILES + 4


def meeting(p: SimpleNamespace, t: SimpleNamespace, channels: int) -> int:
    """Floats of local memory in which the products of so many channels of each item meet."""
    return len(p.images) ** 2 * (t.OUTS // t.TK) * channels * pitch(t)


def round_of(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Channels of an item whose products meet at a time: as many as find room where tiles and filters were."""
    return next((n for n in (4, 2) if meeting(p, t, n) <= t.STAGES * staged(p, t)), 1)


def local_bytes(p: SimpleNamespace, t: SimpleNamespace) -> int:
    return 4 * max(t.STAGES * staged(p, t), meeting(p, t, round_of(p, t)))


def choose(p: SimpleNamespace, target: Target) -> dict[str, int]:
    """Two steps in depth in local memory, where they fit. Compilers for devices of small work-groups load the operands of all the
    channels that they see, and spill them."""
    t = {"OUTS": 64 if p.outs % 64 == 0 else 32, "TILES": 32, "DEPTH": 4, "STAGES": 2, "TK": 8, "TT": 8}
    if local_bytes(p, SimpleNamespace(**t)) > target.local_memory:
        t["STAGES"] = 1
    if target.max_work_group < 1024:
        t["UNROLL"] = 1
    return t
