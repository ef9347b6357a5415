"""Buffers where memory is short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from clnn.errors import DeviceMemoryError
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
