"""The loop over epochs and steps: enqueue, read the totals now and then, save, validate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..optim import Optimizer
from .diagnose import diagnose
from .history import History
from .interrupt import Interrupt
from .programs import EpochProgram
from .progress import Silent
from .state import Position, Tracked, all_finite


@dataclass
class Snapshot:
    """A good state on the host to which a run can go back."""

    arrays: dict[str, np.ndarray]
    position: Position
    points: int


class Loop:
    """One call of fit.

    Args:
        position: where to begin; moved along.
        last_epoch: the epoch before which to stop.
        log_every: steps between two readings of the totals.
        checkpoint_every: steps between two checkpoints, or None for one per epoch.
        save: writes a checkpoint with the arrays that it is given, or None.
        validate: gives validation_loss and validation_accuracy.
        on_log: called with each logged point.
    """

    def __init__(self, program: EpochProgram, tracked: Tracked, optimizer: Optimizer, position: Position, history: History, *,
                 last_epoch: int, log_every: int, checkpoint_every: int | None,
                 save: Callable[[dict[str, np.ndarray]], None] | None, validate: Callable[[], dict],
                 on_log: Callable[[dict], object] | None, progress: Silent, interrupt: Interrupt):
        self.program, self.tracked, self.optimizer, self.position, self.history = program, tracked, optimizer, position, history
        self.last_epoch, self.log_every, self.checkpoint_every = last_epoch, log_every, checkpoint_every
        self.save, self.validate, self.on_log, self.progress, self.interrupt = save, validate, on_log, progress, interrupt
        self.source, self._since = program.source, 0.0
        self.snapshot = self._snapshot(tracked.arrays())

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until ``last_epoch``.

        Raises:
            NumericsError, DataError: a value is not finite; the state is then that of the last snapshot.
            KeyboardInterrupt: the user asked to stop; the state is that after the last whole step.
        """
        position, source = self.position, self.source
        try:
            while position.epoch < self.last_epoch:
                self.begin(position)
                self._since = time.perf_counter()
                while position.cursor < source.count:
                    self.step()
                    done = -(-position.cursor // source.batch)
                    if done % self.log_every == 0 or position.cursor == source.count:
                        self._log()
                    if self.checkpoint_every and position.step % self.checkpoint_every == 0 and position.cursor < source.count:
                        self._checkpoint()
                    self._heed_interrupt()
                self._end_epoch()
        finally:
            source.close()

    def begin(self, position: Position) -> None:
        """Set clock, rates and order on the device for the epoch of ``position``."""
        state, batch = self.program.state, self.source.batch
        first = position.step - -(-position.cursor // batch)
        state.rates.array[...] = [self.optimizer.lr_at(first + i) for i in range(self.source.steps)]
        state.rate.array[...] = state.rates.array[min(position.cursor // batch, self.source.steps - 1)]
        state.step.array[...], state.cursor.array[...] = position.step, position.cursor
        self.source.begin(position.epoch, position.cursor)

    def step(self) -> None:
        """Enqueue one step."""
        executable, batch = self.program.next(self.position.cursor)
        self.source.feed(executable)
        executable.run()
        self.position.cursor += batch
        self.position.step += 1

    def _log(self) -> None:
        """Read and clear the totals."""
        position = self.position
        totals = self.program.take_totals()
        if not np.isfinite(totals).all():
            self._diverged()
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        position.seconds += elapsed
        position.sums = [a + float(b) for a, b in zip(position.sums, totals, strict=True)]
        if totals[2] == 0:
            return
        loss, hits, images = totals
        point = {"step": position.step, "epoch": position.epoch + position.cursor / self.source.count,
                 "loss": float(loss / images), "accuracy": float(hits / images),
                 "lr": float(self.optimizer.lr_at(position.step - 1))}
        self.history.steps.append(point)
        epoch = position.epoch - position.first_epoch
        self.progress.update(epoch + 1, epoch * self.source.count + position.cursor, point, float(images / max(elapsed, 1e-9)))
        if self.on_log is not None:
            self.on_log(dict(point))
            self._since = time.perf_counter()

    def _end_epoch(self) -> None:
        position = self.position
        arrays = self.tracked.arrays()
        if not all_finite(arrays):
            self._diverged()
        loss, hits, images = position.sums
        record: dict = {"epoch": position.epoch + 1, "loss": loss / images, "accuracy": hits / images,
                  "validation_loss": None, "validation_accuracy": None,
                  "images_per_second": images / max(position.seconds, 1e-9), "seconds": position.seconds}
        record |= self.validate()
        self.history.epochs.append(record)
        self.progress.epoch({**record, "epoch": record["epoch"] - position.first_epoch})
        position.epoch, position.cursor, position.sums, position.seconds = position.epoch + 1, 0, [0.0, 0.0, 0.0], 0.0
        self.snapshot = self._snapshot(arrays)
        due = self.checkpoint_every is None or position.step % self.checkpoint_every == 0 or position.epoch == self.last_epoch
        if self.save is not None and due:
            self.save(arrays)
        if position.epoch < self.last_epoch:
            self._heed_interrupt()

    def _checkpoint(self) -> None:
        """Save in the middle of an epoch; the clock of the epoch stands still meanwhile."""
        if self.save is None:
            return
        arrays = self.tracked.arrays()
        self.position.seconds += time.perf_counter() - self._since
        if not all_finite(arrays):
            self._diverged()
        self.snapshot = self._snapshot(arrays)
        self.save(arrays)
        self._since = time.perf_counter()

    def _heed_interrupt(self) -> None:
        if self.interrupt.requested:
            raise KeyboardInterrupt

    # -- going back -------------------------------------------------------------------------------------------------

    def _snapshot(self, arrays: dict[str, np.ndarray]) -> Snapshot:
        """The present state, of which ``arrays`` are the values."""
        return Snapshot(arrays, self.position.copy(), len(self.history.steps))

    def roll_back(self) -> None:
        """Return variables, position and history to the snapshot."""
        self.tracked.restore(self.snapshot.arrays)
        vars(self.position).update(vars(self.snapshot.position.copy()))
        del self.history.steps[self.snapshot.points:]

    def halt(self) -> dict[str, np.ndarray]:
        """After an interrupt between steps: the state, or the last good one if it is not finite."""
        arrays = self.tracked.arrays()
        if all_finite(arrays):
            return arrays
        self.roll_back()
        return self.snapshot.arrays

    def _diverged(self) -> None:
        """Find out where the first value that is not finite was made.

        Raises:
            NumericsError, DataError: always.
        """
        self.roll_back()
        try:
            raise diagnose(self)
        finally:
            self.roll_back()
