"""``clnn tune``: find the fastest way to run each layer of a model on a device, and remember it."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import config
from ..errors import ArgumentError
from . import console
from .defaults import MODELS
from .model import Subject, add_purpose, compile_subject, graph_of_subject, open_subject
from .parser import count, extents, natural, positive
from .suites import OPERATORS, SUITES, operators
from .tuning_report import Watch, report, report_steps

if TYPE_CHECKING:
    from ..runtime import Session
    from ..runtime.builders import Builders
    from ..tune.jobs import Job

STRATEGIES = ("descent", "random", "evolution")
#: share of the budget that goes into measuring what other layouts would take, at most
SURVEY = 0.2


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("tune", help="measure the fastest kernels for a model on this device, and remember them",
                                 description="Search the fastest way to run each layer of a model, check every candidate against "
                                             "the built-in choice, and store what was found; later runs use it by themselves. "
                                             "Every result is stored at once: a search may be stopped with Ctrl-C, and goes on "
                                             "where it was.")
    parser.add_argument("model", nargs="*", metavar="MODEL|SUITE",
                        help=f"{MODELS}; or a saved model file; or a suite: {', '.join((*SUITES, *OPERATORS))}. "
                             "MODEL@BATCH and MODEL@BATCH@C,H,W give one of several models a batch size and a shape of its own")
    add_purpose(parser)
    group = parser.add_argument_group("the search")
    group.add_argument("--budget", type=positive, default=250.0, metavar="SECONDS",
                       help="time for all layers together (default 250)")
    group.add_argument("--trials", type=count, default=80, metavar="N", help="candidates per layer, at most (default 80)")
    group.add_argument("--strategy", choices=STRATEGIES, default="descent",
                       help="descent: curated candidates, then one value at a time (default); evolution: breed the best; random")
    group.add_argument("--seed", type=natural, default=0, metavar="N", help="of the search (default 0)")
    group.add_argument("--survey", action="store_true",
                       help="measure each lowering in each layout as it is chosen unmeasured, and search no further")
    files = parser.add_argument_group("results")
    files.add_argument("--store", type=Path, metavar="FILE",
                       help="where results are kept (default: CLNN_TUNE_STORE, else the cache folder)")
    files.add_argument("--import", type=Path, dest="take", metavar="FILE", help="first take over the results of another file")
    files.add_argument("--export", type=Path, metavar="FILE", help="at the end write what is best for each problem to a file")
    return parser


def run(given: argparse.Namespace) -> int:
    """Tune models and suites."""
    from ..tune.store import open_store, store_path
    if not given.model and given.take is None and given.export is None:
        raise ArgumentError("there is nothing to do", where="clnn tune", expected="MODEL, a suite, --import or --export")
    store = open_store(given.store or store_path())
    if given.take is not None:
        taken, refused = store.merge(given.take)
        rest = f", {refused} lines not understood" if refused else ""
        console.output().print(f"{taken} results taken over from {given.take}{rest}")
    status = 0
    if given.model:
        with config.override(tune_store=store.path):
            status = _Run(given).tune()
    if given.export is not None:
        console.output().print(f"{store.export(given.export)} results written to {given.export}")
    return status


class _Run:
    """One run of the command."""

    def __init__(self, given: argparse.Namespace):
        from ..compiler import open_session
        self.given, self.start = given, time.monotonic()
        self.session: Session = open_session(given.device)
        self.programs: list[tuple[argparse.Namespace, Subject]] = []
        self.suites: list[tuple[str, int | None]] = []
        for name, options in _subjects(given):
            if options is None:
                self.suites.append(name)
            else:
                self.programs += [(options, open_subject(options))]

    def left(self) -> float:
        return max(self.given.budget - (time.monotonic() - self.start), 0.0)

    def tune(self) -> int:
        """Survey the layouts, tune all problems, run the whole programs."""
        from ..runtime.builders import Builders
        given, jobs, status = self.given, [], 0
        console.fields([("device", self.session.device), ("results", config.tune_store)])
        try:
            with Builders(self.session) as builders:
                self._survey(builders)
                if not given.survey:
                    jobs = self._jobs()
                    console.output().print(f"{' '.join(given.model)}: {len(jobs)} distinct problems\n")
                    self._work(jobs, builders)
        except KeyboardInterrupt:
            status = 130
            console.errors().print("stopped; the same command goes on from here", style="yellow")
        if jobs:
            report(jobs, time.monotonic() - self.start)
        if jobs and not status and self.programs:
            self._compare()
        return status

    def _work(self, jobs: list[Job], builders: Builders, survey: bool = False) -> None:
        from ..tune.jobs import Crew, Plan
        given = self.given
        budget = self.left() * (SURVEY if survey and not given.survey else 1.0)
        plan = Plan(budget, given.strategy, given.trials, given.seed, survey)
        with Watch(len(jobs), budget, "layouts" if survey else "") as watch:
            Crew(self.session, builders, plan, started=watch.started, report=watch.report, ended=watch.ended).run(jobs)

    def _survey(self, builders: Builders) -> None:
        """Measure the lowerings in all layouts, so that layouts are assigned by times and not by estimates."""
        from ..tune.jobs import add_problem, alternatives
        jobs: dict[str, Job] = {}
        for one, subject in self._each():
            alternatives(jobs, graph_of_subject(subject, one, self.session), self.session)
        if self.given.survey:
            for name, problem in self._operators():
                add_problem(jobs, problem, name, self.session)
        if jobs:
            self._work(sorted(jobs.values(), key=lambda job: -job.weight), builders, survey=True)

    def _jobs(self) -> list[Job]:
        """The distinct problems of all programs, those that should take longest first."""
        from ..tune.jobs import add_problem, collect
        jobs: dict[str, Job] = {}
        for one, subject in self._each():
            collect(jobs, graph_of_subject(subject, one, self.session), self.session)
        for name, problem in self._operators():
            add_problem(jobs, problem, name, self.session)
        return sorted(jobs.values(), key=lambda job: -job.weight)

    def _each(self) -> Iterator[tuple[argparse.Namespace, Subject]]:
        """Each program: training, unless only inference was asked for, and inference."""
        for options, subject in self.programs:
            for inference in (True,) if self.given.inference else (False, True):
                options.inference = inference
                yield options, subject

    def _operators(self) -> Iterator:
        for suite, batch in self.suites:
            yield from operators(suite, batch, self.session.target.kind)

    def _compare(self) -> None:
        """Run whole programs with the built-in choices and as tuned, in turns."""
        from ..tune.whole import compare_programs
        rows = []
        for options, subject in self.programs:
            options.inference = self.given.inference

            def compiled(tune: str, subject=subject, options=options):
                with config.override(tune=tune):
                    return compile_subject(subject, options).executable

            purpose = "inference" if options.inference else "training step"
            name = f"{subject.name}, {purpose} of {options.batch_size} images"
            rows.append((name, *compare_programs(lambda: compiled("off"), lambda: compiled("lookup"))))
        report_steps(rows)


def _subjects(given: argparse.Namespace) -> Iterator[tuple[tuple[str, int | None] | str, argparse.Namespace | None]]:
    """Every model with its options; of a suite of operators its name and batch, and None."""
    suites = {*SUITES, *OPERATORS}
    for word in given.model:
        name = word.split("@")[0]
        if name in suites and (given.data is not None or given.input is not None):
            raise ArgumentError("a suite has its own images", where=name, got="--data" if given.data else "--input",
                                hint="leave it out")
        if name in OPERATORS:
            yield (name, _batch(word)), None
            continue
        if name in SUITES and name != word:
            raise ArgumentError("the models of a suite have their own batch sizes", where=word, expected=name)
        for part in SUITES.get(name, (word,)):
            one = copy.copy(given)
            one.model, *own = part.split("@")
            one.batch_size = _batch(part) or given.batch_size
            if len(own) > 1:
                one.input, one.data = _parsed(extents, own[1], part), None
            yield part, one


def _batch(word: str) -> int | None:
    parts = word.split("@")
    if len(parts) > 3:
        raise ArgumentError("cannot be read", where=word, expected="MODEL, MODEL@BATCH or MODEL@BATCH@C,H,W")
    return _parsed(count, parts[1], word) if len(parts) > 1 and parts[1] else None


def _parsed(parse, text: str, word: str):
    try:
        return parse(text)
    except argparse.ArgumentTypeError as error:
        raise ArgumentError(f"cannot be read: {error}", where=word, expected="MODEL, MODEL@BATCH or MODEL@BATCH@C,H,W") from error
