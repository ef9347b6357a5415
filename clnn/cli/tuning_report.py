"""What ``clnn tune`` shows: progress with the time left, and the tables at the end."""

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

#: seconds between lines of progress where there is no terminal
PACE = 10.0
#: a gain up to this is as good as none
SMALL = 1.05


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None or seconds == math.inf else f"{1e3 * seconds:.4g}"


class Watch:
    """Progress: a bar on a terminal, elsewhere a line per problem and one every few seconds.

    The time of all problems together, as far as they are measured, is shown as it was with the built-in choices and as it is by
    the best so far.
    """

    def __init__(self, jobs: int, budget: float, what: str = ""):
        self.jobs, self.budget, self.what, self.start, self._done = jobs, budget, what, time.monotonic(), 0
        self._bar = self._task = None
        self._times: dict[str, tuple[int, float, float]] = {}
        self._said = self.start

    def __enter__(self) -> Watch:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            self._bar = Progress(TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(),
                                 TextColumn("{task.fields[state]}", markup=False), console=console.output(), transient=True)
            self._task = self._bar.add_task(self.what, total=self.jobs, state="")
            self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _left(self) -> str:
        return f"{max(self.budget - (time.monotonic() - self.start), 0):.0f} s left"

    def _all(self) -> str:
        """The sum over what is measured."""
        known = [(count, default, best) for count, default, best in self._times.values() if default < math.inf > best]
        if not known:
            return ""
        default, best = (sum(entry[0] * entry[which] for entry in known) for which in (1, 2))
        return f"all so far {_ms(default)} -> {_ms(best)} ms ({default / best:.2f}x)" if best else ""

    def started(self, job: Job) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self.what} {job.name} {job.problem.op.name}".strip()[:44])

    def report(self, job: Job, status: Status) -> None:
        """Show the best so far."""
        self._times[job.problem.key] = (job.count, status.default, status.best)
        now = (f"{job.name} {job.problem.op.name}: best {_ms(status.best)} ms of {status.trials} tried, "
               f"default {_ms(status.default)} ms")
        if self._bar is not None:
            self._bar.update(self._task, state=f"{now}; {self._all()}; {self._left()}")
        elif time.monotonic() - self._said > PACE:
            print(f"    {now}; {self._all()}; {self._left()}", flush=True)
            self._said = time.monotonic()

    def ended(self, job: Job) -> None:
        self._done += 1
        if job.best is not None:
            self._times[job.problem.key] = (job.count, job.default, job.best)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif not self.what:
            gain = f"{_ms(job.default)} -> {_ms(job.best)} ms, " if job.best is not None else ""
            print(f"{self._done}/{self.jobs} {job.name}, {job.problem}: {gain}{job.note}; {self._left()}", flush=True)
            self._said = time.monotonic()
        elif self._done == self.jobs:
            print(f"{self.what}: {len(self._times)} of {self.jobs} problems measured", flush=True)


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


def report_steps(rows: Sequence[tuple[str, float, float]]) -> None:
    """What whole programs gained: name, seconds with the built-in choices, seconds as tuned."""
    console.heading("whole programs, run in turns")
    for name, default, tuned in rows:
        gain = default / tuned
        verdict = ""
        if gain < 1 / SMALL:
            verdict = "; slower than the defaults, so something else used the device: tune again, or set CLNN_TUNE=off"
        elif gain < SMALL:
            verdict = "; the defaults are within 5 % of the best found"
        console.output().print(f"{name}: default {_ms(default)} ms, tuned {_ms(tuned)} ms: {gain:.2f}x{verdict}")
