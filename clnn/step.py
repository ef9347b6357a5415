"""A compiled program in the user's hand."""

from __future__ import annotations

import numpy as np

from .errors import ArgumentError
from .ir import Graph
from .ops.step import StepState
from .passes.choose_lowerings import describe_lowerings
from .runtime import Executable, Session
from .runtime.profiler import Profile, profile


class Step:
    """A graph bound to a device.

    Attributes:
        graph: the graph after all passes; print it.
        plan: the launches and the memory; print it.
        executable: the bound plan, for those who enqueue by themselves.
    """

    def __init__(self, graph: Graph, executable: Executable, state: StepState, optimizer=None):
        self.graph, self.executable = graph, executable
        self._state, self._optimizer, self._count, self._rate = state, optimizer, 0, None

    @property
    def plan(self):
        return self.executable.plan

    @property
    def session(self) -> Session:
        return self.executable.session

    def run(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...] | np.ndarray:
        """Bind the inputs in order, run once, and return the outputs (the loss first, if there is one) as numpy arrays."""
        names = [value.name for value in self.plan.inputs]
        if len(arrays) != len(names):
            raise ArgumentError(
                "wrong number of inputs", where="Step.run", got=len(arrays), expected=f"{len(names)}: {', '.join(names)}"
            )
        for name, array in zip(names, arrays, strict=True):
            self.executable.write(name, array)
        self.executable.run()
        if self._optimizer is not None:
            self._count += 1
            self._state.step.array[...] = self._count
            if (rate := self._optimizer.lr_at(self._count)) != self._rate:
                self._rate = rate
                self._state.rate.array[...] = rate
        outputs = tuple(self.executable.read(value) for value in self.plan.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def explain(self) -> str:
        """The graph, the lowering of each node with the refusals that led to it, the launches and the memory."""
        return "\n\n".join([str(self.graph), describe_lowerings(self.graph), str(self.plan)])

    def profile(self, repeats: int = 5) -> Profile:
        """Time every launch on the device; see :class:`clnn.runtime.profiler.Profile`."""
        return profile(self.executable, repeats)
