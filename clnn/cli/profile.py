"""``clnn profile``: where the time of a step goes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .files import writing
from .model import Subject, add_subject, compile_subject, describe, open_subject
from .parser import add_json, count

if TYPE_CHECKING:
    from ..runtime.profiler import Profile
    from ..step import Step


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("profile", help="time, GFLOP/s and GB/s of every launch of a model",
                                 description="Time every launch of a step on random images by the device's own clock.")
    add_subject(parser)
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="steps to take the median of (default 5)")
    parser.add_argument("--trace", type=Path, metavar="FILE",
                        help="write a Chrome trace, for chrome://tracing or ui.perfetto.dev")
    add_json(parser)
    return parser


def run(given: argparse.Namespace) -> int:
    """Profile one model."""
    subject = open_subject(given)
    step = compile_subject(subject, given)
    _fill(step, subject)
    found = step.profile(given.repeats)
    seconds = _wall_time(step, given.repeats)
    if given.trace is not None:
        with writing(given.trace):
            found.write_trace(given.trace)
    if given.json:
        console.print_json({"device": found.device, "seconds_per_step": seconds, "seconds_in_kernels": found.seconds,
                            "launches": [vars(timing) for timing in found.timings]})
        return 0
    console.fields(describe(subject, given, step))
    print()
    _table(found)
    print()
    console.fields([("step", f"{seconds * 1e3:.3f} ms with the launches in between, {given.batch_size / seconds:,.0f} images/s"),
                    *([("trace", given.trace)] if given.trace is not None else [])])
    return 0


def _fill(step: Step, subject: Subject) -> None:
    """Random images and labels: what buffers hold by chance can be slow numbers, or no labels at all."""
    import numpy as np
    rng = np.random.default_rng(0)
    for value in step.plan.inputs:
        if value.dtype == "int32":
            step.executable.write(value.name, rng.integers(0, subject.classes, value.shape, np.int32))
        else:
            step.executable.write(value.name, rng.standard_normal(value.shape, np.float32))


def _wall_time(step: Step, repeats: int) -> float:
    """Seconds per step as the host sees it."""
    step.executable.run()
    step.session.finish()
    start = time.perf_counter()
    for _ in range(repeats):
        step.executable.run()
    step.session.finish()
    return (time.perf_counter() - start) / repeats


def _table(found: Profile) -> None:
    total = found.seconds or 1.0
    rows = [(t.name, f"{t.seconds * 1e3:.3f}", f"{100 * t.seconds / total:.1f}", f"{t.flops / t.seconds / 1e9:.1f}",
             f"{t.bytes / t.seconds / 1e9:.1f}", t.kernel) for t in found.timings]
    flops, moved = sum(t.flops for t in found.timings), sum(t.bytes for t in found.timings)
    rows.append(("all", f"{found.seconds * 1e3:.3f}", "100.0", f"{flops / total / 1e9:.1f}", f"{moved / total / 1e9:.1f}", ""))
    columns = ("layer and operator", "ms", "%", "GFLOP/s", "GB/s", "kernel")
    console.table(columns, rows, right=columns[1:5], strong=[len(rows) - 1])
