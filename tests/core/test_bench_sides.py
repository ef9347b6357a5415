"""Opponents in processes of their own: one that crashes, hangs or breaks is skipped with its reason, and harms nobody else."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import measure, side  # noqa: E402
from bench.cases import Case  # noqa: E402
from bench.measure import Competition, Entry  # noqa: E402
from bench.opponents import OPPONENTS  # noqa: E402
from bench.side import Apart, Local, Prepared, Remote, Unable  # noqa: E402

EAGER, GRAPH = ({"precision": "fp32", "layout": "NCHW", "mode": mode} for mode in ("eager", "graph"))


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    monkeypatch.setattr(side, "WORKER", [sys.executable, str(Path(__file__).with_name("bench_stub.py"))])


@pytest.fixture
def remote():
    made = Remote("stub", {"BENCH_DEVICE": "0:1"}, limit=20)
    yield made
    made.close()


def case(what, group="net"):
    return Case(what, "scale", {"what": what}, {"x": (4,)}, 8, 32, group, outputs=((4,),))


def test_a_process_answers(remote):
    assert remote.about["device"] == "0:1"
    handle, facts = remote.prepare(case("fine"), EAGER)
    assert facts == {"pid": remote.about["process"]}
    assert remote.values(handle, 0, np.array([3, 1])).tolist() == [3.0, 1.0]
    assert remote.time(handle, 2) >= 0 and remote.device_seconds(handle, 1) is None
    remote.release(handle)


def test_who_is_unable_keeps_its_process(remote):
    pid = remote.about["process"]
    with pytest.raises(Unable, match="not for me"):
        remote.prepare(case("unable"), EAGER)
    assert remote.prepare(case("fine"), EAGER)[1]["pid"] == pid


@pytest.mark.parametrize("what, reason", [("dies", "status 3: last words"), ("error", "RuntimeError: out of order")])
def test_after_a_failure_the_next_case_gets_a_fresh_process(remote, what, reason):
    pid = remote.about["process"]
    with pytest.raises(Unable, match=reason):
        remote.prepare(case(what), EAGER)
    handle, facts = remote.prepare(case("fine"), EAGER)
    assert facts["pid"] != pid
    assert remote.time(handle, 1) >= 0


def test_who_takes_too_long_is_ended():
    remote = Remote("stub", limit=1.5)
    with pytest.raises(Unable, match="took more than the 2 s that it is given"):
        remote.prepare(case("slow"), EAGER)
    assert remote._child.returncode is not None
    remote._limit = 20
    remote.prepare(case("fine"), EAGER)
    remote.close()


def test_what_a_dead_process_had_prepared_is_lost(remote):
    good, _ = remote.prepare(case("fine"), EAGER)
    bad, _ = remote.prepare(case("dies-running"), EAGER)
    with pytest.raises(Unable, match="status 4"):
        remote.time(bad, 1)
    with pytest.raises(Unable, match="status 4"):
        remote.time(good, 1)
    remote.release(good)
    remote.release(bad)


def test_a_fresh_process_knows_nothing_of_the_one_before(remote):
    doomed, _ = remote.prepare(case("dies-running"), EAGER)
    with pytest.raises(Unable, match="status 4"):
        remote.time(doomed, 1)
    fresh, _ = remote.prepare(case("fine"), EAGER)
    with pytest.raises(Unable, match="started anew"):
        remote.time(doomed, 1)
    remote.release(doomed)
    assert remote.time(fresh, 1) >= 0


def test_who_cannot_let_go_is_ended_and_nobody_hears_of_it(remote):
    pid = remote.about["process"]
    handle, _ = remote.prepare(case("stuck"), EAGER)
    remote.release(handle)
    assert remote.prepare(case("fine"), EAGER)[1]["pid"] != pid


def test_each_network_and_variant_has_a_process():
    apart = Apart("stub", {}, 20, [EAGER, GRAPH])
    assert "process" in apart.about
    train = [apart.prepare(case("fine"), variant) for variant in (EAGER, GRAPH)]
    infer = [apart.prepare(case("fine"), variant) for variant in (EAGER, GRAPH)]
    first, second = (facts["pid"] for _, facts in train)
    assert first != second and [facts["pid"] for _, facts in infer] == [first, second]
    doomed, _ = apart.prepare(case("dies-running"), GRAPH)
    with pytest.raises(Unable):
        apart.time(doomed, 1)
    assert apart.time(train[0][0], 1) >= 0 and apart.values(train[0][0], 0, np.array([2])).tolist() == [2.0]
    for handle, _ in train:
        apart.release(handle)
    _, facts = apart.prepare(case("fine", "another net"), EAGER)
    assert facts["pid"] not in (first, second)
    apart.close()


def test_graphs_of_networks_on_cuda_are_kept_apart():
    assert OPPONENTS["torch-cuda"].apart == ("models",) and OPPONENTS["tinygrad"].limit < OPPONENTS["torch-cpu"].limit
    assert "models" in OPPONENTS["tinygrad"].suites


class Plain:
    """A contestant of this process."""

    def about(self):
        return {}

    def prepare(self, case, variant):
        return Prepared(lambda: None, lambda: None, lambda number: np.arange(4.0))


class Roof:
    """A roof that is found to be higher later."""

    def __init__(self):
        self.flops = 1.0

    def look_again(self):
        self.flops = 1e15

    def bound(self, flops, nbytes, precision, tensor=None):
        return flops / self.flops

    def to_json(self):
        return {"gflops": {}, "copy_gbs": 1.0, "sources": {}}


def test_a_crash_in_the_middle_is_a_skipped_contestant(monkeypatch, tmp_path, remote):
    competition = Competition.__new__(Competition)
    competition.suite, competition.reference, competition.roofline, competition._work = "gemm", None, Roof(), []
    competition.tolerance, competition._saved = {"fp32": 1e-4}, 0.0

    class Few:
        rounds, target_s, device, out = 2, 1e-4, None, tmp_path

        def name(self, suite):
            return suite
    competition.options, competition.result = Few(), {}
    started = [("clnn", Local(Plain()), [EAGER]), ("stub", remote, [EAGER])]
    found = competition._case(case("dies-running"), started)
    assert [entry["who"] for entry in found["results"]] == ["clnn"]
    assert [skip["who"] for skip in found["skipped"]] == ["stub"] and "status 4" in found["skipped"][0]["reason"]
    fine = competition._case(case("fine"), started)
    assert [entry["who"] for entry in fine["results"]] == ["clnn", "stub"]
    assert "without stub: the process of stub ended" in measure.summary(found)
    low = found["results"][0]["of_bound"]
    monkeypatch.setattr(measure, "save", lambda name, device, result, folder: tmp_path)
    competition._save(finished=True)            # all results get the highest roof that was found
    assert found["results"][0]["of_bound"] < low * 1e-9


def test_an_entry_that_failed_is_asked_no_more():
    class Counting:
        asked = 0

        def time(self, handle, repeats):
            self.asked += 1
            raise Unable("gone")
    counting = Counting()
    entry = Entry("stub", EAGER, counting, 1, {})
    assert entry.attempt("time", 1) is None and entry.attempt("time", 1) is None
    assert counting.asked == 1 and entry.failed == "gone"
