"""Whole programs, run with the built-in choices and as tuned, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..errors import DeviceMemoryError
from ..runtime import Executable
from ..runtime.profiler import run_seconds

#: rounds: as many as fit in this time, within limits
SECONDS, FEWEST, MOST = 2.0, 3, 30


def compare_programs(one: Callable[[], Executable], other: Callable[[], Executable]) -> tuple[float, float]:
    """Seconds of two programs, the fastest run of each; both are held at once and run in turns, if the device can hold both."""
    first = _filled(one())
    try:
        executables = [first, _filled(other())]
    except DeviceMemoryError:
        seconds = _rounds([first])
        del first
        return seconds[0], _rounds([_filled(other())])[0]
    found = _rounds(executables)
    return found[0], found[1]


def _filled(executable: Executable) -> Executable:
    """With inputs: random images, and zeros where whole numbers are asked for."""
    rng = np.random.default_rng(0)
    for value in executable.plan.inputs:
        floats = value.dtype.startswith("float")
        array = rng.standard_normal(value.shape, np.float32) if floats else np.zeros(value.shape)
        executable.write(value.name, array.astype(value.dtype))
    return executable


def _rounds(executables: list[Executable]) -> list[float]:
    start = time.monotonic()
    for executable in executables:
        run_seconds(executable)
    rounds = min(max(int(SECONDS / max(time.monotonic() - start, 1e-6)), FEWEST), MOST)
    seconds: list[list[float]] = [[] for _ in executables]
    for _ in range(rounds):
        for mine, executable in zip(seconds, executables, strict=True):
            mine += run_seconds(executable, 2)
    return [min(its) for its in seconds]
