"""Building, checking and timing candidates on a device.

A candidate is timed only after its output agreed with the default's on random numbers. Whatever goes wrong with one is its
recorded reason and never ends the search. Runs follow each other at once: what fits into the device's caches is timed there. The
fastest of some runs counts, as whatever else goes on only slows down.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Offer
from ..codegen.template import render
from ..errors import ClnnError, NumericsError
from ..ir import Graph, TensorSpec, Variable
from ..ops.fused import Fused
from ..plan import make_plan
from ..runtime import Executable, Session
from ..runtime.builders import Build, Builders
from ..runtime.compare import compare, copy, fill
from ..runtime.profiler import run_seconds
from .problem import Problem
from .space import Candidate, Space

#: largest difference from the default's output, on the scale of its largest number
TOLERANCE = 1e-4
#: a candidate this many times slower than the best is dropped after one run
HOPELESS = 3.0
#: runs of a candidate: as many as fit in this time, within limits
SECONDS, FEWEST, MOST = 0.04, 2, 100
#: random numbers that are drawn for large tensors; a prime, so that they do not repeat along with the tensor's axes
DRAWN = 1_048_573


@dataclass(frozen=True)
class Result:
    """Seconds of one run; infinite with a reason where the candidate failed."""

    candidate: Candidate
    seconds: float
    reason: str = ""


class Bench:
    """One problem on one device, with its inputs and the default's output.

    Args:
        build_limit: seconds that a compiler may take for the kernels of one candidate.
        builders: processes that compile; without them threads do, which a compiler that crashes takes down with all else.

    Raises:
        ClnnError: if the default itself does not run, or gives nothing to compare with.
    """

    def __init__(self, session: Session, problem: Problem, space: Space, build_limit: float = 30.0, seed: int = 0,
                 builders: Builders | None = None):
        self.session, self.problem, self.space, self.build_limit = session, problem, space, build_limit
        self.builders = builders
        self.best = math.inf
        self.results: dict[Candidate, Result] = {}
        self._measured: dict[tuple[str, ...], Result] = {}
        self._variables: list[Variable] = []
        self._reference: list = []
        self._scales: list[float] = []
        default = space.default
        if reason := self._built([default])[default]:
            raise NumericsError("the default cannot be built, so nothing can be compared with it", where=problem, got=reason)
        for positive in (False, True):
            self._fill(positive, seed)
            executable = self._executable(space.offer(default))
            finite = self._keep_reference(executable)
            session.finish()        # before the executable goes: some drivers do not outlive kernels that are freed early
            if finite:
                return
        self.close()
        raise NumericsError("the default's output on random numbers is not finite, so nothing can be compared with it",
                            where=problem)

    def close(self) -> None:
        """Free what the device holds for this problem."""
        self.session.release(self._variables)
        self._variables, self._reference = [], []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    # -- inputs and outputs -----------------------------------------------------------------------------------------

    def _fill(self, positive: bool, seed: int) -> None:
        """Random inputs, in physical order, which random numbers do not mind."""
        self.close()
        rng = np.random.default_rng(seed)
        base = self.problem.op.base_inputs if isinstance(self.problem.op, Fused) else len(self.problem.inputs)
        self._variables = [Variable(_numbers(rng, spec, positive or number >= base), f"input {number}")
                           for number, spec in enumerate(self.problem.inputs)]

    def _executable(self, offer: Offer) -> Executable:
        graph = Graph()
        values = [graph.variable(variable) for variable in self._variables]
        for value, spec in zip(values, self.problem.inputs, strict=True):
            value.spec = spec
        node = graph.append(self.problem.op, values, self.problem.outputs, str(self.problem))
        node.offer, node.lowering = offer, "tuned"
        graph.outputs = list(node.outputs)
        return Executable(make_plan(graph, self.session.target, join=False), self.session)

    def _run_once(self, executable: Executable) -> list:
        """The buffers of the outputs after one run. What a kernel leaves unwritten is not what stood there before, but NaN."""
        buffers = [executable.buffer(executable.plan.locations[value]) for value in executable.plan.outputs]
        for buffer, spec in zip(buffers, self.problem.outputs, strict=True):
            fill(self.session, buffer, spec.nbytes)
        executable.run()
        return buffers

    def _keep_reference(self, executable: Executable) -> bool:
        """Keep the outputs of the default; returns whether they are finite."""
        self._reference, self._scales = [], []
        for buffer, spec in zip(self._run_once(executable), self.problem.outputs, strict=True):
            kept = self.session.allocate(spec.nbytes, "the default's output")
            copy(self.session, buffer, kept, spec.nbytes)
            apart, scale = compare(self.session, buffer, kept, spec.nbytes, spec.dtype == "float32")
            if apart or not math.isfinite(scale):
                return False
            self._reference.append(kept)
            self._scales.append(max(scale, 1e-30))
        return True

    def disagreement(self, executable: Executable) -> str:
        """Where the outputs of a run differ from the default's, or nothing."""
        outputs = self._run_once(executable)
        for number, (buffer, spec) in enumerate(zip(outputs, self.problem.outputs, strict=True)):
            floats, scale = spec.dtype == "float32", self._scales[number]
            apart, _ = compare(self.session, buffer, self._reference[number], spec.nbytes, floats)
            if not apart <= (TOLERANCE * scale if floats else 0):
                by = f"{apart:.3g} on a scale of {scale:.3g}" if floats else f"{apart:.0f} bytes"
                return f"output {number} differs from the default's by {by}"
        return ""

    # -- candidates -------------------------------------------------------------------------------------------------

    def measure(self, candidates: list[Candidate]) -> list[float]:
        """Seconds of candidates, infinite for those that fail; ``results`` keeps them with their reasons."""
        reasons = self._built(candidates)
        for candidate in candidates:
            kernels = tuple(render(launch.kernel)[0] for launch in self.space.offer(candidate).launches)
            if reasons[candidate]:
                result = Result(candidate, math.inf, reasons[candidate])
            elif kernels in self._measured:                             # the same programs under another name
                known = self._measured[kernels]
                result = Result(candidate, known.seconds, known.reason)
            else:
                result = self._measured[kernels] = self._run(candidate)
            self.results[candidate] = result
            self.best = min(self.best, result.seconds)
        return [self.results[candidate].seconds for candidate in candidates]

    def _run(self, candidate: Candidate) -> Result:
        try:
            executable = self._executable(self.space.offer(candidate))
            if reason := self.disagreement(executable):
                return Result(candidate, math.inf, f"wrong: {reason}")
            return Result(candidate, self._time(executable))
        except ClnnError as error:
            return Result(candidate, math.inf, _reason(error))
        except Exception as error:      # whatever the driver raises is the candidate's fault, and a reason not to take it
            return Result(candidate, math.inf, f"does not run: {_reason(error)}")

    def _time(self, executable: Executable) -> float:
        (first,) = run_seconds(executable)
        if first > HOPELESS * self.best:
            return first
        runs = min(max(int(SECONDS / first), FEWEST), MOST)
        return min(run_seconds(executable, runs))

    def compare(self, one: Candidate, other: Candidate) -> tuple[float, float]:
        """Seconds of two candidates, run in turns so that both see the same clock and the same neighbours."""
        executables = [self._executable(self.space.offer(candidate)) for candidate in (one, other)]
        seconds: list[list[float]] = [[], []]
        once = sum(run_seconds(executable)[0] for executable in executables)
        for _ in range(min(max(int(SECONDS / once), FEWEST), MOST)):
            for mine, executable in zip(seconds, executables, strict=True):
                mine += run_seconds(executable, 3)
        return min(seconds[0]), min(seconds[1])

    # -- building ---------------------------------------------------------------------------------------------------

    def _built(self, candidates: list[Candidate]) -> dict[Candidate, str]:
        """Build candidates side by side; the reason of each that failed, else an empty text."""
        if self.builders is None:
            return self._build_here(candidates)
        builds = {candidate: submit(self.builders, self.problem, self.space.offer(candidate)) for candidate in candidates}
        return {candidate: next(filter(None, map(self.builders.finish, its)), "") for candidate, its in builds.items()}

    def _build_here(self, candidates: list[Candidate]) -> dict[Candidate, str]:
        """The threads are daemons: a compiler that hangs keeps its thread, but neither the search nor the end of the program
        waits for it."""
        reasons = dict.fromkeys(candidates, "")
        workers = os.cpu_count() or 1
        for first in range(0, len(candidates), workers):
            wave = [_Build(self.session, self.space.offer(candidate)) for candidate in candidates[first:first + workers]]
            deadline = time.monotonic() + self.build_limit
            for candidate, build in zip(candidates[first:first + workers], wave, strict=True):
                build.join(max(deadline - time.monotonic(), 0.0))
                reasons[candidate] = f"was not built within {self.build_limit:g} s" if build.is_alive() else build.reason
        return reasons


def submit(builders: Builders, problem: Problem, offer: Offer) -> list[Build]:
    """Have the kernels of an offer compiled."""
    tensors: dict[str, Iterable[TensorSpec]] = {"in": problem.inputs, "out": problem.outputs, "work": offer.work}
    return [builders.submit(launch.kernel, [tensors[kind][index].nbytes for kind, index in launch.operands])
            for launch in offer.launches]


class _Build(threading.Thread):
    """Builds the kernels of one offer."""

    def __init__(self, session: Session, offer: Offer):
        super().__init__(daemon=True)
        self.session, self.offer, self.reason = session, offer, ""
        self.start()

    def run(self) -> None:
        try:
            for launch in self.offer.launches:
                self.session.programs.build([launch.kernel])
        except Exception as error:      # a driver may raise anything; the reason is reported
            self.reason = f"does not build: {_reason(error)}"


def _reason(error: Exception) -> str:
    """The first lines of an error, short enough for a table."""
    if isinstance(error, ClnnError):
        text = " ".join([error.what, *str("" if error.got is None else error.got).splitlines()[:1]])
    else:
        text = (str(error).splitlines() or [type(error).__name__])[0]
    return text[:200]


def _numbers(rng: np.random.Generator, spec: TensorSpec, positive: bool) -> np.ndarray:
    """Random numbers for an input. Whole numbers are classes, indices and counters: zero fits the first two, one the last."""
    if spec.dtype.startswith("float"):
        count = min(spec.size, DRAWN)
        drawn = rng.uniform(0.5, 1.5, count) if positive else rng.standard_normal(count, np.float32)
        return np.resize(drawn.astype(spec.dtype), spec.shape)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, spec.size, np.uint8).reshape(spec.shape)
    return np.full(spec.shape, 1 if spec.size == 1 else 0, spec.dtype)
