"""Choices that one process finds in the cache folder from another: only where everything that they follow from is the same."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

import clnn
from clnn import models
from clnn.config import config
from clnn.tune import DeviceCosts, costs
from clnn.tune.store import store_path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLNN_CACHE", str(tmp_path))
    return tmp_path / "choices"


def test_a_model_that_is_compiled_again_is_not_weighed_again(device, folder, monkeypatch):
    first = clnn.compile(models.lenet5(seed=0), (4, 1, 28, 28), device=device)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(sys.modules["clnn.passes.assign_layouts"], "_by_seconds", None)     # which would be called otherwise
    second = clnn.compile(models.lenet5(seed=0), (4, 1, 28, 28), device=device)
    assert str(second.graph) == str(first.graph) and second.graph.notes == first.graph.notes
    with pytest.raises(TypeError):
        clnn.compile(models.lenet5(seed=0), (8, 1, 28, 28), device=device)


def test_what_an_answer_follows_from(device_session, tmp_path, monkeypatch):
    DeviceCosts(device_session).keep("how?", 1)
    assert DeviceCosts(device_session).recall("how?") == 1 and DeviceCosts(device_session).recall("why?") is None
    with config.override(workspace=7):
        assert DeviceCosts(device_session).recall("how?") is None, "another configuration"
    assert DeviceCosts(device_session, use_measured=False).recall("how?") is None, "without measurements"
    store_path().parent.mkdir(parents=True, exist_ok=True)
    store_path().write_text("{}\n")
    assert DeviceCosts(device_session).recall("how?") is None, "another store"
    store_path().unlink()
    assert DeviceCosts(device_session).recall("how?") == 1
    monkeypatch.setattr(costs, "_sources", lambda: [])
    assert DeviceCosts(device_session).recall("how?") is None, "another clnn"
    monkeypatch.undo()
    monkeypatch.setenv("CLNN_CACHE", str(tmp_path))
    other = SimpleNamespace(target=replace(device_session.target, driver="another"))
    monkeypatch.setattr(costs, "speeds", lambda session: "as fast")
    DeviceCosts(device_session).keep("how fast?", 2)
    assert DeviceCosts(device_session).recall("how fast?") == 2 and DeviceCosts(other).recall("how fast?") is None
