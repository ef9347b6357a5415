"""Contestants: here, or in a process of their own that speaks JSON lines. Both look the same to the measuring loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.cases import Case

ROOT = Path(__file__).resolve().parents[1]


class Unable(Exception):
    """A contestant cannot do a case; the text says why."""


class Prepared:
    """A case ready to run.

    Args:
        run: enqueues one run.
        sync: waits for everything that was enqueued.
        output: number → flat array of the output of the first run (of the first set of inputs).
        device_seconds: repeats → seconds per run by the device's own clock.
        peak_bytes: device memory at its height.
    """

    def __init__(self, run: Callable[[], object], sync: Callable[[], object], output: Callable[[int], np.ndarray],
                 device_seconds: Callable[[int], float] | None = None, peak_bytes: Callable[[], int | None] = lambda: None,
                 facts: dict | None = None):
        self.run, self.sync, self.output = run, sync, output
        self.device_seconds, self.peak_bytes, self.facts = device_seconds, peak_bytes, facts or {}


class Local:
    """A contestant of this process. ``maker`` has ``about()`` and ``prepare(case, variant)`` → Prepared, or raises Unable."""

    def __init__(self, maker):
        self.maker, self.about = maker, maker.about()
        self._ready: dict[int, Prepared] = {}
        self._number = 0

    def prepare(self, case: Case, variant: dict) -> tuple[int, dict]:
        """(handle, facts to record)"""
        ready = self.maker.prepare(case, variant)
        self._number += 1
        self._ready[self._number] = ready
        return self._number, ready.facts

    def values(self, handle: int, output: int, indices: np.ndarray) -> np.ndarray:
        """Elements of an output."""
        return np.asarray(self._ready[handle].output(output), np.float64).reshape(-1)[indices]

    def time(self, handle: int, repeats: int) -> float:
        """Seconds per run: synchronised wall clock around ``repeats`` of them, after one that does not count if they are many."""
        ready = self._ready[handle]
        if repeats > 1:
            ready.run()
        ready.sync()
        start = time.perf_counter()
        for _ in range(repeats):
            ready.run()
        ready.sync()
        return (time.perf_counter() - start) / repeats

    def device_seconds(self, handle: int, repeats: int) -> float | None:
        """Seconds per run by the device's clock, where there is one."""
        clock = self._ready[handle].device_seconds
        return clock(repeats) if clock else None

    def peak_bytes(self, handle: int) -> int | None:
        return self._ready[handle].peak_bytes()

    def release(self, handle: int) -> None:
        del self._ready[handle]
        if hasattr(self.maker, "collect"):
            self.maker.collect()

    def close(self) -> None:
        self._ready.clear()


class Remote:
    """A contestant in a child process, which may have an environment of its own and may die without harm.

    Raises:
        Unable: if it does not start, with the reason.
    """

    def __init__(self, name: str, environment: dict[str, str] | None = None):
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.name = name
        self._log = tempfile.TemporaryFile()        # noqa: SIM115 (closed with the child)
        self._child = subprocess.Popen([sys.executable, "-m", "bench.worker", name], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=self._log, text=True,
                                       env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})})
        self.about = self._answer()

    def _answer(self):
        line = self._child.stdout.readline()
        if not line:
            status = self._child.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Unable(f"the process of {self.name} ended with status {status}: {' '.join(last)[:200]}")
        found = json.loads(line)
        if "unable" in found:
            raise Unable(found["unable"])
        return found["result"]

    def _ask(self, what: str, *arguments):
        try:
            self._child.stdin.write(json.dumps([what, *arguments]) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass                        # the answer is the reason
        return self._answer()

    def prepare(self, case: Case, variant: dict) -> tuple[int, dict]:
        handle, facts = self._ask("prepare", case.to_json(), variant)
        return handle, facts

    def values(self, handle: int, output: int, indices: np.ndarray) -> np.ndarray:
        return np.array(self._ask("values", handle, output, indices.tolist()), np.float64)

    def time(self, handle: int, repeats: int) -> float:
        return self._ask("time", handle, repeats)

    def device_seconds(self, handle: int, repeats: int) -> float | None:
        return self._ask("device_seconds", handle, repeats)

    def peak_bytes(self, handle: int) -> int | None:
        return self._ask("peak_bytes", handle)

    def release(self, handle: int) -> None:
        self._ask("release", handle)

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.stdin.close()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._log.close()
