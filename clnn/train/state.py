"""What training changes: the variables by name, the position in the run, and snapshots of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import FileError
from ..ir import Variable
from ..nn import Module
from ..ops.step import StepState
from ..optim import Optimizer


@dataclass
class Position:
    """Where a run stands.

    ``cursor`` counts the images of the present epoch, ``sums`` is (loss · images, hits, images) of those already read from the
    device, ``seconds`` their time. ``first_epoch`` is the epoch with which the call of fit began.
    """

    epoch: int = 0
    cursor: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    first_epoch: int = 0

    def copy(self) -> Position:
        return replace(self, sums=list(self.sums))


def model_variables(model: Module, optimizer: Optimizer) -> dict[str, Variable]:
    """Parameters and buffers as ``model.…`` (those that are not part of the state as ``transient.…``), optimiser state as
    ``optimizer.parameter.slot``."""
    model.name_variables()
    named = {f"model.{name}": variable for name, variable in model.state_variables().items()}
    known = {id(variable) for variable in named.values()}
    named |= {f"transient.{name}": buffer for name, buffer in model.named_buffers() if id(buffer) not in known}
    for name, parameter in model.named_parameters():
        named |= {f"optimizer.{name}.{slot}": variable for slot, variable in optimizer.state_of(parameter).items()}
    return named


def step_variables(state: StepState) -> dict[str, Variable]:
    """The counters as ``state.…``, less the table of rates, which is computed anew."""
    return {f"state.{variable.name}": variable for variable in state.variables if variable is not state.rates}


def overwrite(variable: Variable, array: np.ndarray) -> None:
    """Give a variable new values, without fetching the old ones from a device."""
    variable.holder = None
    variable.array[...] = array


def all_finite(arrays: Mapping[str, np.ndarray]) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values())


class Tracked:
    """The variables of a run by name."""

    def __init__(self, named: Mapping[str, Variable]):
        self.named = dict(named)

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the present values; waits for the device."""
        return {name: variable.array.copy() for name, variable in self.named.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write such copies back."""
        for name, array in arrays.items():
            overwrite(self.named[name], array)


def load_arrays(named: Mapping[str, Variable], arrays: Mapping[str, np.ndarray], path: object) -> None:
    """Fill variables from a checkpoint; all or nothing.

    Raises:
        FileError: lists what is missing or has another shape.
    """
    wrong = [f"{name} is missing" for name in named if name not in arrays]
    wrong += [f"{name}: {arrays[name].shape} {arrays[name].dtype}, here {v.shape} {v.dtype}" for name, v in named.items()
              if name in arrays and (arrays[name].shape != v.shape or arrays[name].dtype != v.dtype)]
    if wrong:
        raise FileError("the checkpoint does not fit the model and the optimiser", where=path,
                        got="; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""),
                        hint="build the model and the optimiser as they were when it was saved")
    for name, variable in named.items():
        overwrite(variable, arrays[name])
