"""Building, checking and timing candidates on a device.

A candidate is timed only after its output agreed with the default's on random numbers. Whatever goes wrong with one is its
recorded reason and never ends the search. Runs follow each other at once: what fits into the device's caches is timed there.
"""

from __future__ import annotations

import math
import os
import statistics
import threading
import time
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Offer
from ..codegen.template import render
from ..errors import ClnnError, NumericsError
from ..ir import Graph, TensorSpec, Variable
from ..ops.fused import Fused
from ..plan import make_plan
from ..runtime import Executable, Session
from ..runtime.profiler import run_seconds
from .problem import Problem
from .space import Candidate, Space

#: largest difference from the default's output, on the scale of its largest number
TOLERANCE = 1e-4
#: a candidate this many times slower than the best is dropped after one run
HOPELESS = 3.0
#: runs of a candidate: as many as fit in this time, within limits
SECONDS, FEWEST, MOST = 0.06, 5, 25


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

    Raises:
        ClnnError: if the default itself does not run, or gives nothing to compare with.
    """

    def __init__(self, session: Session, problem: Problem, space: Space, build_limit: float = 30.0, seed: int = 0):
        self.session, self.problem, self.space, self.build_limit = session, problem, space, build_limit
        self.best = math.inf
        self.results: dict[Candidate, Result] = {}
        self._measured: dict[tuple[str, ...], Result] = {}
        self._variables: list[Variable] = []
        default = space.default
        if reason := self._build([default])[default]:
            raise NumericsError("the default cannot be built, so nothing can be compared with it", where=problem, got=reason)
        for positive in (False, True):
            self._fill(positive, seed)
            self.reference = self._outputs(self._executable(space.offer(default)))
            if all(np.isfinite(array).all() for array in self.reference if array.dtype.kind == "f"):
                return
        raise NumericsError("the default's output on random numbers is not finite, so nothing can be compared with it",
                            where=problem)

    def close(self) -> None:
        """Free what the device holds for this problem."""
        self.session.release(self._variables)

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
        return Executable(make_plan(graph, self.session.target), self.session)

    def _outputs(self, executable: Executable) -> list[np.ndarray]:
        """The outputs of one run, in physical order. What a kernel leaves unwritten is not what stood there before, but NaN."""
        buffers = [executable.buffer(executable.plan.locations[value]) for value in executable.plan.outputs]
        arrays = [np.empty(spec.size, spec.dtype) for spec in self.problem.outputs]
        for buffer, array in zip(buffers, arrays, strict=True):
            array.view(np.uint8)[...] = 0xFF
            if array.size:
                self.session.upload(buffer, array)
        executable.run()
        return [self.session.download(buffer, array) for buffer, array in zip(buffers, arrays, strict=True)]

    def disagreement(self, outputs: list[np.ndarray]) -> str:
        """Where outputs differ from the default's, or nothing."""
        for number, (got, expected) in enumerate(zip(outputs, self.reference, strict=True)):
            if not expected.size:
                continue
            if expected.dtype.kind != "f":
                if differing := int(np.count_nonzero(got != expected)):
                    return f"output {number} differs from the default's in {differing} of {expected.size} places"
                continue
            scale = max(float(np.max(np.abs(expected))), 1e-30)
            error = float(np.max(np.abs(got - expected)))
            if not error <= TOLERANCE * scale:
                return f"output {number} differs from the default's by {error:.3g} on a scale of {scale:.3g}"
        return ""

    # -- candidates -------------------------------------------------------------------------------------------------

    def measure(self, candidates: list[Candidate]) -> list[float]:
        """Seconds of candidates, infinite for those that fail; ``results`` keeps them with their reasons."""
        reasons = self._build(candidates)
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
            if reason := self.disagreement(self._outputs(executable)):
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
        return statistics.median(run_seconds(executable, runs))

    def compare(self, one: Candidate, other: Candidate, rounds: int = 4) -> tuple[float, float]:
        """Seconds of two candidates, run in turns so that both see the same clock and the same neighbours."""
        executables = [self._executable(self.space.offer(candidate)) for candidate in (one, other)]
        seconds: list[list[float]] = [[], []]
        for executable in executables:
            run_seconds(executable)
        for _ in range(rounds):
            for mine, executable in zip(seconds, executables, strict=True):
                mine += run_seconds(executable, 3)
        return statistics.median(seconds[0]), statistics.median(seconds[1])

    # -- building ---------------------------------------------------------------------------------------------------

    def _build(self, candidates: list[Candidate]) -> dict[Candidate, str]:
        """Build candidates side by side; the reason of each that failed, else an empty text.

        The threads are daemons: a compiler that hangs keeps its thread, but neither the search nor the end of the program waits
        for it.
        """
        reasons = dict.fromkeys(candidates, "")
        workers = os.cpu_count() or 1
        for first in range(0, len(candidates), workers):
            wave = [_Build(self.session, self.space.offer(candidate)) for candidate in candidates[first:first + workers]]
            deadline = time.monotonic() + self.build_limit
            for candidate, build in zip(candidates[first:first + workers], wave, strict=True):
                build.join(max(deadline - time.monotonic(), 0.0))
                reasons[candidate] = f"was not built within {self.build_limit:g} s" if build.is_alive() else build.reason
        return reasons


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
        drawn = rng.uniform(0.5, 1.5, spec.size) if positive else rng.standard_normal(spec.size, np.float32)
        return drawn.astype(spec.dtype).reshape(spec.shape)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, spec.size, np.uint8).reshape(spec.shape)
    return np.full(spec.shape, 1 if spec.size == 1 else 0, spec.dtype)
