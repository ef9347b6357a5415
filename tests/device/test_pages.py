"""Large pages are advice: buffers hold what they should with it and without."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from clnn.runtime import pages


@pytest.fixture
def asked(monkeypatch):
    """The (start, length) of what large pages were asked for."""
    calls = []
    monkeypatch.setattr(pages, "_madvise", lambda: lambda start, length, advice: calls.append((start, length)))
    return calls


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no large pages to ask for")
def test_whole_pages_inside_a_large_buffer_are_asked_for(asked, device_session):
    nbytes = 3 * pages.PAGE + 4096
    buffer = device_session.allocate(nbytes, "a large buffer")
    if not device_session.target.is_cpu:
        assert not asked
        return
    (start, length), = asked
    assert start % pages.PAGE == length % pages.PAGE == 0 and 2 * pages.PAGE <= length <= nbytes
    device_session.allocate(pages.PAGE, "a small one")
    assert len(asked) == 1
    del buffer


@pytest.mark.parametrize("call", [None, lambda *given: -1], ids=["no such call", "refused"])
def test_without_them_buffers_are_the_same(call, monkeypatch, device_session):
    monkeypatch.setattr(pages, "_madvise", lambda: call)
    array = np.arange(2 * pages.PAGE, dtype=np.float32)
    buffer = device_session.allocate(array.nbytes, "a large buffer")
    device_session.upload(buffer, array)
    assert np.array_equal(device_session.download(buffer, np.empty_like(array)), array)
