"""The peak speeds of a device, found by two tiny kernels and remembered: what estimates and rooflines are made of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass

import numpy as np

from ..config import config
from .opencl import cl
from .program import build_source
from .session import Session

#: 8 independent chains of vector multiply-adds keep the pipelines full without leaving the registers; a * x + y rather than
#: mad(), which makes the compiler of a common CPU driver abort on float16
SOURCE = """
#define STEP a0 = a0 * x + y; a1 = a1 * x + y; a2 = a2 * x + y; a3 = a3 * x + y; \\
             a4 = a4 * x + y; a5 = a5 * x + y; a6 = a6 * x + y; a7 = a7 * x + y;
__kernel void multiply_add(__global WIDE* out, const float start, const int rounds)
{
    const int i = get_global_id(0);
    const WIDE x = (WIDE)(0.999f), y = (WIDE)(start);
    WIDE a0 = (WIDE)(i), a1 = a0 + 1.0f, a2 = a0 + 2.0f, a3 = a0 + 3.0f;
    WIDE a4 = a0 + 4.0f, a5 = a0 + 5.0f, a6 = a0 + 6.0f, a7 = a0 + 7.0f;
    for (int r = 0; r < rounds; ++r) { STEP STEP STEP STEP }
    out[i] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
}
__kernel void copy(__global const float4* restrict from, __global float4* restrict to, const int count)
{
    for (int i = get_global_id(0); i < count; i += get_global_size(0)) to[i] = from[i];
}
__kernel void nothing(__global float4* to, const int count) { if (count < 0) to[0] = (float4)(0.0f); }
"""
_LANES = {"cpu": 16}        # other kinds: 2
_CHAINS, _UNROLLED = 8, 4


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second, bytes per second (read and written), and seconds that a launch costs at least."""

    flops: float
    bandwidth: float
    launch: float


@functools.cache
def peak(session: Session) -> Peak:
    """The peak speeds of the session's device, measured once per device and driver; it takes well under a second."""
    target = session.target
    key = hashlib.sha256(repr((target.platform, target.name, target.driver, SOURCE)).encode()).hexdigest()[:24]
    path = config.cache / "peaks.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return Peak(**json.loads(path.read_text())[key])
    found = _measure(session)
    recorded = {}
    with contextlib.suppress(OSError, ValueError):
        recorded = json.loads(path.read_text())
    recorded = (recorded if isinstance(recorded, dict) else {}) | {key: asdict(found)}
    with contextlib.suppress(OSError):      # a read-only home only means measuring again
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(recorded, file)
        os.replace(file.name, path)
    return found


def _measure(session: Session) -> Peak:
    api, target = cl(), session.target
    lanes = _LANES.get(target.kind, 2)
    program = build_source(session.context, SOURCE.replace("WIDE", f"float{lanes}"))
    queue = api.CommandQueue(session.context, properties=api.command_queue_properties.PROFILING_ENABLE)

    def best(name: str, items: int, group: int, *arguments) -> float:
        """Seconds of the fastest of a few runs."""
        kernel = api.Kernel(program, name)
        kernel.set_args(*arguments)
        seconds = []
        for _ in range(6):
            event = api.enqueue_nd_range_kernel(queue, kernel, (items,), (group,))
            queue.finish()
            seconds.append(max(event.profile.end - event.profile.start, 1) * 1e-9)
        return min(seconds)

    group = 1 if target.is_cpu else min(256, target.max_work_group)
    items = target.compute_units * (8 if target.is_cpu else 16 * group)
    nbytes = min((64 if target.is_cpu else 256) << 20, target.max_allocation // 4)
    one, other = session.allocate(max(nbytes, 4 * lanes * items), "speed probe"), session.allocate(nbytes, "speed probe")
    rounds = 64
    while (seconds := best("multiply_add", items, group, one, np.float32(0.001), np.int32(rounds))) < 2e-3 and rounds < 1 << 20:
        rounds *= 4
    flops = 2 * lanes * _CHAINS * _UNROLLED * rounds * items / seconds
    count = nbytes // 16
    walkers = target.compute_units * (4 if target.is_cpu else 8 * group)
    moved = 2 * nbytes / best("copy", walkers, group, one, other, np.int32(count))
    launch = best("nothing", group, group, other, np.int32(count))
    return Peak(flops, moved, launch)
