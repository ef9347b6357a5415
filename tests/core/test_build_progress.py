"""The line that counts kernels while they are built: only on a terminal, only when it takes long, and gone afterwards."""

from __future__ import annotations

import io
import sys

import pytest

from clnn.runtime import progress
from clnn.runtime.progress import BuildLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def put(monkeypatch, stream, original=None):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "__stderr__", original or stream)
    return stream


def test_a_long_build_is_counted_and_the_line_goes_away(monkeypatch, clock):
    terminal = put(monkeypatch, Terminal())
    with BuildLine("compiling", 120) as line:
        line.advance(20)
        assert terminal.getvalue() == ""
        clock[0] = 2.5
        line.advance(23)
        assert terminal.getvalue() == "\r\x1b[Kcompiling 43/120 kernels"
        line.advance()
        assert terminal.getvalue().endswith("\r\x1b[Kcompiling 44/120 kernels")
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_short_build_says_nothing(monkeypatch, clock):
    terminal = put(monkeypatch, Terminal())
    with BuildLine("compiling", 2) as line:
        clock[0] = 1.9
        line.advance(2)
    assert terminal.getvalue() == ""


def test_the_line_goes_away_after_an_error_too(monkeypatch, clock):
    terminal = put(monkeypatch, Terminal())
    with pytest.raises(RuntimeError), BuildLine("compiling", 2) as line:
        clock[0] = 3.0
        line.advance()
        raise RuntimeError
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("stream, original", [(io.StringIO(), None), (Terminal(), Terminal()), (None, None)],
                         ids=["no terminal", "taken over by a bar", "no standard error"])
def test_nothing_is_written_elsewhere(stream, original, monkeypatch, clock):
    put(monkeypatch, stream, original)
    with BuildLine("compiling", 2) as line:
        clock[0] = 9.0
        line.advance()
    assert stream is None or stream.getvalue() == ""
