"""What a device can really do: a feature is on when a tiny kernel that uses it was built, run and gave the right numbers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import config
from ..files import replacing
from ..target import Target
from .opencl import cl


class Probe(NamedTuple):
    """A kernel called ``probe`` that writes 64 floats, and what they must be.

    Behind the 64 floats lie :data:`SPARE` more, zeros at first, for its own use. It runs in one work-group of ``items``, or in
    ``per_unit`` times as many as there are compute units.
    """

    source: str
    expected: np.ndarray
    items: int = 64
    per_unit: int = 0


SPARE = 128


def _meeting(registers: int, local: int, per_unit: int) -> Probe:
    """Whether work-groups of 512 items that hold so many numbers each run at a time: they wait for each other, though not for
    ever."""
    return Probe(f"""
__kernel void probe(__global float* y)
{{
    volatile __global int* arrived = (volatile __global int*)(y + 64);
    const int item = get_local_id(0), groups = get_num_groups(0);
    __local float close[{512 * max(local, 1)}], sums[3 * 512];
    float held[{registers}], sum = 0.0f;
    for (int i = 0; i < {registers}; ++i) held[i] = y[65 + (item + 3 * i) % 32];
    for (int i = 0; i < {local}; ++i) close[i * 512 + item] = y[65 + (item + i) % 32];
    sums[item] = sums[item + 512] = sums[item + 1024] = y[65 + item % 32];
    if (item == 0) {{
        atomic_inc(arrived);
        for (int tries = 0; atomic_or(arrived, 0) < groups && tries < (1 << 16); ++tries);
    }}
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (int i = 0; i < {registers}; ++i) sum += held[i] * i;
    for (int i = 0; i < {local}; ++i) sum += close[i * 512 + (item + i) % 512];
    for (int i = 0; i < 3; ++i) sum += sums[i * 512 + (item + 1) % 512];
    if (get_group_id(0) == 0 && item < 64) y[item] = (atomic_or(arrived, 0) == groups) + sum;
}}
""", np.ones(64), 512, per_unit)


PROBES: dict[str, Probe] = {
    "fp16": Probe(
        """
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
__kernel void probe(__global float* y) { int i = get_local_id(0); half h = (half)i; y[i] = (float)(h * (half)0.5f + (half)1.0f); }
""",
        np.arange(64) * 0.5 + 1,
    ),
    "fp64": Probe(
        """
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
__kernel void probe(__global float* y) { int i = get_local_id(0); double d = 1.0 + i * 1e-12; y[i] = (float)((d - 1.0) * 1e12); }
""",
        np.round((1.0 + np.arange(64) * 1e-12 - 1.0) * 1e12, 6),
    ),
    "subgroups": Probe(
        """
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
__kernel void probe(__global float* y)
{
    y[get_local_id(0)] = sub_group_reduce_add(1.0f) == (float)get_sub_group_size();
}
""",
        np.ones(64),
    ),
    # CPUs only: other compilers may stop at the function
    "prefetch": Probe(
        """
#if !defined(__x86_64__) && !defined(__aarch64__)
#error no CPU of a kind that this was tried on
#endif
__kernel void probe(__global float* y)
{
    __builtin_prefetch((const void*)(size_t)(y + 64));
    y[get_local_id(0)] = get_local_id(0);
}
""",
        np.arange(64.0),
    ),
    # As many work-groups of 512 items that hold 32 numbers each as there are compute units run at a time; and twice as many that
    # hold 20, and as many in local memory.
    "resident": _meeting(32, 0, 1),
    "resident_twice": _meeting(20, 20, 2),
}


@contextlib.contextmanager
def _silent():
    """Compilers print what they think of a probe straight to the terminal; nobody needs to see it."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _works(handle, probe: Probe) -> bool:
    api = cl()
    try:
        context = api.Context([handle])
        queue = api.CommandQueue(context)
        program = api.Program(context, probe.source).build(options=["-cl-std=CL2.0"] if "sub_group" in probe.source else [])
        result = np.concatenate([np.full(64, np.nan, np.float32), np.zeros(SPARE, np.float32)])
        buffer = api.Buffer(context, api.mem_flags.READ_WRITE | api.mem_flags.COPY_HOST_PTR, hostbuf=result)
        kernel = api.Kernel(program, "probe")
        kernel.set_args(buffer)
        groups = max(handle.max_compute_units * probe.per_unit, 1)
        api.enqueue_nd_range_kernel(queue, kernel, (probe.items * groups,), (probe.items,))
        api.enqueue_copy(queue, result, buffer)
        queue.finish()
    except (api.Error, RuntimeError):
        return False
    return bool(np.allclose(result[:64], probe.expected, rtol=1e-4))


def _store() -> Path:
    return config.cache / "probes.json"


def _recorded() -> dict[str, list[str]]:
    try:
        found = json.loads(_store().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def probe(handle, facts: Target) -> frozenset[str]:
    """The features that work on this device; remembered by device, driver and probe text."""
    sources = sorted((name, probe.source) for name, probe in PROBES.items())
    text = repr((facts.platform, facts.version, facts.name, facts.driver, sources))
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    recorded = _recorded()
    if key not in recorded:
        with _silent():
            recorded[key] = sorted(name for name, probe in PROBES.items() if _works(handle, probe))
        _save(recorded)
    return frozenset(recorded[key])


def _save(recorded: dict[str, list[str]]) -> None:
    with contextlib.suppress(OSError), replacing(_store()) as file:     # a read-only home only means probing again
        json.dump(recorded, file)
