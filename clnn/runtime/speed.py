"""The peak speeds of a device, found by two tiny kernels and remembered: what estimates and rooflines are made of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from ..config import config
from ..files import replacing
from ..target import Target
from .opencl import cl
from .program import build_source
from .session import Session

#: independent chains of vector multiply-adds keep the pipelines full without leaving the registers. a * x + y rather than mad(),
#: which some drivers call instead of inlining; the float16 parameters make a compiler use registers of that width
MULTIPLY_ADD = """
WIDE chains(WIDE x, WIDE y, WIDE first, int rounds)
{{
    WIDE {declarations};
    for (int r = 0; r < rounds; ++r) {{ {step} }}
    return {total};
}}
__kernel void multiply_add(__global WIDE* out, const float factor, const float start, const int rounds)
{{
    const int i = get_global_id(0);
    out[i] = chains((WIDE)(factor), (WIDE)(start), (WIDE)(i), rounds);
}}
"""
#: neighbouring items copy neighbouring vectors; on CPUs each copies a run of its own, as lines of the cache that several items
#: share would be fetched for each of them
COPY = """
__kernel void copy_turns(__global const float4* restrict from, __global float4* restrict to, const int count)
{
    for (int i = get_global_id(0); i < count; i += get_global_size(0)) to[i] = from[i];
}
__kernel void copy_runs(__global const float4* restrict from, __global float4* restrict to, const int count)
{
    const int run = (count + get_global_size(0) - 1) / get_global_size(0), first = run * get_global_id(0);
    const int last = first + run < count ? first + run : count;
    for (int i = first; i < last; ++i) to[i] = from[i];
}
__kernel void nothing(__global float4* to, const int count) { if (count < 0) to[0] = (float4)(0.0f); }
"""
#: chains of a CPU, which hide the latency of two pipelines and fit into 16 registers
_CPU_CHAINS = 12
#: (floats in a vector, chains) elsewhere
_SHAPES = ((1, 8), (2, 8))
_UNROLLED = 4
#: most passes of the measurement, and how much better one must be to be followed by others
_PASSES, _MORE = 12, 1.03


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second, bytes per second (read and written), and seconds that a launch costs at least."""

    flops: float
    bandwidth: float
    launch: float


@functools.cache
def peak(session: Session) -> Peak:
    """The peak speeds of the session's device, measured once per device and driver; it takes about a second."""
    target = session.target
    known = (target.platform, target.name, target.version, target.driver, MULTIPLY_ADD, COPY, shapes(target))
    key = hashlib.sha256(repr(known).encode()).hexdigest()[:24]
    path = config.cache / "peaks.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return Peak(**json.loads(path.read_text())[key])
    found = _measure(session)
    recorded = {}
    with contextlib.suppress(OSError, ValueError):
        recorded = json.loads(path.read_text())
    recorded = (recorded if isinstance(recorded, dict) else {}) | {key: asdict(found)}
    with contextlib.suppress(OSError), replacing(path) as file:     # a read-only home only means measuring again
        json.dump(recorded, file)
    return found


def shapes(target: Target) -> tuple[tuple[int, int], ...]:
    """(floats in a vector, chains) of the kernels, the fastest of which counts. On CPUs vectors as wide as the registers and half
    as wide, since wide ones may cost clock; wider ones than the registers would make the compiler warn."""
    if not target.is_cpu:
        return _SHAPES
    widest = min(max(target.vector_width, 4), 16)
    return ((widest, _CPU_CHAINS), (max(widest // 2, 4), _CPU_CHAINS))


def multiply_add_source(lanes: int, chains: int) -> str:
    """The program whose kernel ``multiply_add`` does nothing else, with vectors of ``lanes`` floats."""
    names = [f"a{i}" for i in range(chains)]
    wide = f"float{lanes}" if lanes > 1 else "float"
    return MULTIPLY_ADD.format(
        declarations=", ".join(f"{name} = first + {i}.0f" for i, name in enumerate(names)),
        step=" ".join(f"{name} = {name} * x + y;" for name in names * _UNROLLED),
        total=" + ".join(names),
    ).replace("WIDE", wide)


class MultiplyAdd:
    """Counts the multiply-adds that a device does in a second, as two floating-point operations each."""

    def __init__(self, session: Session):
        target = session.target
        self._group = 1 if target.is_cpu else min(256, target.max_work_group)
        self._items = target.compute_units * (8 if target.is_cpu else 16 * self._group)
        self._queue = cl().CommandQueue(session.context, properties=cl().command_queue_properties.PROFILING_ENABLE)
        self._out = session.allocate(4 * 16 * self._items, "speed probe")
        self._kernels = []      # (kernel, operations per item and round)
        for lanes, chains in shapes(target):
            program = build_source(session.context, multiply_add_source(lanes, chains))
            self._kernels.append((cl().Kernel(program, "multiply_add"), 2 * lanes * chains * _UNROLLED))

    def per_second(self, seconds: float = 2e-3, runs: int = 6) -> float:
        """The most that any of the kernels reaches in ``runs`` launches that take ``seconds`` each, or more."""
        best = 0.0
        for kernel, operations in self._kernels:
            rounds = 64
            while (took := self._run(kernel, rounds, 1)) < seconds and rounds < 1 << 24:
                rounds *= 4
            took = min(took, self._run(kernel, rounds, runs))
            best = max(best, operations * rounds * self._items / took)
        return best

    def _run(self, kernel, rounds: int, runs: int) -> float:
        kernel.set_args(self._out, np.float32(0.999), np.float32(0.001), np.int32(rounds))
        return fastest(self._queue, kernel, self._items, self._group, runs)


def fastest(queue, kernel, items: int, group: int, runs: int = 6) -> float:
    """Seconds of the fastest of a few runs, by the device's clock."""
    seconds = []
    for _ in range(runs):
        event = cl().enqueue_nd_range_kernel(queue, kernel, (items,), (group,))
        queue.finish()
        seconds.append(max(event.profile.end - event.profile.start, 1) * 1e-9)
    return min(seconds)


def _measure(session: Session) -> Peak:
    """The best of several passes: others may use the machine for a while."""
    api, target = cl(), session.target
    arithmetic = MultiplyAdd(session)
    program = build_source(session.context, COPY)
    queue = api.CommandQueue(session.context, properties=api.command_queue_properties.PROFILING_ENABLE)
    nbytes = min((64 if target.is_cpu else 256) << 20, target.max_allocation // 4)
    one, other = session.allocate(nbytes, "speed probe"), session.allocate(nbytes, "speed probe")
    api.enqueue_fill_buffer(queue, one, np.float32(1.0), 0, nbytes)     # pages that nobody wrote are one page, which caches hold
    group = 1 if target.is_cpu else min(256, target.max_work_group)

    def kernel(name: str, *arguments):
        made = api.Kernel(program, name)
        made.set_args(*arguments, np.int32(nbytes // 16))
        return made
    name, items = ("copy_runs", target.compute_units) if target.is_cpu else ("copy_turns", target.compute_units * 8 * group)
    copy, nothing = kernel(name, one, other), kernel("nothing", other)

    def measured() -> Peak:
        copied = 2 * nbytes / fastest(queue, copy, items, group)
        return Peak(arithmetic.per_second(), copied, fastest(queue, nothing, group, group))
    return best_of(measured)


def best_of(measured: Callable[[], Peak]) -> Peak:
    """The best speeds of so many passes that the last two brought nothing, or of :data:`_PASSES`."""
    best, idle = measured(), 0
    for _ in range(_PASSES - 1):
        now = measured()
        idle = idle + 1 if now.flops < _MORE * best.flops and now.bandwidth < _MORE * best.bandwidth else 0
        best = Peak(max(best.flops, now.flops), max(best.bandwidth, now.bandwidth), min(best.launch, now.launch))
        if idle == 2:
            break
    return best
