"""Tuning on a device: small problems within seconds, what is stored is used, wrong and hanging candidates are rejected."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

import clnn
from clnn.cli import main
from clnn.compiler import build, optimise, trace
from clnn.config import config
from clnn.errors import ArgumentError, BuildError, NumericsError
from clnn.ir import TensorSpec
from clnn.ops.conv import Conv2d
from clnn.ops.fused import Fused
from clnn.ops.matmul import Matmul
from clnn.passes import INFERENCE, run_passes
from clnn.runtime.builders import Builders
from clnn.runtime.compare import compare
from clnn.runtime.speed import peak
from clnn.tune import apply_choices
from clnn.tune.costs import DeviceCosts
from clnn.tune.estimate import estimate
from clnn.tune.lookup import find
from clnn.tune.measure import Bench, submit
from clnn.tune.problem import Problem
from clnn.tune.space import Space
from clnn.tune.store import Results, make_record, open_store, parse, shipped
from clnn.tune.tuner import tune_problem


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, and no results that come with clnn."""
    monkeypatch.setattr("clnn.tune.lookup.shipped", Results)
    with config.override(tune_store=tmp_path / "results.jsonl"):
        yield open_store(tmp_path / "results.jsonl")


def matmul(m=24, n=40, k=64) -> Problem:
    inputs = (TensorSpec((m, k)), TensorSpec((k, n)))
    return Problem(Matmul(), inputs, Matmul().infer(*inputs))


def conv() -> Problem:
    inputs, op = (TensorSpec((2, 4, 8, 8)), TensorSpec((6, 4, 3, 3))), Conv2d(padding=(1, 1, 1, 1))
    return Problem(op, inputs, op.infer(*inputs))


def graph_of(session, function, *shapes):
    graph, _ = trace(function, [TensorSpec(shape) for shape in shapes])
    return run_passes(graph, session.target, INFERENCE)


def unlike_default(space: Space):
    return next(c for c in space.seeds() if c != space.default)


def pretend(store, space, candidate, target, gain=2.0):
    """Store that a candidate was measured to be the best."""
    templates = [launch.kernel.template for launch in space.offer(candidate).launches]
    store.append(make_record("best", space.problem, target, candidate, templates, candidate == space.default, 1e-3,
                             default_seconds=gain * 1e-3, finished=True))


@pytest.mark.parametrize("problem", [matmul(), conv()], ids=str)
def test_tuning_stores_what_lookup_finds(problem, device_session, store):
    status = tune_problem(problem, device_session, store, seconds=20, trials=6)
    assert status.trials == 6 and status.finished and 0 < status.best <= status.default
    records = list(store.results())
    assert [r["kind"] for r in records] == ["trial"] * 6 + ["best"]
    assert records[0]["default"] and records[0]["seconds"] > 0
    found = find(problem, device_session.target)
    assert found.exact and found.lowering == status.candidate.lowering and found.config == status.candidate.config


def test_what_was_measured_is_not_measured_again(device_session, store, monkeypatch):
    problem = matmul()
    first = tune_problem(problem, device_session, store, seconds=20, trials=4)
    monkeypatch.setattr(Bench, "measure", lambda self, candidates: pytest.fail(f"measured {candidates}"))
    again = tune_problem(problem, device_session, store, seconds=20, trials=4)
    assert again.trials == first.trials == 4


def test_lookup_sets_lowering_and_offer(device_session, store):
    graph = graph_of(device_session, lambda x, w: clnn.ops.relu(clnn.ops.matmul(x, w)), (24, 64), (64, 40))
    node = next(node for node in graph.nodes if isinstance(node.op, Fused))
    problem = Problem(node.op, tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs))
    space, before = Space(problem, device_session.target), node.offer
    chosen = unlike_default(space)
    pretend(store, space, chosen, device_session.target)
    apply_choices(graph, device_session, "off")
    assert node.offer is before and not node.note
    apply_choices(graph, device_session, "lookup")
    assert node.offer == space.offer(chosen) != before
    assert node.lowering == chosen.lowering
    assert node.note == "measured: 1 ms, unmeasured choice 2 ms"


def test_programs_use_what_is_stored_and_give_the_same(device, device_session, store):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((24, 64), np.float32), rng.standard_normal((64, 40), np.float32)
    space = Space(matmul(), device_session.target)
    pretend(store, space, space.candidate("simple", {"gemm/simple": {"CHUNK": 2}}), device_session.target)
    np.testing.assert_allclose(clnn.evaluate(clnn.ops.matmul, x, w, device=device), x @ w, rtol=1e-4, atol=1e-4)
    graph, _ = trace(clnn.ops.matmul, [TensorSpec((24, 64)), TensorSpec((64, 40))])
    final, _ = build(graph, device_session, INFERENCE)
    assert [(node.lowering, dict(node.offer.launches[0].kernel.config)["CHUNK"]) for node in final.nodes] == [("simple", 2)]
    default = space.default.lowering
    assert final.nodes[0].refusals[-1] == (default, "slower: 1 ms, unmeasured choice 2 ms")


def test_tails_that_share_a_measurement_stay_their_own(device, device_session, store):
    """Of tails the tensors are a problem's, not the expressions: what is found for one is taken for the others."""
    def both(x, w, b):
        y = clnn.ops.matmul(x, w)
        return clnn.ops.add(y, b), clnn.ops.mul(clnn.ops.matmul(clnn.ops.mul(x, 2.0), w), b), clnn.ops.relu(b)

    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((24, 64), (64, 40), (24, 40)))
    graph = graph_of(device_session, both, x.shape, w.shape, b.shape)
    fused = [node for node in graph.nodes if isinstance(node.op, Fused)]
    problems = {Problem(n.op, tuple(v.spec for v in n.inputs), tuple(v.spec for v in n.outputs)) for n in fused}
    assert len(problems) == 2 and len({problem.key for problem in problems}) == 1
    space = Space(problems.pop(), device_session.target)
    pretend(store, space, unlike_default(space), device_session.target)
    expected = x @ w + b, 2 * (x @ w) * b, np.maximum(b, 0)
    for got, wanted in zip(clnn.evaluate(both, x, w, b, device=device), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_a_forced_lowering_is_left_alone(device_session, store):
    space = Space(matmul(), device_session.target)
    pretend(store, space, unlike_default(space), device_session.target)
    with config.override(lowering={"Matmul": "simple"}):
        graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
        apply_choices(graph, device_session, "lookup")
    assert graph.nodes[0].lowering == "simple" and not graph.nodes[0].note


def test_a_stored_choice_that_does_not_apply_falls_back_and_says_why(device_session, store):
    space = Space(matmul(), device_session.target)
    pretend(store, space, space.default, device_session.target)
    record = next(iter(store.results()))
    store.append(record | {"lowering": "winograd", "default": False})
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    before = graph.nodes[0].offer
    apply_choices(graph, device_session, "lookup")
    assert graph.nodes[0].offer is before
    assert graph.nodes[0].refusals[-1] == ("winograd as tuned", "there is no such lowering any more")
    store.append(record | {"config": {"splits": 3}, "default": False})
    apply_choices(graph, device_session, "lookup")
    assert "choice splits cannot be 3" in graph.nodes[0].refusals[-1][1]


@pytest.mark.parametrize("older", [{"templates": {"gemm/simple": "0" * 12}}, {"lowerings": ["simple"]}], ids=["text", "list"])
def test_what_is_older_does_not_change_the_lowering(older, device_session, store):
    """A way that is chosen unmeasured may be newer than the measurement."""
    space = Space(matmul(), device_session.target)
    pretend(store, space, space.candidate("simple", {}), device_session.target)
    record = next(iter(store.results()))
    store.path.unlink()
    store.append(record | older)
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    before = graph.nodes[0].offer
    apply_choices(graph, device_session, "lookup")
    assert graph.nodes[0].offer is before
    assert graph.nodes[0].refusals[-1] == ("simple as tuned", "was measured when kernels were others")


def test_search_measures_what_is_missing(device_session, store, monkeypatch):
    monkeypatch.setattr("clnn.tune.chooser.SEARCH_SECONDS", 0.5)
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    seen = []
    apply_choices(graph, device_session, "search", seen.append)
    assert seen and graph.nodes[0].note.startswith("measured")
    with pytest.raises(ArgumentError, match="unknown tuning mode"):
        apply_choices(graph, device_session, "always")


def test_lookups_read_each_result_once(device_session, store, monkeypatch):
    shipped()
    read = []
    monkeypatch.setattr("clnn.tune.store.parse", lambda line: read.append(line) or parse(line))
    for size in (24, 48, 96):
        space = Space(matmul(size, 40, 64), device_session.target)
        for _ in range(10):
            pretend(store, space, unlike_default(space), device_session.target)
        for number in range(10):
            assert find(matmul(size, 40, 64 + number), device_session.target) is not None
    assert len(read) == len(store.lines()) >= 30


# -- candidates that must not win ---------------------------------------------------------------------------------------

def test_a_wrong_candidate_is_rejected_before_it_is_timed(device_session, store, monkeypatch):
    problem = matmul()
    space = Space(problem, device_session.target)
    honest = Bench._run_once

    def run_once(self, executable):
        buffers = honest(self, executable)
        if executable.plan.launches[0].kernel != space.offer(space.default).launches[0].kernel:
            found = device_session.download(buffers[0], np.empty(problem.outputs[0].size, np.float32))
            found[7] += 1.0
            device_session.upload(buffers[0], found)
        return buffers

    monkeypatch.setattr(Bench, "_run_once", run_once)
    status = tune_problem(problem, device_session, store, seconds=20, trials=5)
    assert status.candidate == space.default and status.best == status.default
    assert sum(status.failures.values()) >= 1
    assert all(reason.startswith("wrong: output 0 differs from the default's by") for reason in status.failures)
    failed = [r for r in store.results() if r["kind"] == "trial" and not r["default"]]
    assert failed and all(r["seconds"] is None and r["reason"] for r in failed)


def test_an_unwritten_output_is_noticed(device_session):
    """A kernel that does nothing finds the default's output in its buffer only if nobody has overwritten that."""
    problem = matmul()
    space = Space(problem, device_session.target)
    with Bench(device_session, problem, space) as bench:
        executable = bench._executable(space.offer(space.default))
        assert bench.disagreement(executable) == ""
        executable.run = lambda: None
        assert "differs from the default's by inf" in bench.disagreement(executable)


def test_a_candidate_that_does_not_build_is_recorded(device_session, monkeypatch):
    problem = matmul()
    space = Space(problem, device_session.target)
    other = unlike_default(space)
    with Bench(device_session, problem, space) as bench:
        def refuse(specs):
            raise BuildError("the compiler refused", got="line 3: error")
        monkeypatch.setattr(device_session.programs, "build", refuse)
        assert bench.measure([other]) == [math.inf]
    assert bench.results[other].reason == "does not build: the compiler refused line 3: error"


def test_a_compiler_that_hangs_does_not_hang_the_tuner(device_session, monkeypatch):
    problem = matmul()
    space = Space(problem, device_session.target)
    other = unlike_default(space)
    with Bench(device_session, problem, space) as bench:
        bench.build_limit = 0.2         # the default, which is built before, may take longer on a busy machine
        monkeypatch.setattr(device_session.programs, "build", lambda specs: time.sleep(3))
        start = time.monotonic()
        assert bench.measure([other]) == [math.inf]
        assert time.monotonic() - start < 2
    assert bench.results[other].reason == "was not built within 0.2 s"


def test_a_driver_error_is_the_candidates(device_session, monkeypatch):
    problem = matmul()
    space = Space(problem, device_session.target)
    other = unlike_default(space)
    with Bench(device_session, problem, space) as bench:
        def explode(executable, runs=1):
            raise RuntimeError("OUT_OF_RESOURCES")
        monkeypatch.setattr("clnn.tune.measure.run_seconds", explode)
        assert bench.measure([other]) == [math.inf]
    assert bench.results[other].reason == "does not run: OUT_OF_RESOURCES"


def test_nothing_to_compare_with(device_session):
    """The logarithm of -1 - x² is no number whatever x is."""
    graph, _ = trace(lambda x: clnn.ops.log(clnn.ops.sub(-1.0, clnn.ops.mul(x, x))), [TensorSpec((5,))])
    node = run_passes(graph, device_session.target, INFERENCE).nodes[0]
    problem = Problem(node.op, tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs))
    with pytest.raises(NumericsError, match="not finite"):
        Bench(device_session, problem, Space(problem, device_session.target))


# -- processes that compile ---------------------------------------------------------------------------------------------

def test_kernels_built_in_other_processes_run_here(device_session, store):
    with Builders(device_session, count=2) as builders:
        status = tune_problem(conv(), device_session, store, seconds=30, trials=5, builders=builders)
        assert status.trials == 5 and status.default < math.inf and not status.failures
        assert not builders.waiting and not builders.broken
        survey = tune_problem(matmul(), device_session, store, builders=builders, survey=True)
        assert survey.trials >= 1 and survey.default < math.inf
    assert [r["kind"] for r in store.results()].count("best") == 1          # a survey chooses nothing


def test_what_memory_holds_by_chance_harms_no_building_process(device_session, monkeypatch):
    """Kernels for CPUs are run once where they are built; those whose cores draw tiles from a board must find it empty."""
    monkeypatch.setenv("MALLOC_PERTURB_", "85")     # the C library fills what it gives out with 0xAA, negative numbers
    problem = matmul(256, 512, 96)
    space = Space(problem, device_session.target)
    monkeypatch.setattr(device_session.programs, "has", lambda spec: False)
    with Builders(device_session, count=1) as builders:
        builds = [build for candidate in space.seeds()[:6] for build in submit(builders, problem, space.offer(candidate))]
        assert builds and not [reason for build in builds if (reason := builders.finish(build))]


def test_a_compiler_that_crashes_or_hangs_is_replaced(device_session, monkeypatch, tmp_path):
    """The first process is killed while it works, the second one sleeps over its time."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys, time, os, signal\n"
        "print(json.dumps({'ready': True}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    name = json.loads(line)['source']\n"
        "    if 'CRASH' in name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if 'HANG' in name: time.sleep(60)\n"
        "    print(json.dumps({'error': 'line 3: error' if 'WRONG' in name else '', 'bytes': 0}), flush=True)\n")
    monkeypatch.setattr("clnn.runtime.builders.WORKER", [str(script)])
    space = Space(matmul(40, 24, 56), device_session.target)
    specs = [space.offer(candidate).launches[0].kernel for candidate in space.seeds()[:4]]
    texts = dict(zip(specs, ("CRASH", "HANG", "WRONG", "fine"), strict=True))
    monkeypatch.setattr("clnn.runtime.builders.render", lambda spec: (texts[spec], texts[spec]))
    monkeypatch.setattr(device_session.programs, "has", lambda spec: False)
    monkeypatch.setattr(device_session.programs, "load", lambda spec, binary: None)
    with Builders(device_session, limit=0.5, count=1) as builders:
        builds = [builders.submit(spec, [4]) for spec in specs]
        assert [builders.finish(build) for build in builds] == [
            "the compiler crashed", "was not built within 0.5 s", "does not build: line 3: error", ""]


def test_comparison_on_the_device(device_session):
    one = np.linspace(-3, 2, 1001, dtype=np.float32)
    other = one.copy()
    other[500] += 0.25
    buffers = [device_session.allocate(4004, "test") for _ in range(2)]

    def compared(a, b, floats=True):
        for buffer, array in zip(buffers, (a, b), strict=True):
            device_session.upload(buffer, array)
        return compare(device_session, *buffers, 4004, floats)

    assert compared(one, one) == (0.0, 3.0)
    assert compared(one, other)[0] == pytest.approx(0.25, rel=1e-5)
    assert compared(one, np.where(one > 1.9, np.nan, one).astype(np.float32))[0] == math.inf
    numbers = np.arange(1001, dtype=np.int32)
    assert compared(numbers, numbers, False)[0] == 0 and compared(numbers, numbers + 256, False)[0] == 1001


# -- estimates and the command ------------------------------------------------------------------------------------------

def test_estimates(device_session):
    speeds = peak(device_session)
    assert 1e8 < speeds.flops < 1e16 and 1e8 < speeds.bandwidth < 1e14 and 0 < speeds.launch < 1e-2
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    small = estimate(graph.nodes[0], device_session)
    graph = graph_of(device_session, clnn.ops.matmul, (2400, 640), (640, 400))
    assert 0 < small < estimate(graph.nodes[0], device_session)
    costs = DeviceCosts(device_session)
    problem = conv()
    space = Space(problem, device_session.target, costs)
    seconds = {start.lowering: costs.estimate(problem.op, problem.inputs, problem.outputs, space.offer(start))
               for start in space.starts}
    assert len(seconds) >= 2 and seconds[space.default.lowering] <= 1.3 * min(seconds.values())


def test_the_default_of_the_tuner_is_what_runs_unmeasured(device_session, store):
    graph, _ = trace(lambda x, w: clnn.ops.conv2d(x, w, padding=2), [TensorSpec((4, 1, 28, 28)), TensorSpec((6, 1, 5, 5))])
    with config.override(tune="off"):
        final = optimise(graph, device_session, INFERENCE)
    node = next(node for node in final.nodes if isinstance(node.op, Conv2d))
    space = Space(Problem(node.op, tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)),
                  device_session.target, DeviceCosts(device_session))
    assert space.default.lowering == node.lowering and space.offer(space.default) == node.offer


def test_command(device, store, capsys, tmp_path):
    arguments = ["tune", "mlp", "--input", "1,4,4", "--hidden", "8", "--batch-size", "4", "--inference", "--device", device.id,
                 "--budget", "6", "--trials", "3", "--store", str(store.path)]
    assert main([*arguments, "--export", str(tmp_path / "out.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert "distinct problems" in shown and "gain" in shown and "all" in shown
    assert main(arguments) == 0
    assert "known" in capsys.readouterr().out
    assert main(["tune", "--store", str(tmp_path / "fresh.jsonl"), "--import", str(tmp_path / "out.jsonl")]) == 0
    assert "results taken over" in capsys.readouterr().out
    assert main(["tune"]) == 1
    assert "there is nothing to do" in capsys.readouterr().err
