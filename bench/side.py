"""Contestants: here, or in a process of their own that speaks JSON lines. Both look the same to the measuring loop."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.cases import Case

ROOT = Path(__file__).resolve().parents[1]
WORKER = [sys.executable, "-m", "bench.worker"]
#: seconds of runs before a turn that do not count: an idle CPU takes some 0.03 s to be as fast as before
WARM_UP = 0.05


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
        """Seconds per run: synchronised wall clock around ``repeats`` of them, after some that do not count if they are many."""
        ready = self._ready[handle]
        warm = time.perf_counter() + WARM_UP
        ready.sync()
        while repeats > 1 and time.perf_counter() < warm:
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
        """Let go of what a case holds, once nothing runs any more."""
        self._ready.pop(handle).sync()
        gc.collect()
        if hasattr(self.maker, "collect"):
            self.maker.collect()

    def close(self) -> None:
        self._ready.clear()


class Remote:
    """A contestant in a child process, which may have an environment of its own and may die without harm: what it had prepared is
    then Unable, and the next case gets a fresh process.

    Args:
        limit: seconds that one answer may take; a process that takes longer is ended.
        wait: False to let it start while others do; ``about`` waits.

    Raises:
        Unable: if it does not start, with the reason.
    """

    def __init__(self, name: str, environment: dict[str, str] | None = None, limit: float | None = None, wait: bool = True):
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.name, self._limit = name, limit
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
        self._about: dict | None = None
        self._process = 0                               # counts the processes that there were
        self._handles: dict[int, tuple[int, int]] = {}   # ours → number of the process, and its own
        self._count = 0
        self._spawn()
        if wait:
            _ = self.about

    def _spawn(self) -> None:
        self._log = tempfile.TemporaryFile()        # noqa: SIM115 (closed with the child)
        self._child = subprocess.Popen([*WORKER, self.name], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=self._log, text=True, env=self._environment)
        self._process += 1
        self._greeted, self._ended, self._tainted = False, "", False

    @property
    def about(self) -> dict:
        """Versions and device of the opponent."""
        if not self._greeted:
            self._greeted, self._about = True, self._answer()
        assert self._about is not None
        return self._about

    def _answer(self):
        if self._limit and not select.select([self._child.stdout], [], [], self._limit)[0]:
            self._end(f"took more than the {self._limit:.0f} s that it is given")
            raise Unable(self._ended)
        line = self._child.stdout.readline()
        if not line:
            status = self._child.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
            self._end(f"the process of {self.name} ended with status {status}: {' '.join(last)[:200]}")
            raise Unable(self._ended)
        found = json.loads(line)
        if "unable" in found:
            self._tainted = self._tainted or found.get("unexpected", False)
            raise Unable(found["unable"])
        return found["result"]

    def _ask(self, what: str, *arguments):
        try:
            self._child.stdin.write(json.dumps([what, *arguments]) + "\n")
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass                        # the answer is the reason
        return self._answer()

    def _of(self, handle: int) -> int:
        process, own = self._handles[handle]
        if process != self._process or self._ended:
            raise Unable(self._ended or f"the process of {self.name} had to be started anew")
        return own

    def prepare(self, case: Case, variant: dict) -> tuple[int, dict]:
        if self._tainted and not self._handles:         # after an error that it did not expect, a device may be out of order
            self._end("ended after an error")
        if self._ended:
            self._spawn()
        _ = self.about
        own, facts = self._ask("prepare", case.to_json(), variant)
        self._count += 1
        self._handles[self._count] = self._process, own
        return self._count, facts

    def values(self, handle: int, output: int, indices: np.ndarray) -> np.ndarray:
        return np.array(self._ask("values", self._of(handle), output, indices.tolist()), np.float64)

    def time(self, handle: int, repeats: int) -> float:
        return self._ask("time", self._of(handle), repeats)

    def device_seconds(self, handle: int, repeats: int) -> float | None:
        return self._ask("device_seconds", self._of(handle), repeats)

    def peak_bytes(self, handle: int) -> int | None:
        return self._ask("peak_bytes", self._of(handle))

    def release(self, handle: int) -> None:
        """Never fails: a process that cannot let go of a case is ended."""
        process, own = self._handles.pop(handle)
        if process == self._process and not self._ended:
            try:
                self._ask("release", own)
            except Unable as error:
                self._end(str(error))

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = reason or "ended"
            self._child.kill()
            self._child.wait()
            self._log.close()

    def close(self) -> None:
        if not self._ended and self._child.poll() is None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(10)
        self._end("closed")


class Apart:
    """A contestant with a process for each network and variant, so that none can take others down with it.

    Those of one network are started side by side, and ended when the next one begins.
    """

    def __init__(self, name: str, environment: dict[str, str] | None, limit: float | None, variants: list[dict]):
        self._make = lambda: Remote(name, environment, limit, wait=False)
        first = self._make()
        try:
            self.about = first.about
        finally:
            first.close()
        self._variants, self._group = variants, None
        self._processes: dict[str, Remote] = {}

    def prepare(self, case: Case, variant: dict) -> tuple[tuple[str, int], dict]:
        if case.group != self._group:
            self.close()
            self._group = case.group
            self._processes = {str(known): self._make() for known in self._variants}
        key = str(variant)
        handle, facts = self._processes[key].prepare(case, variant)
        return (key, handle), facts

    def values(self, handle: tuple[str, int], output: int, indices: np.ndarray) -> np.ndarray:
        return self._processes[handle[0]].values(handle[1], output, indices)

    def time(self, handle: tuple[str, int], repeats: int) -> float:
        return self._processes[handle[0]].time(handle[1], repeats)

    def device_seconds(self, handle: tuple[str, int], repeats: int) -> float | None:
        return self._processes[handle[0]].device_seconds(handle[1], repeats)

    def peak_bytes(self, handle: tuple[str, int]) -> int | None:
        return self._processes[handle[0]].peak_bytes(handle[1])

    def release(self, handle: tuple[str, int]) -> None:
        self._processes[handle[0]].release(handle[1])

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes = {}
