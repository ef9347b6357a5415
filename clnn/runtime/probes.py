"""What a device can really do: a feature is on when a tiny kernel that uses it was built, run and gave the right numbers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from ..config import config
from ..target import Target
from .opencl import cl

#: feature -> (source, expected result); every kernel is called ``probe`` and writes 64 floats, in one work-group of 64
PROBES: dict[str, tuple[str, np.ndarray]] = {
    "fp16": (
        """
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
__kernel void probe(__global float* y) { int i = get_local_id(0); half h = (half)i; y[i] = (float)(h * (half)0.5f + (half)1.0f); }
""",
        np.arange(64) * 0.5 + 1,
    ),
    "fp64": (
        """
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
__kernel void probe(__global float* y) { int i = get_local_id(0); double d = 1.0 + i * 1e-12; y[i] = (float)((d - 1.0) * 1e12); }
""",
        np.round((1.0 + np.arange(64) * 1e-12 - 1.0) * 1e12, 6),
    ),
    "subgroups": (
        """
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
__kernel void probe(__global float* y)
{
    y[get_local_id(0)] = sub_group_reduce_add(1.0f) == (float)get_sub_group_size();
}
""",
        np.ones(64),
    ),
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


def _works(handle, source: str, expected: np.ndarray) -> bool:
    api = cl()
    try:
        context = api.Context([handle])
        queue = api.CommandQueue(context)
        program = api.Program(context, source).build(options=["-cl-std=CL2.0"] if "sub_group" in source else [])
        result = np.full(64, np.nan, np.float32)
        buffer = api.Buffer(context, api.mem_flags.READ_WRITE, result.nbytes)
        kernel = api.Kernel(program, "probe")
        kernel.set_args(buffer)
        api.enqueue_nd_range_kernel(queue, kernel, (64,), (64,))
        api.enqueue_copy(queue, result, buffer)
        queue.finish()
    except (api.Error, RuntimeError):
        return False
    return bool(np.allclose(result, expected, rtol=1e-4))


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
    text = repr((facts.platform, facts.version, facts.name, facts.driver, sorted((k, v[0]) for k, v in PROBES.items())))
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    recorded = _recorded()
    if key not in recorded:
        with _silent():
            recorded[key] = sorted(name for name, (source, expected) in PROBES.items() if _works(handle, source, expected))
        _save(recorded)
    return frozenset(recorded[key])


def _save(recorded: dict[str, list[str]]) -> None:
    path = _store()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(recorded, file)
        os.replace(file.name, path)
    except OSError:
        pass  # a read-only home only means probing again
