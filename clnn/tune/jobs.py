"""Tuning many problems within one budget of time.

Several searches go on at once: while the device measures a candidate of one, compilers work for the others. On CPUs, where
kernels and compilers share the cores, there is one search at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..codegen.lowering import Offer
from ..errors import ClnnError, FileError, LoweringError
from ..ir import Graph, Layout, Node
from ..ops.conv import Convolution
from ..runtime import Session
from ..runtime.builders import Builders
from .costs import DeviceCosts
from .estimate import estimate
from .lookup import find
from .problem import Problem, distinct_problems, problem_of
from .space import Candidate, Space
from .store import open_store, store_path
from .tuner import Status, Tuning

#: share of the device's memory that the tensors of all searches under way may take
MEMORY = 0.3
#: seconds that a problem gets at least, on CPUs and elsewhere: enough for a few candidates. Problems for which there is not so
#: much are left out, the quickest first
LEAST_SECONDS = {True: 3.0, False: 0.4}


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


@dataclass(frozen=True)
class Plan:
    """How to tune: the seconds for all problems, and the options of each search."""

    budget: float
    strategy: str = "descent"
    trials: int = 80
    seed: int = 0
    survey: bool = False


def collect(jobs: dict[str, Job], graph: Graph, session: Session) -> None:
    """Add the problems of a graph to jobs by key."""
    for key, (problem, nodes) in distinct_problems(graph).items():
        job = jobs.setdefault(key, Job(problem))
        job.layers += [node.path or "-" for node in nodes]
        job.weight += sum(estimate(node, session) for node in nodes)


def add_problem(jobs: dict[str, Job], problem: Problem, name: str, session: Session) -> None:
    """Add a problem that stands in no graph."""
    job = jobs.setdefault(problem.key, Job(problem))
    job.layers.append(name)
    costs = DeviceCosts(session)
    space = Space(problem, session.target, costs)
    job.weight += costs.estimate(problem.op, problem.inputs, problem.outputs, space.offer(space.default))


def alternatives(jobs: dict[str, Job], graph: Graph, session: Session) -> None:
    """Add the problems that the nodes of a graph would pose in other layouts, and those of nodes that have such others. Layouts
    count that a convolution could have: for the sake of others none is changed."""
    layouts = {layout for node in graph.nodes if isinstance(getattr(node.op, "base", node.op), Convolution)
               for given, made in _ways(node) for layout in (*given, *made)}
    for node in graph.nodes:
        if not isinstance(node.offer, Offer) or not node.offer.launches:
            continue
        present = problem_of(node)
        problems = [present, *(problem for problem in _ways(node, layouts).values() if problem.key != present.key)]
        for problem in problems if len(problems) > 1 else []:
            if problem.key not in jobs:
                try:
                    Space(problem, session.target)
                except LoweringError:
                    continue
                jobs[problem.key] = Job(problem)
            jobs[problem.key].layers.append(node.path or "-")
            jobs[problem.key].weight += estimate(node, session)


def _ways(node: Node, among: set[Layout] | None = None) -> dict[tuple, Problem]:
    """The problems of a node by (input layouts, output layouts), those in layouts ``among`` which they may be."""
    inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
    found = {}
    for lowering in node.op.lowerings:
        for given, made in lowering.layouts(node.op, inputs, outputs):
            fits = all(layout.fits(spec.shape) for layout, spec in zip((*given, *made), (*inputs, *outputs), strict=True))
            if fits and (among is None or among >= {*given, *made}):
                found[tuple(given), tuple(made)] = Problem(
                    node.op, tuple(spec.with_layout(layout) for spec, layout in zip(inputs, given, strict=True)),
                    tuple(spec.with_layout(layout) for spec, layout in zip(outputs, made, strict=True)))
    return found


class Crew:
    """Tunes jobs, several at a time, with a pool of compilers.

    Args:
        started, report, ended: called when a job begins, after each few trials, and when a job is over.
    """

    def __init__(self, session: Session, builders: Builders, plan: Plan, *, started: Callable[[Job], None] = lambda job: None,
                 report: Callable[[Job, Status], None] = lambda job, status: None,
                 ended: Callable[[Job], None] = lambda job: None):
        self.session, self.builders, self.plan = session, builders, plan
        self.started, self.report, self.ended = started, report, ended
        self.store = open_store(store_path())
        self.deadline = time.monotonic() + plan.budget
        self._waiting: list[Job] = []
        self._active: list[tuple[Job, Tuning]] = []

    def run(self, jobs: Iterable[Job]) -> None:
        """Tune all jobs. What is known already costs nothing. A problem that cannot be tuned says so in its ``note``.

        Raises:
            FileError: if results cannot be stored.
        """
        self._waiting = list(jobs)
        if not self.plan.survey:
            self._leave_out()
        try:
            while self._waiting or self._active:
                self._start_some()
                if self._active:
                    self._step()
        finally:
            for _, tuning in self._active:
                tuning.close()

    def _leave_out(self) -> None:
        """Drop what is not known and too small a part for the time there is."""
        affordable = self.plan.budget / LEAST_SECONDS[self.session.target.is_cpu]
        by_weight = sorted(range(len(self._waiting)), key=lambda number: -self._waiting[number].weight)
        dropped = {number for number in by_weight[max(int(affordable), 1):]
                   if not ((found := find(self._waiting[number].problem, self.session.target)) and found.exact)}
        for number in sorted(dropped):
            self._waiting[number].note = "left out: too small a part for the time"
            self.ended(self._waiting[number])
        self._waiting = [job for number, job in enumerate(self._waiting) if number not in dropped]

    def _start_some(self) -> None:
        most = 1 if self.session.target.is_cpu else max(2, self.builders.count)
        room = MEMORY * self.session.target.global_memory
        while self._waiting and len(self._active) < most:
            problem = self._waiting[0].problem
            held = sum(_bytes(tuning.problem) for _, tuning in self._active)
            if self._active and held + _bytes(problem) > room:
                return
            self._start(self._waiting.pop(0))

    def _start(self, job: Job) -> None:
        left = self.deadline - time.monotonic()
        found = None if self.plan.survey else find(job.problem, self.session.target)
        self.started(job)
        if found is not None and found.exact:
            job.default, job.best, job.note = found.default_seconds, found.seconds, "known"
            job.choice = str(Candidate.of(found.lowering, found.config))
        elif left <= 0:
            job.note = "no time left"
        else:
            try:
                tuning = Tuning(job.problem, self.session, self.store, strategy=self.plan.strategy, trials=self.plan.trials,
                                seed=self.plan.seed, builders=self.builders, survey=self.plan.survey,
                                seconds=self._share(job, left), report=lambda status: self.report(job, status))
            except ClnnError as error:
                job.note = error.what
            else:
                self._active.append((job, tuning))
                return
        self.ended(job)

    def _share(self, job: Job, left: float) -> float:
        """The seconds of a job: its share, by weight, of what those under way will leave, but enough for a few candidates."""
        left -= sum(max(tuning.seconds - tuning.spent, 0.0) for _, tuning in self._active)
        total = job.weight + sum(other.weight for other in self._waiting)
        return max(left * job.weight / total if total else 0.0, LEAST_SECONDS[self.session.target.is_cpu])

    def _step(self) -> None:
        """Let one search go on: one whose compilers are done, or the first."""
        job, tuning = next(((job, tuning) for job, tuning in self._active if tuning.ready), self._active[0])
        if not tuning.ready:
            time.sleep(0.002)           # another may be ready sooner
            if time.monotonic() < self.deadline + self.builders.limit:
                return
        tuning.stop = time.monotonic() > self.deadline
        try:
            tuning.step()
        except FileError:
            raise
        except ClnnError as error:
            job.note = error.what
        if tuning.over:
            self._active.remove((job, tuning))
            status = tuning.status
            if not job.note:
                job.default, job.best, job.failures = status.default, status.best, dict(status.failures)
                job.choice = str(status.candidate)
                job.note = f"{status.trials} tried" + ("" if status.finished or self.plan.survey else ", not finished")
            self.ended(job)
        elif self._active[0][0] is job:         # the others come next
            self._active.append(self._active.pop(0))


def _bytes(problem: Problem) -> int:
    """Device memory that tuning a problem takes: inputs, the default's outputs, a candidate's, and as much for its scratch."""
    return sum(spec.nbytes for spec in problem.inputs) + 4 * sum(spec.nbytes for spec in problem.outputs)
