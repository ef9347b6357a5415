"""Buffers where memory is short, and variables that are sent ahead."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from clnn.errors import DeviceMemoryError
from clnn.ir import Variable
from clnn.runtime import Session
from clnn.runtime.opencl import cl


class _Ring:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self, freed: list):
        self.freed, self.itself = freed, self

    def __del__(self):
        self.freed.append(True)


def short_of_memory(monkeypatch, enough) -> None:
    """Buffers are refused until ``enough()``."""
    api = cl()

    def buffer(*arguments):
        if not enough():
            raise api.MemoryError("clCreateBuffer", api.status_code.MEM_OBJECT_ALLOCATION_FAILURE)
        return api.Buffer(*arguments)

    stand_in = SimpleNamespace(MemoryError=api.MemoryError, RuntimeError=api.RuntimeError, mem_flags=api.mem_flags, Buffer=buffer)
    monkeypatch.setitem(Session.__init__.__globals__, "cl", lambda: stand_in)     # the module is hidden by its function


def test_garbage_gives_way_to_buffers(device_session, monkeypatch):
    freed: list = []
    _Ring(freed)
    short_of_memory(monkeypatch, lambda: bool(freed))
    assert device_session.allocate(64, "test").size == 64


def test_what_does_not_fit_says_so(device_session, monkeypatch):
    short_of_memory(monkeypatch, lambda: False)
    with pytest.raises(DeviceMemoryError) as caught:
        device_session.allocate(64, "test")
    assert "test" in caught.value.where and caught.value.hint


def variables():
    return [*(Variable(np.full((3, 5), i, np.float32), f"v{i}") for i in range(4)), Variable(np.zeros(0, np.float32), "nothing")]


def on_the_device(session, variable):
    return session.download(session.buffer_of(variable), np.empty(variable.shape, np.float32))


def test_what_was_sent_ahead_is_not_sent_again(device_session, monkeypatch):
    ahead = variables()
    device_session.send(ahead)
    for i, variable in enumerate(ahead[:-1]):
        assert (on_the_device(device_session, variable) == i).all()
    sent = []
    monkeypatch.setattr(cl(), "enqueue_copy", lambda queue, buffer, array, **_: sent.append(array))
    monkeypatch.setattr(cl(), "wait_for_events", lambda events: None)
    device_session.bring_in_step(ahead, [])
    assert not sent
    ahead[2].array[...] = 7
    device_session.bring_in_step(ahead, [])
    assert len(sent) == 1 and (sent[0] == 7).all()


def test_nothing_is_sent_ahead_that_does_not_fit(device_session, monkeypatch):
    monkeypatch.setattr(device_session, "target", replace(device_session.target, global_memory=200))
    ahead = variables()
    device_session.send(ahead)
    assert not any(id(variable) in device_session._copies for variable in ahead)
