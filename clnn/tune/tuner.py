"""Tunes one problem: search, measure, store."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..runtime import Session
from .measure import Bench
from .problem import Problem
from .search import search
from .space import Candidate, Space
from .store import Store, current, device_facts, make_record

#: what a choice must gain over the default in the closing comparison
WORTHWHILE = 0.98


@dataclass
class Status:
    """Where the tuning of a problem stands."""

    problem: Problem
    #: seconds of the default and of the best so far
    default: float = math.inf
    best: float = math.inf
    candidate: Candidate | None = None
    trials: int = 0
    #: how many candidates failed, by reason; and how many configurations the templates refused, by reason
    failures: Counter = field(default_factory=Counter)
    refusals: Counter = field(default_factory=Counter)
    finished: bool = False

    @property
    def gain(self) -> float:
        """Default over best; 1 where nothing was gained."""
        return self.default / self.best if 0 < self.best < math.inf and self.default < math.inf else 1.0


def tune_problem(problem: Problem, session: Session, store: Store, *, strategy: str = "descent", seconds: float = 15.0,
                 trials: int = 80, seed: int = 0, report: Callable[[Status], None] = lambda status: None) -> Status:
    """Search the fastest candidate of a problem; every trial is stored at once, and those stored already are not measured again.

    Args:
        seconds: when to stop, beyond the candidates being measured.
        report: called after each few trials.

    Raises:
        ClnnError: if the default cannot be run or compared with, or the store cannot be written.
    """
    space = Space(problem, session.target)
    status = Status(problem, refusals=space.refusals)
    known = _known(problem, session, store, space)
    deadline = time.monotonic() + seconds
    target = session.target
    with Bench(session, problem, space) as bench:
        bench.best = min(known.values(), default=math.inf)

        def take(candidate: Candidate, duration: float) -> None:
            status.trials += 1
            if candidate == space.default:
                status.default = duration
            if duration < status.best:
                status.best, status.candidate = duration, candidate

        def measure(candidates: list[Candidate]) -> list[float]:
            found = bench.measure(candidates)
            for candidate, duration in zip(candidates, found, strict=True):
                failed = bench.results[candidate].reason
                store.append(make_record("trial", problem, target, candidate, _templates(space, candidate),
                                         candidate == space.default, None if failed else duration,
                                         **({"reason": failed} if failed else {})))
                if failed:
                    status.failures[failed] += 1
                take(candidate, duration)
            report(status)
            return found

        for candidate, duration in known.items():
            take(candidate, duration)
        status.trials = len(known)
        found = search(strategy, space, measure, seed=seed, trials=trials, known=known,
                       chunk=min(8, os.cpu_count() or 1), stop=lambda: time.monotonic() > deadline)
        status.finished = time.monotonic() <= deadline or len(found) >= trials
        chosen = _conclude(bench, space, status)
    status.trials = len(found)
    store.append(make_record("best", problem, target, chosen, _templates(space, chosen), chosen == space.default, status.best,
                             default_seconds=status.default, trials=status.trials,
                             strategy=strategy, finished=status.finished,
                             time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
    report(status)
    return status


def _conclude(bench: Bench, space: Space, status: Status) -> Candidate:
    """Run the best and the default in turns; the best stays the choice only if it wins here too."""
    best = status.candidate or space.default
    if best == space.default:
        status.candidate, status.default = space.default, min(status.default, status.best)
        if status.default == math.inf:
            status.default, _ = bench.compare(space.default, space.default)
        status.best = status.default
        return space.default
    status.default, status.best = bench.compare(space.default, best)
    if status.best > WORTHWHILE * status.default:
        status.candidate, status.best = space.default, status.default
    return status.candidate or space.default


def _known(problem: Problem, session: Session, store: Store, space: Space) -> dict[Candidate, float]:
    """The trials of earlier searches that still hold: same device, driver and templates."""
    facts, known = device_facts(session.target), {}
    for record in store.results().by_key.get(problem.key, ()):
        if record["kind"] == "trial" and record["device"] == facts and current(record):
            candidate = space.candidate(record["lowering"], record["config"])
            if candidate is not None:
                known[candidate] = math.inf if record["seconds"] is None else record["seconds"]
    return known


def _templates(space: Space, candidate: Candidate) -> list[str]:
    return [launch.kernel.template for launch in space.offer(candidate).launches]
