"""What ``clnn tune`` shows: progress with the time left, and the table at the end."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from ..tune.jobs import Job
    from ..tune.tuner import Status


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None or seconds == math.inf else f"{1e3 * seconds:.4g}"


class Watch:
    """Progress: a bar on a terminal, a line per problem elsewhere."""

    def __init__(self, jobs: int, budget: float):
        self.jobs, self.budget, self.start, self._done = jobs, budget, time.monotonic(), 0
        self._bar = self._task = None

    def __enter__(self) -> Watch:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            self._bar = Progress(TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(),
                                 TextColumn("{task.fields[state]}", markup=False), console=console.output(), transient=True)
            self._task = self._bar.add_task("", total=self.jobs, state="")
            self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _left(self) -> str:
        return f"{max(self.budget - (time.monotonic() - self.start), 0):.0f} s left"

    def started(self, job: Job) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=f"{job.name} {job.problem.op.name}"[:44], state=self._left())

    def report(self, status: Status) -> None:
        """Show the best so far."""
        if self._bar is not None:
            state = f"best {_ms(status.best)} ms of {status.trials}, default {_ms(status.default)} ms; {self._left()}"
            self._bar.update(self._task, state=state)

    def ended(self, job: Job) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        else:
            gain = f"{_ms(job.default)} -> {_ms(job.best)} ms, " if job.best is not None else ""
            print(f"{self._done}/{self.jobs} {job.name}, {job.problem}: {gain}{job.note}; {self._left()}", flush=True)


def report(jobs: Sequence[Job], seconds: float) -> None:
    """The table of all problems, the whole gain, and why candidates failed."""
    rows, default, best = [], 0.0, 0.0
    for job in jobs:
        gain = "-"
        if job.default is not None and job.best:
            default, best = default + job.count * job.default, best + job.count * job.best
            gain = f"{job.default / job.best:.2f}"
        rows.append((job.name, str(job.problem), job.count, _ms(job.default), _ms(job.best), gain, job.choice or "-", job.note))
    if best:
        count = sum(job.count for job in jobs)
        rows.append(("all", "", count, _ms(default), _ms(best), f"{default / best:.2f}", "", f"{seconds:.0f} s"))
    columns = ("layer", "problem", "times", "default ms", "best ms", "gain", "choice", "")
    console.heading("tuned")
    console.table(columns, rows, right=columns[2:6], strong=[len(rows) - 1] if best else [])
    failures: Counter[str] = Counter()
    for job in jobs:
        failures.update(job.failures)
    if failures:
        console.heading("candidates that failed")
        console.table(("times", "reason"), [(number, reason) for reason, number in failures.most_common(8)], right=("times",))
