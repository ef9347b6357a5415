"""Compiling many kernels at once in processes of their own, so that a compiler that crashes or hangs does no harm.

Each process opens the device once and lives as long as the pool: on GPUs a context costs memory and half a second. A program that
was built comes back as the driver's binary, or, for CPUs, lies in the driver's cache, from where the parent's build is quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from ..codegen.kernel import KernelSpec
from ..codegen.template import render
from ..errors import BuildError
from .program import sizes
from .session import Session

#: what a process runs
WORKER = ["-m", "clnn.runtime.build_worker"]
#: seconds in which a process must be ready
STARTING = 90.0
#: how often each way to take over a program is tried before the quicker one is kept to
TRIED = 4


@dataclass
class Build:
    """A kernel to be compiled: when ``done`` is set, ``reason`` says why it failed, or is empty."""

    spec: KernelSpec
    request: bytes
    done: threading.Event = field(default_factory=threading.Event)
    reason: str = ""
    binary: bytes = b""
    seconds: float = 0.0


class Builders:
    """A pool of compiling processes for one device. What it has built can be launched from the session.

    Args:
        limit: seconds for one kernel.
        count: processes; by default one per processor, but not more than 14.
    """

    def __init__(self, session: Session, limit: float = 30.0, count: int | None = None):
        self.session, self.limit = session, limit
        self.count = count or max(1, min(os.cpu_count() or 1, 14))
        self._tasks: queue.SimpleQueue[Build | None] = queue.SimpleQueue()
        self._builds: dict[str, Build] = {}
        self._processes: set[subprocess.Popen] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: seconds of taking programs from a binary, or from the driver's own cache by their source: the quicker is kept to
        self._ways: dict[str, list[float]] = {"binary": [], "source": []}
        #: why no process could be started; kernels are then built here
        self.broken = ""

    @property
    def waiting(self) -> int:
        """Kernels that are not compiled yet."""
        return sum(not build.done.is_set() for build in list(self._builds.values()))

    def submit(self, spec: KernelSpec, arguments: list[int]) -> Build:
        """Have a kernel compiled, unless it was before. ``arguments`` are the sizes of its tensors in bytes."""
        name, text = render(spec)
        if name in self._builds:
            return self._builds[name]
        local = sizes(spec)[1]
        request = {"source": text, "name": name, "warm": self.session.target.is_cpu, "local": local, "arguments": arguments}
        build = self._builds[name] = Build(spec, json.dumps(request).encode() + b"\n")
        if self.session.programs.has(spec) or self.broken:
            build.done.set()
            return build
        if len(self._threads) < self.count:
            thread = threading.Thread(target=self._serve, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tasks.put(build)
        return build

    def finish(self, build: Build) -> str:
        """Make a kernel that was compiled ready to launch; returns why that failed, or nothing."""
        build.done.wait()
        if build.reason or self.session.programs.has(build.spec):
            return build.reason
        binary, build.binary = build.binary, b""
        way = min(self._ways, key=lambda way: (min(len(self._ways[way]), TRIED), statistics.median(self._ways[way] or [0.0])))
        start = time.monotonic()
        try:
            self.session.programs.load(build.spec, binary if way == "binary" else b"")
        except BuildError as error:
            build.reason = f"does not build: {str(error.got or error.what).splitlines()[0][:200]}"
        if binary:
            self._ways[way].append(time.monotonic() - start)
        return build.reason

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        for process in list(self._processes):
            process.kill()
        for process in list(self._processes):
            process.wait()

    def __enter__(self) -> Builders:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    # -- one thread per process -------------------------------------------------------------------------------------

    def _serve(self) -> None:
        process: subprocess.Popen | None = None
        while (build := self._tasks.get()) is not None and not self._closed:
            start = time.monotonic()
            if process is None:
                process = self._start()
            if process is not None:
                start = time.monotonic()
                if not self._ask(process, build):
                    self._end(process)
                    process = None
            build.seconds, build.request = time.monotonic() - start, b""
            build.done.set()
        if process is not None:
            self._end(process)

    def _start(self) -> subprocess.Popen | None:
        """A process that is ready, or None: then ``broken`` says why."""
        try:
            process = subprocess.Popen([sys.executable, *WORKER, self.session.device.id],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       start_new_session=True)     # Ctrl-C is for the parent alone
        except OSError as error:
            self.broken = str(error)
            return None
        self._processes.add(process)
        if self._line(process, STARTING) is None:
            self.broken = "a process for compiling could not open the device"
            self._end(process)
            return None
        return process

    def _ask(self, process: subprocess.Popen, build: Build) -> bool:
        """Let a process build; returns whether it can be used on."""
        try:
            process.stdin.write(build.request)
            process.stdin.flush()
            answer = self._line(process, self.limit)
            if answer is None:
                gone = process.poll() is not None
                build.reason = "the compiler crashed" if gone else f"was not built within {self.limit:g} s"
                return False
            if answer["error"]:
                build.reason = f"does not build: {answer['error'].splitlines()[0][:200]}"
            else:
                build.binary = process.stdout.read(answer["bytes"])
            return True
        except (OSError, ValueError, KeyError):
            build.reason = "the compiler crashed"
            return False

    def _line(self, process: subprocess.Popen, limit: float) -> dict | None:
        """The next line of a process, or None if it does not come within ``limit`` seconds, or the process ends."""
        if not select.select([process.stdout], [], [], limit)[0]:
            return None
        line = process.stdout.readline()
        if not line:
            process.wait()
            return None
        return json.loads(line)

    def _end(self, process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        self._processes.discard(process)
