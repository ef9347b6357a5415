"""What the device can do at best: fp32 multiply-adds by a kernel that does nothing else, and a copy of memory."""

from __future__ import annotations

import statistics
import time

import numpy as np

from clnn.runtime.opencl import cl
from clnn.runtime.session import Session

#: chains of dependent multiply-adds, enough of them to hide the latency; float16 fills the vector units of a CPU
_FMA = """
kernel void fma_peak(global float* y, float m, float c) {{
    {type} {declarations};
    for (int i = 0; i < {loops}; ++i) {{
        {body}
    }}
    {type} s = {total};
    if ({any} == 12345.0f) y[get_global_id(0)] = {any};
}}
kernel void copy_items(global const float4* x, global float4* y) {{ y[get_global_id(0)] = x[get_global_id(0)]; }}
kernel void copy_chunks(global const float* restrict x, global float* restrict y) {{
    const size_t first = get_global_id(0) * {chunk};
    for (int i = 0; i < {chunk}; ++i) y[first + i] = x[first + i];
}}
"""
_CHUNK = 8192


class Roofline:
    """Peaks of one device, measured when first asked for, or as given by the user.

    Args:
        peaks: precision → GFLOP/s; replaces and adds to the measured fp32.
        bandwidth: GB/s, read and written bytes together; replaces the measured copies.
    """

    def __init__(self, session: Session, peaks: dict[str, float], bandwidth: float | None):
        self.session, self._peaks, self._bandwidth = session, dict(peaks), bandwidth
        self._copies: dict[int, float] = {}
        self.sources = {name: "given" for name in peaks} | ({"bandwidth": "given"} if bandwidth else {})
        vector = session.target.is_cpu
        self._chains, self._loops, self._width = (5, 4096, 16) if vector else (8, 4096, 1)
        names = [f"a{i}" for i in range(self._chains)]
        source = _FMA.format(
            type="float16" if vector else "float", loops=self._loops, chunk=_CHUNK,
            total=" + ".join(names), any="s.s0" if vector else "s",
            declarations=", ".join(f"{name} = m * {i + 1}" for i, name in enumerate(names)),
            body=" ".join(f"{name} = {name} * m + c;" for name in names))
        self._program = cl().Program(session.context, source).build()

    def _seconds(self, enqueue, rounds: int = 7) -> float:
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
        if precision not in self._peaks and precision == "fp32":
            target = self.session.target
            items = target.compute_units * (4 if target.is_cpu else 2048 * 4)
            local = (1,) if target.is_cpu else (256,)
            kernel = self._program.fma_peak
            buffer = self.session.allocate(4 * items, "peak")          # a kernel does not keep its buffer alive
            kernel.set_args(buffer, np.float32(0.999), np.float32(0.001))
            seconds = self._seconds(lambda: cl().enqueue_nd_range_kernel(self.session.queue, kernel, (items,), local))
            self._peaks["fp32"] = 2.0 * items * self._chains * self._loops * self._width / seconds / 1e9
            self.sources["fp32"] = "measured with a kernel of fp32 multiply-adds"
        return self._peaks.get(precision)

    def bandwidth(self, nbytes: int = 512 << 20) -> float:
        """GB/s of the best copy of a tensor of ``nbytes`` bytes, rotating over copies that no cache holds."""
        if self._bandwidth:
            return self._bandwidth
        chunk = 4 * _CHUNK
        nbytes = max(chunk, nbytes // chunk * chunk)
        if nbytes not in self._copies:
            self._copies[nbytes] = self._measure_copy(nbytes)
            self.sources["bandwidth"] = "measured with the best of several ways to copy a tensor"
        return self._copies[nbytes]

    def _measure_copy(self, nbytes: int) -> float:
        api, session = cl(), self.session
        count = max(1, min(64, -(-cache_bytes(session) // (2 * nbytes))))
        pairs = [[session.allocate(nbytes, "copy") for _ in range(2)] for _ in range(count)]
        ones = np.ones(nbytes // 4, np.float32)
        for pair in pairs:
            for buffer in pair:
                session.upload(buffer, ones)
        turn = [0]

        def copier(name: str, items: int, local: int):
            kernels = []
            for pair in pairs:
                kernel = api.Kernel(self._program, name)
                kernel.set_args(*pair)
                kernels.append(kernel)

            def enqueue():
                turn[0] += 1
                api.enqueue_nd_range_kernel(session.queue, kernels[turn[0] % count], (items,), (local,))
            return enqueue

        def copy_buffer():
            turn[0] += 1
            source, destination = pairs[turn[0] % count]
            api.enqueue_copy(session.queue, destination, source)
        ways = [copy_buffer, copier("copy_chunks", nbytes // 4 // _CHUNK, 1)]
        if not session.target.is_cpu:
            ways.append(copier("copy_items", nbytes // 16, 256))
        return 2 * nbytes / min(self._seconds(way, 5) for way in ways) / 1e9

    def bound(self, flops: int, nbytes: int, precision: str, tensor: int | None = None) -> float | None:
        """Seconds below which no kernel of this work can stay; None where the peak is not known."""
        peak = self.peak(precision)
        moved = nbytes / self.bandwidth(*([tensor] if tensor else [])) / 1e9
        return None if peak is None else max(flops / peak / 1e9, moved)

    def to_json(self) -> dict:
        self.bandwidth()
        copies = {str(size): round(value, 2) for size, value in self._copies.items()}
        return {"gflops": {name: round(value, 1) for name, value in self._peaks.items()}, "copy_gbs": round(self.bandwidth(), 2),
                "copies_gbs": copies, "sources": self.sources}


def cache_bytes(session: Session) -> int:
    """More than the last cache of the device holds."""
    return 128 << 20 if session.target.is_cpu else 512 << 20


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
