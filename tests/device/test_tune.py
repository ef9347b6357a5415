"""Tuning on a device: small problems within seconds, what is stored is used, wrong and hanging candidates are rejected."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

import clnn
from clnn.cli import main
from clnn.compiler import build, trace
from clnn.config import config
from clnn.errors import ArgumentError, BuildError, NumericsError
from clnn.ir import TensorSpec
from clnn.ops.conv import Conv2d
from clnn.ops.fused import Fused
from clnn.ops.matmul import Matmul
from clnn.passes import INFERENCE, run_passes
from clnn.runtime.speed import peak
from clnn.tune import apply_choices
from clnn.tune.estimate import estimate, ranked
from clnn.tune.lookup import find
from clnn.tune.measure import Bench
from clnn.tune.problem import Problem
from clnn.tune.space import Space
from clnn.tune.store import make_record, open_store
from clnn.tune.tuner import tune_problem


@pytest.fixture
def store(tmp_path):
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


def test_search_measures_what_is_missing(device_session, store, monkeypatch):
    monkeypatch.setattr("clnn.tune.chooser.SEARCH_SECONDS", 0.5)
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    seen = []
    apply_choices(graph, device_session, "search", seen.append)
    assert seen and graph.nodes[0].note.startswith("measured")
    with pytest.raises(ArgumentError, match="unknown tuning mode"):
        apply_choices(graph, device_session, "always")


def test_lookup_is_quick(device_session, store):
    for size in (24, 48, 96):
        space = Space(matmul(size, 40, 64), device_session.target)
        for _ in range(60):
            pretend(store, space, unlike_default(space), device_session.target)
    find(matmul(), device_session.target)
    start = time.perf_counter()
    for number in range(20):
        find(matmul(24, 40, 64 + number), device_session.target)
    assert (time.perf_counter() - start) / 20 < 5e-3        # a millisecond on a machine that does nothing else


# -- candidates that must not win ---------------------------------------------------------------------------------------

def test_a_wrong_candidate_is_rejected_before_it_is_timed(device_session, store, monkeypatch):
    problem = matmul()
    space = Space(problem, device_session.target)
    honest = Bench._outputs

    def outputs(self, executable):
        found = honest(self, executable)
        if executable.plan.launches[0].kernel != space.offer(space.default).launches[0].kernel:
            found[0][7] += 1.0
        return found

    monkeypatch.setattr(Bench, "_outputs", outputs)
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
        bench._outputs(executable)
        executable.run = lambda: None
        assert "differs from the default's by nan" in bench.disagreement(bench._outputs(executable))


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
    with Bench(device_session, problem, space, build_limit=0.2) as bench:
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


# -- estimates and the command ------------------------------------------------------------------------------------------

def test_estimates(device_session):
    speeds = peak(device_session)
    assert 1e8 < speeds.flops < 1e16 and 1e8 < speeds.bandwidth < 1e14 and 0 < speeds.launch < 1e-2
    graph = graph_of(device_session, clnn.ops.matmul, (24, 64), (64, 40))
    small = estimate(graph.nodes[0], device_session)
    graph = graph_of(device_session, clnn.ops.matmul, (2400, 640), (640, 400))
    assert 0 < small < estimate(graph.nodes[0], device_session)
    bounds = ranked(Space(conv(), device_session.target), device_session)
    assert bounds == sorted(bounds, key=lambda entry: entry[0]) and len(bounds) >= 2


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
