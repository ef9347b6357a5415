"""Where a NaN came from: replays the steps since the last good state, and the failing one node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ClnnError, DataError, NumericsError
from ..ir import Node, Value, Variable
from ..ops.step import GatherBatch
from ..runtime import Executable
from .state import all_finite

if TYPE_CHECKING:
    from .loop import Loop


def diagnose(loop: Loop) -> ClnnError:
    """The error that names the first operator with a result that is not finite.

    The loop must be in the good state of its snapshot; it is left somewhere after it.
    """
    position, tracked, count = loop.position, loop.tracked, loop.source.count
    start = position.step
    try:
        loop.begin(position)
        while position.cursor < count:
            before, step, cursor = tracked.arrays(), position.step, position.cursor
            executable, batch = loop.program.next(cursor)
            loop.step()
            if all_finite(tracked.arrays()):
                continue
            tracked.restore(before)
            when = f"step {step + 1}, images {cursor} to {cursor + batch - 1} of epoch {position.epoch + 1}"
            return _blame(executable, when, loop.optimizer.lr_at(step), start)
    finally:
        loop.source.close()
    return NumericsError("the loss was not finite, but was when the same steps ran again", where="training",
                         got=f"steps {start + 1} to {position.step}", expected="the same numbers each time",
                         hint="CLNN_VALIDATE=1 compares every kernel with its reference; the device or its driver may be faulty")


def _blame(executable: Executable, when: str, rate: float, start: int) -> ClnnError:
    """Run one step node by node up to the first result that is not finite."""
    for value in executable.plan.inputs:
        if _bad(read := executable.read(value)):
            return _data_error(value.name, when, read)
    for node, first, last in executable.plan.nodes:
        largest = _largest(executable, node)                # before the run, which may overwrite inputs
        executable.run_range(first, last)
        for value in node.outputs:
            if value not in executable.plan.locations:
                continue
            read = executable.read(value)
            if not _bad(read):
                continue
            if isinstance(node.op, GatherBatch):
                return _data_error("images", when, read)
            return NumericsError(
                f"training diverged: {_name(executable, value)} is not finite",
                where=f"{node.path or 'the loss'} ({node.op.name})", expected="finite numbers",
                got=f"{_describe(read)}, at {when}, learning rate {rate:g}; the inputs reach {largest:.3g}",
                hint=f"a smaller learning rate ({rate / 10:g}), a warm-up (clnn.optim.schedules.Warmup) or normalised images; "
                     f"the model is back in its state after step {start}")
    return NumericsError("training diverged, but every result of the failing step was finite on its own", where="training",
                         got=when,
                         hint=f"a smaller learning rate ({rate / 10:g}); the model is back in its state after step {start}")


def _bad(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _describe(array: np.ndarray) -> str:
    return f"{np.count_nonzero(~np.isfinite(array))} of {array.size} values are NaN or infinite"


def _largest(executable: Executable, node: Node) -> float:
    """The largest magnitude among the node's floating inputs."""
    arrays = [executable.read(v) for v in node.inputs if v.dtype.startswith("float") and v in executable.plan.locations]
    return max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)


def _name(executable: Executable, value: Value) -> str:
    """What to call a result: the variable that it becomes, or the output."""
    place = executable.plan.locations[value]
    return f"the new value of {place.key.name}" if isinstance(place.key, Variable) else "its output"


def _data_error(name: str, when: str, read: np.ndarray) -> DataError:
    rows = np.flatnonzero(~np.isfinite(read).reshape(len(read), -1).all(1)) if read.ndim else np.zeros(1, int)
    return DataError("the data itself is not finite", where=name, expected="finite numbers",
                     got=f"{_describe(read)}, at {when}; first image {int(rows[0])} of the batch",
                     hint="look at the data set, its mean and std, and its transforms")
