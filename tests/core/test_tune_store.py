"""Results on disk: many writers, broken lines, newer versions, merging; and what is looked up in them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from tune_landscapes import matmul_problem

from clnn.config import config
from clnn.errors import ArgumentError, FileError
from clnn.target import GENERIC_CPU, GENERIC_GPU
from clnn.tune import lookup
from clnn.tune.lookup import find
from clnn.tune.space import Candidate, Setting
from clnn.tune.store import VERSION, Results, Store, make_record, open_store, parse

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
def user_store(tmp_path):
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
    assert find(problem, GENERIC_GPU).why.startswith("measured with older kernels")
    user_store.append(record(target=replace(GENERIC_GPU, driver="7"), block=32))
    found = find(problem, GENERIC_GPU)
    assert not found.exact and found.config["gemm/tiled"]["BM"] == 32 and "with driver 7" in found.why
    user_store.append(record(block=128))
    assert find(problem, GENERIC_GPU).exact


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
