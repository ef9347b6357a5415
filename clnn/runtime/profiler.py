"""Time per launch, from the device's own event clock."""

from __future__ import annotations

import functools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .opencl import cl
from .program import build_source
from .speed import multiply_add_source

if TYPE_CHECKING:
    from .executable import Executable
    from .session import Session

#: rounds of arithmetic that take longer, at some 10 ns each, than it takes to enqueue a launch; launches until the host is ahead
ROUNDS, MOST_AHEAD = 2000, 64


@dataclass(frozen=True)
class Timing:
    """One launch: median seconds over the repeats, and the start of its last run."""

    name: str
    kernel: str
    seconds: float
    start: float
    flops: int
    bytes: int


@dataclass(frozen=True)
class Profile:
    """The launches of a plan with their times; print it, or write a Chrome trace."""

    device: str
    timings: list[Timing]

    @property
    def seconds(self) -> float:
        return sum(t.seconds for t in self.timings)

    def __str__(self) -> str:
        lines = [f"{'layer and operator':44s} {'ms':>9s} {'%':>5s} {'GFLOP/s':>9s} {'GB/s':>7s}  kernel"]
        total = self.seconds or 1.0
        for t in self.timings:
            lines.append(
                f"{t.name:44.44s} {t.seconds * 1e3:9.3f} {100 * t.seconds / total:5.1f} {t.flops / t.seconds / 1e9:9.1f} "
                f"{t.bytes / t.seconds / 1e9:7.1f}  {t.kernel}"
            )
        lines.append(f"{'all':44s} {self.seconds * 1e3:9.3f} 100.0 {sum(t.flops for t in self.timings) / total / 1e9:9.1f}")
        return "\n".join(lines)

    def write_trace(self, path: str | Path) -> None:
        """A file for chrome://tracing or ui.perfetto.dev."""
        events = [
            {
                "name": t.name,
                "cat": "kernel",
                "ph": "X",
                "pid": 0,
                "tid": 0,
                "ts": t.start * 1e6,
                "dur": t.seconds * 1e6,
                "args": {"kernel": t.kernel, "flops": t.flops, "bytes": t.bytes},
            }
            for t in self.timings
        ]
        Path(path).write_text(json.dumps({"traceEvents": events, "otherData": {"device": self.device}}))


def profile(executable: Executable, repeats: int = 5) -> Profile:
    """Run the plan once to warm up and ``repeats`` times on a queue with event clocks; with 0 repeats the first run counts.
    Variables advance as in ordinary runs."""
    api, session = cl(), executable.session
    executable.bring_in_step()
    session.finish()
    queue = api.CommandQueue(session.context, properties=api.command_queue_properties.PROFILING_ENABLE)
    seconds: list[list[float]] = [[] for _ in executable.plan.launches]
    starts = [0.0] * len(seconds)
    for repeat in range(repeats + 1):
        events = [api.enqueue_nd_range_kernel(queue, *launch) for launch in executable.pyopencl_launches]
        queue.finish()
        if repeat or not repeats:  # the first run warms up
            origin = events[0].profile.start
            for i, event in enumerate(events):
                seconds[i].append(max(event.profile.end - event.profile.start, 1) * 1e-9)
                starts[i] = (event.profile.start - origin) * 1e-9
    return Profile(
        str(session.device),
        [
            Timing(launch.name, launch.kernel.label, statistics.median(seconds[i]), starts[i], launch.flops, launch.bytes)
            for i, launch in enumerate(executable.plan.launches)
        ],
    )


def run_seconds(executable: Executable, runs: int = 1) -> list[float]:
    """Device seconds of whole runs of a plan, from the start of its first launch to the end of its last, gaps included: those of
    the device, not of the host, which in a training step is ahead of it."""
    api, session = cl(), executable.session
    executable.bring_in_step()
    session.finish()
    queue = _clocked_queue(session)
    seconds = []
    for _ in range(runs):
        if len(executable.kernels) > 1 and not session.target.is_cpu:
            keep_busy(session, queue, len(executable.kernels))
        events = [api.enqueue_nd_range_kernel(queue, *launch) for launch in executable.pyopencl_launches]
        queue.finish()
        seconds.append(max(events[-1].profile.end - events[0].profile.start, 1) * 1e-9 if events else 0.0)
    return seconds


def keep_busy(session: Session, queue, launches: int):
    """Enqueue arithmetic that takes longer than it takes the host to enqueue so many launches."""
    kernel, out = _arithmetic(session)
    kernel.set_args(out, np.float32(0.999), np.float32(0.001), np.int32(ROUNDS * min(launches, MOST_AHEAD)))
    return cl().enqueue_nd_range_kernel(queue, kernel, (1,), (1,))


@functools.cache
def _arithmetic(session: Session):
    """A kernel that computes and hardly touches memory, and what it writes to."""
    return cl().Kernel(build_source(session.context, multiply_add_source(1, 1)), "multiply_add"), session.allocate(4, "clock")


@functools.cache
def _clocked_queue(session: Session):
    """A queue of the session whose events carry times."""
    return cl().CommandQueue(session.context, properties=cl().command_queue_properties.PROFILING_ENABLE)
