"""What kernels that reduce over every axis but the channel share: how the work is cut.

A tensor is seen as (outer, C, inner): element (o, c, i) lies at ``(o * C + c) * inner + i``. That fits NCHW (outer = N,
inner = H·W) as well as NHWC and matrices (inner = 1). ``outer`` is cut into ``parts`` of ``span``, which are joined by a second,
small launch in a fixed order. ``kernels/lib/channels.mako`` writes the loops.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

from ..ir import NHWC, TensorSpec
from ..target import Target
from .header import Constraint, Tunable

PROBLEM = {"C": "channels", "outer": "extent of the axes before the channel", "inner": "extent of the axes behind it",
           "parts": "parts of the outer extent", "span": "outer extent of each part"}

TUNABLES = (
    Tunable("VECTOR", (1, 2, 4, 8, 16), 1, 1, "elements of a plane, or channels where inner is 1, that one item adds at once"),
    Tunable("LANES", (1, 8, 32, 64, 128, 256, 512), 64, 8, "items that share a channel; 1 on CPUs"),
    Tunable("CHANNELS", (1, 8, 16, 32), 1, 3, "channels of a work-group"),
)


def _fits(vector: int, p: SimpleNamespace) -> bool:
    return p.inner >= vector if p.inner > 1 else p.C % vector == 0


CONSTRAINTS = (
    Constraint(lambda p, t, target: t.LANES & (t.LANES - 1) == 0, "the tree needs a power of two of items"),
    Constraint(lambda p, t, target: t.LANES > 1 or t.CHANNELS == 1, "an item of its own takes one channel or one vector of them"),
    Constraint(lambda p, t, target: t.VECTOR == 1 or t.LANES == 1, "items that share a channel read single elements"),
    Constraint(lambda p, t, target: _fits(t.VECTOR, p),
               "the vector does not fit the tensor"),
)

MOST_PARTS = 128


def split_channels(x: TensorSpec) -> tuple[int, int, int]:
    """(C, outer, inner) of a tensor whose axis 1 is the channel."""
    inner = math.prod(x.shape[2:])
    return (x.shape[1], x.shape[0] * inner, 1) if x.layout == NHWC else (x.shape[1], x.shape[0], inner)


def channel_problem(x: TensorSpec, target: Target) -> dict[str, int]:
    """The problem constants for a reduction of ``x`` to its channels, with as many parts as keep the device busy."""
    channels, outer, inner = split_channels(x)
    groups = channels if inner > 1 else -(-channels // (16 if target.is_cpu else 32))
    wanted = -(-4 * target.compute_units // max(groups, 1))
    worthwhile = outer * inner // (256 if target.is_cpu else 1024)
    span = -(-outer // max(1, min(wanted, worthwhile, outer, MOST_PARTS)))
    return {"C": channels, "outer": outer, "inner": inner, "parts": -(-outer // span), "span": span}


def choose_channels(p: SimpleNamespace, target: Target) -> dict[str, int]:
    if target.is_cpu:
        vector = next(v for v in (16, 8, 4, 2, 1) if _fits(v, p))
        return {"VECTOR": vector, "LANES": 1, "CHANNELS": 1}
    items, across = 256 if p.span * p.inner >= 2048 else 64, channels_across(p.C, p.inner)
    return {"VECTOR": 1, "LANES": items // across, "CHANNELS": across}


def channels_across(channels: int, inner: int) -> int:
    """Channels of a work-group other than a CPU's: neighbours in memory, if their elements are."""
    return 1 if inner > 1 else next((c for c in (32, 16, 8) if c <= channels), 1)


def channel_blocks(p: SimpleNamespace, t: SimpleNamespace) -> int:
    """Work-groups that one part takes."""
    return -(-p.C // (t.CHANNELS if t.LANES > 1 else t.VECTOR if p.inner == 1 else 1))


def channel_items(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (channel_blocks(p, t) * p.parts * t.LANES * t.CHANNELS,)


def channel_group(p: SimpleNamespace, t: SimpleNamespace) -> tuple[int]:
    return (t.LANES * t.CHANNELS,)


def load(pointer: str, at: str, vector: int) -> str:
    """C text for the vector that begins at an element; the type is declared by ``channels:locate``."""
    return f"{pointer}[{at}]" if vector == 1 else f"(*(const __global loose_t*)({pointer} + {at}))"


def component(name: str, number: int, vector: int) -> str:
    """C text for one component of a vector variable, which is a plain float where ``vector`` is 1."""
    return name if vector == 1 else f"{name}.s{'0123456789abcdef'[number]}"
