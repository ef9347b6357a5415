"""Tuning many problems within one budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import ClnnError, FileError
from ..ir import Graph
from ..runtime import Session
from .estimate import estimate
from .lookup import find
from .problem import Problem, distinct_problems
from .space import Candidate
from .store import open_store, store_path
from .tuner import Status, tune_problem


@dataclass
class Job:
    """One problem, where it occurs, and what came of it."""

    problem: Problem
    layers: list[str] = field(default_factory=list)
    #: the seconds that it should take in a run of all programs, by estimate
    weight: float = 0.0
    default: float | None = None
    best: float | None = None
    choice: str = ""
    #: what is to be told: that it was known, or why it could not be tuned
    note: str = ""
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How often the problem occurs."""
        return len(self.layers)

    @property
    def name(self) -> str:
        return self.layers[0] + (f" and {self.count - 1} more" if self.count > 1 else "")


def collect(jobs: dict[str, Job], graph: Graph, session: Session) -> None:
    """Add the problems of a graph to jobs by key."""
    for key, (problem, nodes) in distinct_problems(graph).items():
        job = jobs.setdefault(key, Job(problem))
        job.layers += [node.path or "-" for node in nodes]
        job.weight += sum(estimate(node, session) for node in nodes)


def in_turn(jobs: Iterable[Job], session: Session, *, budget: float, strategy: str = "descent", trials: int = 80, seed: int = 0,
            started: Callable[[Job], None] = lambda job: None, report: Callable[[Status], None] = lambda status: None,
            ended: Callable[[Job], None] = lambda job: None) -> None:
    """Tune jobs one after the other; each gets its share of the seconds left, by weight, but half an equal share at least.

    What is known already costs nothing. A problem that cannot be tuned says so in its ``note``.

    Raises:
        FileError: if results cannot be stored.
    """
    store = open_store(store_path())
    waiting = list(jobs)
    deadline = time.monotonic() + budget
    while waiting:
        job = waiting[0]
        started(job)
        found = find(job.problem, session.target)
        if found is not None and found.exact:
            job.default, job.best, job.note = found.default_seconds, found.seconds, "known"
            job.choice = str(Candidate.of(found.lowering, found.config))
        elif (left := deadline - time.monotonic()) <= 0:
            job.note = "no time left"
        else:
            total = sum(other.weight for other in waiting) or math.inf
            _tune(job, session, store, report, strategy=strategy, trials=trials, seed=seed,
                  seconds=left * max(job.weight / total, 0.5 / len(waiting)))
        waiting.pop(0)
        ended(job)


def _tune(job: Job, session: Session, store, report: Callable[[Status], None], **how) -> None:
    try:
        status = tune_problem(job.problem, session, store, report=report, **how)
    except FileError:
        raise
    except ClnnError as error:
        job.note = error.what
        return
    job.default, job.best, job.failures = status.default, status.best, dict(status.failures)
    job.choice = str(status.candidate)
    job.note = f"{status.trials} tried" + ("" if status.finished else ", not finished")
