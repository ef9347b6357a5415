"""Results on disk: many writers, broken lines, newer versions, merging; and what is looked up in them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from tune_landscapes import matmul_problem

from clnn.codegen.expr import arg, call
from clnn.config import config
from clnn.errors import ArgumentError, FileError
from clnn.ops.fused import Fused
from clnn.ops.pointwise import Map
from clnn.target import GENERIC_CPU, GENERIC_GPU
from clnn.tune import lookup
from clnn.tune.lookup import fastest, find
from clnn.tune.problem import Problem
from clnn.tune.space import Candidate, Setting
from clnn.tune.store import VERSION, Results, Store, instruction_set, make_record, open_store, parse, template_digest

TEMPLATES = ("gemm/tiled",)


def record(problem=None, target=GENERIC_GPU, kind="best", seconds=1e-3, default_seconds=2e-3, block=64, **more) -> dict:
    candidate = Candidate("tiled", (Setting("gemm/tiled", "BM", block),))
    more = {"default": False} | more
    extra = {"default_seconds": default_seconds} if kind == "best" else {}
    default = more.pop("default")
    problem = problem or matmul_problem(64, 64, 64)
    return make_record(kind, problem, target, candidate, TEMPLATES, default, seconds, **extra, **more)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results.jsonl")


@pytest.fixture
def user_store(tmp_path, monkeypatch):
    """An empty store, and no results that come with clnn."""
    monkeypatch.setattr(lookup, "shipped", Results)
    path = tmp_path / "mine.jsonl"
    with config.override(tune_store=path):
        yield open_store(path)


def test_what_is_appended_is_read(store):
    store.append(record())
    store.append(record(block=32))
    assert [r["config"] for r in store.results()] == [{"gemm/tiled": {"BM": 64}}, {"gemm/tiled": {"BM": 32}}]
    assert len(Store(store.path).results()) == 2
    assert len(Store(store.path.with_name("none")).results()) == 0


def test_several_processes_write_at_once(store):
    script = ("import json, sys; from clnn.tune.store import Store; from pathlib import Path\n"
              "line = json.loads(sys.argv[2])\n"
              "for i in range(60):\n"
              "    Store(Path(sys.argv[1])).append(line | {'writer': sys.argv[3], 'number': i, 'padding': 'x' * (37 * i)})\n")
    text = json.dumps(record())
    writers = [subprocess.Popen([sys.executable, "-c", script, str(store.path), text, str(w)]) for w in range(3)]
    assert [w.wait(120) for w in writers] == [0, 0, 0]
    found = list(store.results())
    assert len(found) == len(store.lines()) == 180
    for writer in "012":
        assert [r["number"] for r in found if r["writer"] == writer] == list(range(60))


def test_a_line_cut_short_is_skipped_and_kept(store):
    store.append(record())
    whole = store.path.read_bytes()
    cut = whole[:len(whole) // 2]
    store.path.write_bytes(whole + cut)
    assert len(store.results()) == 1
    store.append(record(block=16))
    assert len(store.results()) == 2
    assert store.path.read_bytes().startswith(whole + cut + b"\n")


def test_garbage_and_newer_versions_are_skipped_and_kept(store):
    newer = json.dumps({"version": VERSION + 1, "anything": [1, 2]}).encode()
    junk = [b"not json", b"[1, 2]", b"{}", b'{"version": 1}', b"\xff\xfe\x00", newer]
    store.path.write_bytes(b"\n".join(junk) + b"\n\n")
    store.append(record())
    assert len(store.results()) == 1
    assert store.lines()[:-1] == junk
    assert [parse(line) for line in junk] == [None] * len(junk)


def test_merge_takes_what_is_missing_also_of_newer_versions(store, tmp_path):
    other = Store(tmp_path / "other.jsonl")
    store.append(record())
    other.append(record())
    other.append(record(block=16))
    other.append({"version": VERSION + 1})
    with other.path.open("ab") as file:
        file.write(b"garbage\n")
    assert store.merge(other.path) == (2, 1)
    assert store.merge(other.path) == (0, 1)
    assert len(store.lines()) == 3
    with pytest.raises(FileError, match="no such file of tuning results"):
        store.merge(tmp_path / "absent")


def test_export_writes_the_latest_best_of_each_problem(store, tmp_path):
    store.append(record(kind="trial"))
    store.append(record(block=16))
    store.append(record(block=32))
    store.append(record(matmul_problem(8, 8, 8)))
    assert store.export(tmp_path / "out" / "best.jsonl") == 2
    exported = list(Store(tmp_path / "out" / "best.jsonl").results())
    assert sorted(r["config"]["gemm/tiled"]["BM"] for r in exported) == [32, 64]
    with pytest.raises(FileError, match="cannot be exported into the file"):
        store.export(store.path)


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        Store(tmp_path / "file" / "results.jsonl").append(record())


def test_knobs(monkeypatch, tmp_path):
    assert config.tune == "lookup"
    monkeypatch.setenv("CLNN_TUNE", "always")
    with pytest.raises(ArgumentError, match="off, lookup or search"):
        _ = config.tune
    monkeypatch.setenv("CLNN_TUNE_STORE", str(tmp_path / "x.jsonl"))
    from clnn.tune.store import store_path
    assert store_path() == tmp_path / "x.jsonl"


# -- looking up ---------------------------------------------------------------------------------------------------------

def test_exactly_this_problem(user_store):
    problem = matmul_problem(64, 64, 64)
    assert find(problem, GENERIC_GPU) is None
    user_store.append(record(block=16))
    user_store.append(record(block=32))
    found = find(problem, GENERIC_GPU)
    assert found.exact and found.config == {"gemm/tiled": {"BM": 32}}
    assert found.why == "measured: 1 ms, unmeasured choice 2 ms"
    assert find(problem, GENERIC_CPU) is None


def test_another_driver_and_older_kernels_count_less(user_store):
    problem = matmul_problem(64, 64, 64)
    stale = record(block=16)
    stale["templates"] = {"gemm/tiled": "0" * 12}
    user_store.append(stale)
    assert find(problem, GENERIC_GPU).aged and find(problem, GENERIC_GPU).why.startswith("measured with older kernels")
    user_store.append(record(target=replace(GENERIC_GPU, driver="7"), block=32))
    found = find(problem, GENERIC_GPU)
    assert not found.exact and found.config["gemm/tiled"]["BM"] == 32 and "with driver 7" in found.why
    user_store.append(record(block=128))
    assert find(problem, GENERIC_GPU).exact and not find(problem, GENERIC_GPU).aged


def test_nearest_sizes_are_taken_where_they_gained(user_store):
    user_store.append(record(matmul_problem(64, 64, 64), block=16))
    user_store.append(record(matmul_problem(256, 64, 64), block=32))
    found = find(matmul_problem(192, 64, 64), GENERIC_GPU)
    assert not found.exact and found.config["gemm/tiled"]["BM"] == 32
    assert found.why == "of the nearest sizes measured, float32[256,64] float32[64,64]: there 1 ms, unmeasured choice 2 ms"
    assert find(matmul_problem(8192, 64, 64), GENERIC_GPU) is None
    user_store.append(record(matmul_problem(16, 16, 1024), default=True, default_seconds=1e-3))
    assert find(matmul_problem(16, 16, 1024), GENERIC_GPU).default
    assert find(matmul_problem(16, 16, 1030), GENERIC_GPU) is None


def test_what_follows_from_sizes_is_not_carried_over(user_store):
    config = {"gemm/tiled": {"BM": 32}, "splits": 1, "splits 2": 4, "prepack": "b"}
    user_store.append(record(matmul_problem(256, 64, 64)) | {"config": config})
    assert find(matmul_problem(256, 64, 64), GENERIC_GPU).config == config
    assert find(matmul_problem(192, 64, 64), GENERIC_GPU).config == {"gemm/tiled": {"BM": 32}}


def test_the_farther_the_sizes_the_more_must_have_been_gained(user_store):
    user_store.append(record(matmul_problem(512, 64, 64), seconds=1e-3, default_seconds=1.2e-3))
    assert find(matmul_problem(512, 64, 60), GENERIC_GPU) is not None
    assert find(matmul_problem(128, 64, 64), GENERIC_GPU) is None


def test_the_same_sizes_with_other_tails_are_nearer_than_other_sizes(user_store):
    base, tail = matmul_problem(64, 64, 64), Map(exprs=(arg(0) + arg(1),))
    other = Problem(Fused(base.op, ((0, tail),), (1,), 2), (*base.inputs, base.outputs[0]), base.outputs)
    config = {"gemm/tiled": {"BM": 32}, "splits": 2}
    user_store.append(record(other) | {"config": config})
    user_store.append(record(matmul_problem(256, 64, 64), block=16, default=True, default_seconds=1e-3))
    found = find(base, GENERIC_GPU)
    assert found.config == config and "with other tails" in found.why
    assert find(matmul_problem(240, 64, 64), GENERIC_GPU) is None


def test_a_search_broken_off_is_of_use(user_store):
    problem = matmul_problem(64, 64, 64)
    user_store.append(record(kind="trial", seconds=1e-3, block=16))
    assert find(problem, GENERIC_GPU) is None
    user_store.append(record(kind="trial", seconds=2e-3, default=True))
    user_store.append(record(kind="trial", seconds=None, reason="wrong"))
    found = find(problem, GENERIC_GPU)
    assert found.config["gemm/tiled"]["BM"] == 16 and not found.exact
    assert "search not yet finished" in found.why


def test_shipped_results_serve_devices_of_the_same_kind_and_size(user_store, monkeypatch):
    given = Results()
    given.add(record(target=replace(GENERIC_GPU, name="big brother", compute_units=48), block=16))
    monkeypatch.setattr(lookup, "shipped", lambda: given)
    problem = matmul_problem(64, 64, 64)
    found = find(problem, GENERIC_GPU)
    assert not found.exact and "on another gpu, big brother," in found.why
    assert find(problem, replace(GENERIC_GPU, compute_units=8)) is None
    assert find(problem, GENERIC_CPU) is None
    user_store.append(record(block=32))
    assert find(problem, GENERIC_GPU).config["gemm/tiled"]["BM"] == 32


# -- CPUs, and what is fused behind -------------------------------------------------------------------------------------

def cpu(isa: str = "haswell", **facts):
    return replace(GENERIC_CPU, platform="Portable", driver="3.0", version=f"OpenCL 3.0 PoCL: pthread-x86_64-pc-linux-gnu-{isa}",
                   vector_width=16 if "avx512" in isa else 8, **facts)


@pytest.mark.parametrize("version, isa", [
    ("OpenCL 3.0 PoCL HSTR: pthread-x86_64-unknown-linux-gnu-generic, for skylake-avx512", "skylake-avx512"),
    ("OpenCL 3.0 PoCL HSTR: pthread-x86_64-pc-linux-gnu-znver3", "znver3"),
    ("OpenCL 1.2 pocl HSTR: cpu-haswell", "haswell"), ("OpenCL 3.0 (Build 0)", ""), ("OpenCL 1.2", "")])
def test_the_cpu_that_kernels_are_compiled_for_is_read_off_the_version(version, isa):
    assert instruction_set(replace(GENERIC_CPU, version=version)) == isa


def test_shipped_results_of_a_cpu_go_by_what_it_is_compiled_for_not_by_its_name(user_store, monkeypatch):
    given = Results()
    given.add(record(target=cpu("skylake-avx512", name="some CPU", compute_units=2)))
    monkeypatch.setattr(lookup, "shipped", lambda: given)
    problem = matmul_problem(64, 64, 64)
    assert find(problem, cpu("skylake-avx512", name="other CPU", compute_units=2)).exact
    assert find(problem, cpu("skylake-avx512", name="other CPU", compute_units=4)).exact
    assert find(problem, cpu("skylake-avx512", name="other CPU", compute_units=64)) is None
    assert find(problem, cpu("haswell", name="some CPU", compute_units=2)) is None
    near = find(problem, cpu("icelake-avx512", name="some CPU", compute_units=2))
    assert not near.exact and "on 2 cores of skylake-avx512" in near.why


def test_a_home_shared_by_machines_of_one_name_keeps_them_apart(user_store):
    user_store.append(record(target=cpu("skylake-avx512")))
    assert find(matmul_problem(64, 64, 64), cpu("haswell")) is None
    assert find(matmul_problem(64, 64, 64), cpu("skylake-avx512")).exact


def relu(m: int) -> Problem:
    plain = matmul_problem(m, 64, 64)
    op = Fused(plain.op, ((0, Map((call("relu", arg(0)),))),), (0,), 2)
    return Problem(op, plain.inputs, plain.outputs)


def test_what_was_measured_with_other_tails_counts_as_half_an_octave_farther(user_store):
    user_store.append(record(matmul_problem(64, 64, 64)))
    found = find(relu(64), GENERIC_GPU)
    assert not found.exact and "with other tails" in found.why
    user_store.append(record(relu(72), block=16))
    assert find(relu(64), GENERIC_GPU).config["gemm/tiled"]["BM"] == 16
    user_store.append(record(relu(32), default=True, default_seconds=1e-3))
    assert find(relu(32), GENERIC_GPU).default and find(relu(33), GENERIC_GPU) is None


def test_little_gain_on_something_else_is_no_reason(user_store):
    user_store.append(record(target=replace(GENERIC_GPU, driver="7"), default_seconds=1.02e-3))
    assert find(matmul_problem(64, 64, 64), GENERIC_GPU) is not None
    stale = record(default_seconds=1.02e-3, block=16) | {"templates": {"gemm/tiled": "0" * 12}}
    user_store.path.unlink()
    user_store.append(stale)
    assert find(matmul_problem(64, 64, 64), GENERIC_GPU) is None


def test_the_fastest_time_of_any_way_is_known_to_the_cost_model(user_store):
    problem = matmul_problem(64, 64, 64)
    assert fastest(problem, GENERIC_GPU) is None
    user_store.append(record(kind="trial", seconds=3e-3))
    user_store.append(record(kind="trial", seconds=None, reason="wrong"))
    assert fastest(problem, GENERIC_GPU) == 3e-3
    user_store.append(record(seconds=1e-3))
    assert fastest(problem, GENERIC_GPU) == 1e-3
    user_store.append(record(seconds=1e-4) | {"templates": {"gemm/tiled": "0" * 12}})
    assert fastest(problem, GENERIC_GPU) == 1e-3 and fastest(problem, GENERIC_CPU) is None


def test_only_what_is_new_is_read(store, monkeypatch):
    store.append(record())
    assert len(store.results()) == 1
    parsed = []
    monkeypatch.setattr("clnn.tune.store.parse", lambda line: parsed.append(line) or parse(line))
    store.append(record(block=16))
    with store.path.open("ab") as file:
        file.write(b'{"half": ')
    assert len(store.results()) == 2 and len(parsed) == 1
    store.path.write_bytes(b"")
    assert len(store.results()) == 0


def test_a_template_changes_with_what_it_includes_only(tmp_path, monkeypatch):
    (tmp_path / "gemm").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "gemm" / "one.cl").write_text('<%namespace name="a" file="/lib/a.mako"/>')
    (tmp_path / "lib" / "a.mako").write_text('<%namespace name="b" file="/lib/b.mako"/>')
    monkeypatch.setattr("clnn.tune.store.folder", lambda: tmp_path)
    digests = []
    for name in ("b", "c", "b"):
        template_digest.cache_clear()
        digests.append(template_digest("gemm/one") if (tmp_path / "lib" / "b.mako").exists() else "")
        (tmp_path / "lib" / f"{name}.mako").write_text(f"text {len(digests)}")
    template_digest.cache_clear()
    digests.append(template_digest("gemm/one"))
    template_digest.cache_clear()
    assert digests[1] == digests[2] != digests[3]
