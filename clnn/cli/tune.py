"""``clnn tune``: find the fastest way to run each layer of a model on a device, and remember it."""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import config
from ..errors import ArgumentError
from . import console
from .defaults import MODELS
from .model import add_purpose, compile_subject, open_subject
from .parser import count, natural, positive
from .tuning_report import Watch, report

if TYPE_CHECKING:
    from ..runtime import Session
    from ..tune.jobs import Job

#: suite → (model, shape of an image, images per step)
SUITES: dict[str, tuple[tuple[str, tuple[int, int, int], int], ...]] = {
    "small": (("mlp", (1, 28, 28), 64), ("lenet5", (1, 28, 28), 64)),
    "cifar": (("vgg_small", (3, 32, 32), 128), ("resnet18", (3, 32, 32), 128)),
    "imagenet": (("vgg16", (3, 224, 224), 32), ("resnet18", (3, 224, 224), 32)),
}
STRATEGIES = ("descent", "random", "evolution")


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("tune", help="measure the fastest kernels for a model on this device, and remember them",
                                 description="Search the fastest way to run each layer of a model, check every candidate against "
                                             "the built-in choice, and store what was found; later runs use it by themselves. "
                                             "Every result is stored at once: a search may be stopped with Ctrl-C, and goes on "
                                             "where it was.")
    parser.add_argument("model", nargs="?", metavar="MODEL|SUITE",
                        help=f"{MODELS}; or a saved model file; or a suite of models: {', '.join(SUITES)}")
    add_purpose(parser)
    group = parser.add_argument_group("the search")
    group.add_argument("--budget", type=positive, default=300.0, metavar="SECONDS",
                       help="time for all layers together (default 300)")
    group.add_argument("--trials", type=count, default=80, metavar="N", help="candidates per layer, at most (default 80)")
    group.add_argument("--strategy", choices=STRATEGIES, default="descent",
                       help="descent: curated candidates, then one value at a time (default); evolution: breed the best; random")
    group.add_argument("--seed", type=natural, default=0, metavar="N", help="of the search (default 0)")
    files = parser.add_argument_group("results")
    files.add_argument("--store", type=Path, metavar="FILE",
                       help="where results are kept (default: CLNN_TUNE_STORE, else the cache folder)")
    files.add_argument("--import", type=Path, dest="take", metavar="FILE", help="first take over the results of another file")
    files.add_argument("--export", type=Path, metavar="FILE", help="at the end write what is best for each problem to a file")
    return parser


def run(given: argparse.Namespace) -> int:
    """Tune one model or suite."""
    from ..tune.store import open_store, store_path
    if given.model is None and given.take is None and given.export is None:
        raise ArgumentError("there is nothing to do", where="clnn tune", expected="MODEL, a suite, --import or --export")
    store = open_store(given.store or store_path())
    if given.take is not None:
        taken, refused = store.merge(given.take)
        rest = f", {refused} lines not understood" if refused else ""
        console.output().print(f"{taken} results taken over from {given.take}{rest}")
    status = 0
    if given.model is not None:
        with config.override(tune_store=store.path):
            status = _tune(given)
    if given.export is not None:
        console.output().print(f"{store.export(given.export)} results written to {given.export}")
    return status


def _tune(given: argparse.Namespace) -> int:
    from ..compiler import open_session
    from ..tune.jobs import in_turn
    session = open_session(given.device)
    jobs = _jobs(given, session)
    console.fields([("device", session.device), ("program", f"{given.model}: {len(jobs)} distinct problems"),
                    ("results", config.tune_store)])
    print()
    status = 0
    with Watch(len(jobs), given.budget) as watch:
        try:
            in_turn(jobs, session, budget=given.budget, strategy=given.strategy, trials=given.trials, seed=given.seed,
                    started=watch.started, report=watch.report, ended=watch.ended)
        except KeyboardInterrupt:
            status = 130
    if status:
        console.errors().print("stopped; the same command goes on from here", style="yellow")
    report(jobs, time.monotonic() - watch.start)
    return status


def _jobs(given: argparse.Namespace, session: Session) -> list[Job]:
    """The distinct problems of all programs, those that should take longest first."""
    from ..tune.jobs import collect
    jobs: dict[str, Job] = {}
    for one in _subjects(given):
        for inference in (True,) if given.inference else (False, True):
            one.inference = inference
            subject = open_subject(one)
            with config.override(tune="off"):
                step = compile_subject(subject, one)
            collect(jobs, step.graph, session)
            session.release(step.plan.variables)
    return sorted(jobs.values(), key=lambda job: -job.weight)


def _subjects(given: argparse.Namespace) -> list[argparse.Namespace]:
    """The options for each model of a suite, or those given for one model."""
    if given.model not in SUITES:
        return [copy.copy(given)]
    if given.data is not None or given.input is not None:
        raise ArgumentError("a suite has its own images", where=given.model,
                            got="--data" if given.data else "--input", hint="leave it out")
    found = []
    for model, sample, batch in SUITES[given.model]:
        one = copy.copy(given)
        one.model, one.input, one.batch_size = model, sample, batch
        found.append(one)
    return found
