"""The clock of whole runs, where a device waits for its host between launches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clnn import ops
from clnn.compiler import build
from clnn.ir import Graph, TensorSpec
from clnn.passes import INFERENCE
from clnn.runtime import profiler


@pytest.mark.parametrize("kind, launches, expected", [("gpu", 2, [2, 2, 2]), ("gpu", 1, []), ("cpu", 2, [])])
def test_a_gpu_is_kept_busy_while_launches_are_enqueued(kind, launches, expected, device_session, monkeypatch):
    graph = Graph()
    x = graph.input(TensorSpec((64, 300)), "x")
    graph.outputs = [ops.sum(ops.softmax(x, 1) if launches == 2 else x, 1)]
    _, executable = build(graph, device_session, INFERENCE)
    executable.write("x", np.ones((64, 300), np.float32))
    assert len(executable.kernels) == launches

    asked, keep_busy = [], profiler.keep_busy

    def watch(session, queue, count):
        event = keep_busy(session, queue, count)
        event.wait()
        asked.append(count)
        assert event.profile.end > event.profile.start

    monkeypatch.setattr(profiler, "keep_busy", watch)
    monkeypatch.setattr(device_session, "target", replace(device_session.target, kind=kind))
    assert min(profiler.run_seconds(executable, 3)) > 0
    assert asked == expected
