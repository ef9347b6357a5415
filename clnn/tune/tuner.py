"""Tunes one problem: search, measure, store. The search goes in steps, so that several can share a device and its compilers."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ..runtime import Session
from ..runtime.builders import Build, Builders
from .costs import DeviceCosts
from .measure import Bench, submit
from .problem import Problem
from .search import searching
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


class Tuning:
    """The tuning of one problem in steps. A step measures what was asked for last, once it is ``ready``, and asks for more.

    Every trial is stored at once, and those stored already are not measured again. ``spent`` counts the seconds that the steps
    took, and those of compilers shared out among them; when it passes ``seconds``, the search ends.

    Args:
        survey: measure only the lowerings as they are run unmeasured, and choose nothing.
    """

    def __init__(self, problem: Problem, session: Session, store: Store, *, strategy: str = "descent", seconds: float = 15.0,
                 trials: int = 80, seed: int = 0, builders: Builders | None = None, survey: bool = False,
                 report: Callable[[Status], None] = lambda status: None):
        self.problem, self.session, self.store, self.builders = problem, session, store, builders
        self.strategy, self.seconds, self.trials, self.seed, self.report = strategy, seconds, trials, seed, report
        self.survey = survey
        self.spent = 0.0
        self.over = False
        self.stop = False
        self.space = Space(problem, session.target, DeviceCosts(session))
        self.status = Status(problem, refusals=self.space.refusals)
        self._known = _known(problem, session, store, self.space)
        self._bench: Bench | None = None
        self._asked: list[Candidate] = []
        self._builds: list[Build] = []
        self._steps: Generator[list[Candidate], list[float], dict[Candidate, float]] | None = None
        self._order([self.space.default])

    @property
    def ready(self) -> bool:
        """Whether a step need not wait for a compiler."""
        return all(build.done.is_set() for build in self._builds)

    def step(self) -> None:
        """Do what is next, waiting for compilers where need be.

        Raises:
            ClnnError: if the default cannot be run or compared with, or the store cannot be written.
        """
        start = time.monotonic()
        for build in self._builds:
            build.done.wait()
        workers = self.builders.count if self.builders else 1
        self.spent += sum(build.seconds for build in self._builds) / workers
        try:
            self._advance()
        except StopIteration as end:
            self._conclude(end.value)
        except BaseException:
            self.close()
            raise
        self.spent += time.monotonic() - start

    def close(self) -> None:
        """Free what the device holds."""
        self.over = True
        if self._bench is not None:
            self._bench.close()

    # -- steps ------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._bench is None:
            self._bench = Bench(self.session, self.problem, self.space, builders=self.builders)
            self._bench.best = min(self._known.values(), default=math.inf)
            for candidate, duration in self._known.items():
                self._take(candidate, duration)
            self._steps = self._surveying() if self.survey else searching(
                self.strategy, self.space, seed=self.seed, trials=self.trials, known=self._known,
                chunk=min(8, os.cpu_count() or 1), stop=self._late)
            self._order(next(self._steps))
        else:
            self._order(self._steps.send(self._measure(self._asked)))

    def _order(self, candidates: list[Candidate]) -> None:
        """Note what is to be measured, and have it compiled."""
        self._asked = candidates
        if self.builders is not None:
            offers = [self.space.offer(candidate) for candidate in candidates]
            self._builds = [build for offer in offers for build in submit(self.builders, self.problem, offer)]

    def _late(self) -> bool:
        return self.stop or self.spent > self.seconds

    def _surveying(self) -> Generator[list[Candidate], list[float], dict[Candidate, float]]:
        missing = [start for start in self.space.starts if start not in self._known]
        if missing:
            yield missing
        return {}

    def _take(self, candidate: Candidate, duration: float) -> None:
        status = self.status
        status.trials += 1
        if candidate == self.space.default:
            status.default = duration
        if duration < status.best:
            status.best, status.candidate = duration, candidate

    def _measure(self, candidates: list[Candidate]) -> list[float]:
        found = self._bench.measure(candidates)
        for candidate, duration in zip(candidates, found, strict=True):
            failed = self._bench.results[candidate].reason
            self.store.append(make_record("trial", self.problem, self.session.target, candidate, self._templates(candidate),
                                          candidate == self.space.default, None if failed else duration,
                                          **({"reason": failed} if failed else {})), sync=False)
            if failed:
                self.status.failures[failed] += 1
            self._take(candidate, duration)
        self.report(self.status)
        return found

    def _conclude(self, found: dict[Candidate, float]) -> None:
        """Store the choice: the fastest if it wins against the default in turns too."""
        status = self.status
        if not self.survey:
            status.finished = not self._late() or len(found) >= self.trials
            chosen = self._choose()
            status.trials = len(found)
            self.store.append(make_record(
                "best", self.problem, self.session.target, chosen, self._templates(chosen), chosen == self.space.default,
                status.best, default_seconds=status.default, trials=status.trials, strategy=self.strategy,
                finished=status.finished, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
        self.close()
        self.report(status)

    def _choose(self) -> Candidate:
        """Run the best and the default in turns; the best stays the choice only if it wins here too."""
        status, default = self.status, self.space.default
        best = status.candidate or default
        if best == default:
            status.candidate, status.default = default, min(status.default, status.best)
            if status.default == math.inf:
                status.default, _ = self._bench.compare(default, default)
            status.best = status.default
            return default
        if self.builders is not None:
            for build in submit(self.builders, self.problem, self.space.offer(best)):
                self.builders.finish(build)
        status.default, status.best = self._bench.compare(default, best)
        if status.best > WORTHWHILE * status.default:
            status.candidate, status.best = default, status.default
        return status.candidate or default

    def _templates(self, candidate: Candidate) -> list[str]:
        return [launch.kernel.template for launch in self.space.offer(candidate).launches]


def tune_problem(problem: Problem, session: Session, store: Store, **options) -> Status:
    """Search the fastest candidate of a problem, with the options of :class:`Tuning`.

    Raises:
        ClnnError: if the default cannot be run or compared with, or the store cannot be written.
    """
    tuning = Tuning(problem, session, store, **options)
    try:
        while not tuning.over:
            tuning.step()
    finally:
        tuning.close()
    return tuning.status


def _known(problem: Problem, session: Session, store: Store, space: Space) -> dict[Candidate, float]:
    """The trials of earlier searches that still hold: same device, driver and templates."""
    facts, known = device_facts(session.target), {}
    for record in store.results().by_key.get(problem.key, ()):
        if record["kind"] == "trial" and record["device"] == facts and current(record):
            candidate = space.candidate(record["lowering"], record["config"])
            if candidate is not None:
                known[candidate] = math.inf if record["seconds"] is None else record["seconds"]
    return known
