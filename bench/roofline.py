"""What the device can do at best: fp32 multiply-adds by a kernel that does nothing else, and a copy of memory."""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np

from clnn.runtime.opencl import cl
from clnn.runtime.program import build_source
from clnn.runtime.session import Session
from clnn.runtime.speed import MultiplyAdd

_COPIES = """
kernel void copy_items(global const float4* x, global float4* y) { y[get_global_id(0)] = x[get_global_id(0)]; }
kernel void copy_chunks(global const float* restrict x, global float* restrict y) {
    const size_t first = get_global_id(0) * CHUNK;
    for (int i = 0; i < CHUNK; ++i) y[first + i] = x[first + i];
}
float16 sum(global const float16* x, float16 a, float16 b, float16 c, float16 d) {
    for (int i = 0; i < CHUNK / 16; i += 4) { a += x[i]; b += x[i + 1]; c += x[i + 2]; d += x[i + 3]; }
    return (a + b) + (c + d);
}
kernel void read_chunks(global const float16* x, global float16* y) {
    const float16 none = (float16)(0.0f), total = sum(x + get_global_id(0) * (CHUNK / 16), none, none, none, none);
    if (total.s0 == 12345.0f) y[0] = total;
}
kernel void read_items(global const float4* x, global float4* y) {
    const size_t step = get_global_size(0), first = get_global_id(0);
    const float4 total = (x[first] + x[first + step]) + (x[first + 2 * step] + x[first + 3 * step]);
    if (total.x == 12345.0f) y[0] = total;
}
"""
_CHUNK = 8192
#: bytes touched by one run, for which the caches' bandwidth is measured
_WORKING_SETS = (1 << 20, 4 << 20, 16 << 20, 64 << 20)


class Roofline:
    """Peaks of one device, measured when first asked for, or as given by the user.

    Args:
        peaks: precision → GFLOP/s; replaces and adds to the measured fp32.
        bandwidth: GB/s, read and written bytes together; replaces the measured copies.
    """

    def __init__(self, session: Session, peaks: dict[str, float], bandwidth: float | None):
        self.session, self._peaks, self._bandwidth = session, dict(peaks), bandwidth
        self._copies: dict[int, float] = {}
        self._cached: dict[int, float] = {}
        self.sources = {name: "given" for name in peaks} | ({"bandwidth": "given"} if bandwidth else {})
        self._adders: MultiplyAdd | None = None
        self._program = build_source(session.context, _COPIES.replace("CHUNK", str(_CHUNK)))

    def _seconds(self, enqueue, rounds: int) -> float:
        """The best of several rounds of about 20 ms."""
        session = self.session

        def once(repeats: int) -> float:
            session.finish()
            start = time.perf_counter()
            for _ in range(repeats):
                enqueue()
            session.finish()
            return (time.perf_counter() - start) / repeats
        once(1)
        repeats = max(1, min(1000, int(0.02 / max(once(2), 1e-7))))
        return min(once(repeats) for _ in range(rounds))

    def peak(self, precision: str) -> float | None:
        """GFLOP/s; measured for fp32, None for others that were not given."""
        if precision == "fp32" and precision not in self._peaks:
            self.look_again()
        return self._peaks.get(precision)

    def look_again(self) -> None:
        """Measure the fp32 peak, and keep it if it is the highest so far: a busy or throttled moment must not lower the roof."""
        if self.sources.get("fp32") == "given":
            return
        self._adders = self._adders or MultiplyAdd(self.session)
        found = self._adders.per_second(5e-3, 8) / 1e9
        self._peaks["fp32"] = max(found, self._peaks.get("fp32", 0.0))
        self.sources["fp32"] = "measured with kernels of fp32 multiply-adds"

    def bandwidth(self, nbytes: int | None = None) -> float:
        """GB/s of the best copy of a tensor of ``nbytes`` bytes (a large one by default), rotating past the caches."""
        if self._bandwidth:
            return self._bandwidth
        nbytes = nbytes or 2 * cache_bytes(self.session)
        chunk = 4 * _CHUNK
        nbytes = max(chunk, nbytes // chunk * chunk)
        if nbytes not in self._copies:
            self._copies[nbytes] = 2 * nbytes / self._fastest(self._ways(nbytes, self._pairs(nbytes, rotating=True))) / 1e9
            self.sources["bandwidth"] = "measured with the best of several ways to copy a tensor"
        return self._copies[nbytes]

    def reach(self, nbytes: int) -> float:
        """GB/s that no work can pass which touches ``nbytes`` bytes in each run, always the same: the best of copies and of plain
        reading, in whatever cache holds them, and from memory."""
        if self._bandwidth:
            return self._bandwidth
        if not self._cached:
            self._cached = {size: self._measure_cached(size) for size in (*_WORKING_SETS, 2 * cache_bytes(self.session))}
        slower = [rate for size, rate in self._cached.items() if 2 * size > nbytes]
        return max(self.bandwidth(), *slower, list(self._cached.values())[-1])

    def _pairs(self, nbytes: int, rotating: bool) -> list[tuple]:
        session = self.session
        count = max(1, min(64, -(-cache_bytes(session) // (2 * nbytes)))) if rotating else 1
        pairs = [(session.allocate(nbytes, "copy"), session.allocate(nbytes, "copy")) for _ in range(count)]
        ones = np.ones(nbytes // 4, np.float32)
        for pair in pairs:
            for buffer in pair:
                session.upload(buffer, ones)
        return pairs

    def _launcher(self, name: str, pairs: list[tuple], items: int):
        """What enqueues a kernel on the next pair of buffers."""
        kernels = []
        for pair in pairs:
            kernel = cl().Kernel(self._program, name)
            kernel.set_args(*pair)
            kernels.append(kernel)
        turns, local = itertools.cycle(kernels), 1 if name.endswith("chunks") else 256
        return lambda: cl().enqueue_nd_range_kernel(self.session.queue, next(turns), (items,), (local,))

    def _ways(self, nbytes: int, pairs: list[tuple]) -> list:
        """Ways to copy a tensor."""
        turns = itertools.cycle(pairs)

        def copy_buffer():
            source, destination = next(turns)
            cl().enqueue_copy(self.session.queue, destination, source)
        found = [copy_buffer, self._launcher("copy_chunks", pairs, nbytes // 4 // _CHUNK)]
        if not self.session.target.is_cpu:
            found.append(self._launcher("copy_items", pairs, nbytes // 16))
        return found

    def _fastest(self, ways: list) -> float:
        return min(self._seconds(way, 4) for way in ways)

    def _measure_cached(self, working_set: int) -> float:
        half = working_set // 2
        pairs = self._pairs(half, rotating=False)
        copied = working_set / self._fastest(self._ways(half, pairs))
        pairs = [(self._pairs(working_set, rotating=False)[0][0], pairs[0][1])]
        reader = ("read_chunks", working_set // 4 // _CHUNK) if self.session.target.is_cpu else ("read_items", working_set // 64)
        read = working_set / self._seconds(self._launcher(reader[0], pairs, reader[1]), 4)
        return max(copied, read) / 1e9

    def bound(self, flops: int, nbytes: int, precision: str, tensor: int | None = None) -> float | None:
        """Seconds below which no kernel of this work can stay; None where the peak is not known.

        Args:
            tensor: bytes of the tensor whose copy is the measure, for work that rotates past the caches.
        """
        peak = self.peak(precision)
        moved = nbytes / (self.bandwidth(tensor) if tensor else self.reach(nbytes)) / 1e9
        return None if peak is None else max(flops / peak / 1e9, moved)

    def to_json(self) -> dict:
        self.bandwidth()
        copies = {str(size): round(value, 2) for size, value in self._copies.items()}
        return {"gflops": {name: round(value, 1) for name, value in self._peaks.items()}, "copy_gbs": round(self.bandwidth(), 2),
                "copies_gbs": copies, "reach_gbs": {str(size): round(value, 2) for size, value in self._cached.items()},
                "sources": self.sources}


def cache_bytes(session: Session) -> int:
    """More than the last cache of the device holds."""
    return 128 << 20 if session.target.is_cpu else 512 << 20


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
