"""The graphs of training, evaluation and prediction, compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from ..compiler import append_training, build
from ..errors import ArgumentError, ShapeError
from ..ir import Graph, TensorSpec, Value
from ..nn import Module
from ..ops import accuracy_hits
from ..ops.step import GatherBatch, StepState, end_step
from ..ops.tracing import apply
from ..optim import Optimizer
from ..passes import INFERENCE, TRAINING
from ..plan import Plan
from ..runtime import Executable, Session
from .objective import Objective
from .sources import Source
from .state import overwrite


@contextlib.contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Trace in evaluation mode, or in training mode with the parts that the user froze by ``eval()`` left alone."""
    before = {module: module.training for module in model.modules()}
    if not (training and model.training):
        model.train(training)
    try:
        yield
    finally:
        for module, value in before.items():
            module.training = value


def check_output(output: object, batch: int) -> Value:
    """The model's scores, if there is a row of them per image."""
    if not isinstance(output, Value):
        raise ArgumentError("the model must return one symbolic value", where="model", got=type(output).__name__)
    if len(output.shape) != 2 or output.shape[0] != batch:
        raise ShapeError("the model must give one row of class scores per image", where="model", got=f"output {output.shape}",
                         expected=f"({batch}, classes)", hint="end the model with Flatten and Linear(…, classes)")
    return output


class EpochProgram:
    """One pass over a source: an executable for full batches and one for a smaller last batch, which share all variables.

    With an optimiser each step also updates the model. Loss and hits are summed up in ``state.totals`` on the device.
    """

    def __init__(self, model: Module, objective: Objective, source: Source, session: Session,
                 optimizer: Optimizer | None = None, seed: int = 0):
        self.source, self.session = source, session
        self.state = StepState(seed, source.steps if optimizer else 1)
        self._executables: dict[int, Executable] = {}
        for batch in dict.fromkeys((source.batch, source.remainder or source.batch)):
            try:
                graph = self._graph(model, objective, batch, optimizer)
            except ShapeError as error:
                if batch == source.remainder:
                    error.hint = f"the last batch of an epoch has {batch} image(s); choose another batch_size ({error.hint})"
                    error.args = (error._text(),)
                raise
            self._executables[batch] = build(graph, session, TRAINING if optimizer else INFERENCE)[1]

    def _graph(self, model: Module, objective: Objective, batch: int, optimizer: Optimizer | None) -> Graph:
        graph, state = Graph(), self.state
        graph.random = (state.seed, state.step)
        x, labels = self.source.append(graph, state, batch)
        with mode(model, training=optimizer is not None):
            output = check_output(model(x), batch)
        self.source.check_labels(output.shape[1])
        loss = objective.loss(output, labels)
        hits = accuracy_hits(output, labels)
        if optimizer is not None:
            parameters = [p for p in model.parameters() if p.trainable]
            if not parameters:
                raise ArgumentError("the model has nothing to train", where="fit",
                                    hint="unfreeze parameters: model.requires_grad_(True)")
            append_training(graph, loss, parameters, optimizer, graph.variable(state.rate), graph.variable(state.step))
        end_step(graph, loss, hits, state, batch, self.source.batch)
        return graph

    @property
    def plan(self) -> Plan:
        """The plan of a full batch."""
        return self._executables[self.source.batch].plan

    def next(self, cursor: int) -> tuple[Executable, int]:
        """The executable for the batch at ``cursor`` and the number of its images."""
        batch = min(self.source.batch, self.source.count - cursor)
        return self._executables[batch], batch

    def rehearse(self) -> None:
        """Run each executable once, so that drivers which compile late do it now; all variables keep their values."""
        changed = {variable for executable in self._executables.values() for variable in executable.plan.updated}
        before = {variable: variable.array.copy() for variable in changed}
        for executable in self._executables.values():
            executable.run_unwatched()
        self.session.finish()
        for variable, array in before.items():
            overwrite(variable, array)

    def take_totals(self) -> np.ndarray:
        """(loss · images, hits, images) since they were taken last; waits for the device."""
        totals = self.state.totals.array
        taken = totals.astype(np.float64)
        totals[...] = 0
        return taken

    def evaluate(self) -> dict:
        """Loss, accuracy and count over the whole source; for programs without optimiser."""
        state, source = self.state, self.source
        for variable in (state.cursor, state.totals):
            overwrite(variable, np.zeros(()))
        source.begin(0, 0)
        sums, cursor, taken = np.zeros(3), 0, 0
        try:
            while cursor < source.count:
                executable, batch = self.next(cursor)
                source.feed(executable)
                executable.run()
                cursor += batch
                if cursor - taken > 1 << 20:                # float32 counts exactly up to 2**24
                    sums, taken = sums + self.take_totals(), cursor
            sums = sums + self.take_totals()
        finally:
            source.close()
        return {"loss": float(sums[0] / sums[2]), "accuracy": float(sums[1] / sums[2]), "count": int(sums[2])}


class PredictionProgram:
    """Raw images (batch, …) → probabilities (batch, classes)."""

    def __init__(self, model: Module, objective: Objective, spec: TensorSpec, mean: tuple[float, ...],
                 std: tuple[float, ...], session: Session):
        graph, state = Graph(), StepState()
        batch = spec.shape[0]
        images = graph.input(spec, "images")
        fixed = (np.zeros(batch), np.arange(batch), 0, 0, 0)
        x, _ = apply(GatherBatch(batch, mean, std), images, *(graph.constant(array, "int32") for array in fixed))
        graph.random = (state.seed, state.step)
        with mode(model, training=False):
            output = check_output(model(x), batch)
        graph.outputs = [objective.probabilities(output)]
        self.batch = batch
        self._executable = build(graph, session, INFERENCE)[1]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of at most ``batch`` images."""
        count = len(images)
        if count < self.batch:
            images = np.concatenate([images, np.zeros((self.batch - count, *images.shape[1:]), images.dtype)])
        self._executable.write("images", images)
        self._executable.run()
        return self._executable.read(self._executable.plan.outputs[0])[:count]
