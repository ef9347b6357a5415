"""Tensors that outlive one run: parameters, running statistics, optimiser state, counters."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .spec import TensorSpec


class Holder(Protocol):
    """Whoever has newer values of a variable than the host: a device session, or what is yet to be drawn."""

    def begin(self) -> None:
        """Start to make the values, if that takes long, beside what the caller does."""

    def fetch(self, variable: Variable, array: np.ndarray) -> None:
        """Copy the present values into ``array``."""


class Variable:
    """A named array that graphs read and update. The host array and its device copies are kept in step.

    Reading :attr:`array` fetches what a device has computed meanwhile. Because the caller may write into the array that it
    gets, device copies are refreshed before the next run; a reference that is kept and written to after a later run goes
    unnoticed, so take ``array`` anew for each change.

    Args:
        array: the initial value; kept in its own dtype.
        name: what error messages, checkpoints and printed graphs call it.
        trainable: whether a gradient is wanted for it.
    """

    #: host accesses to any variable so far; executables compare it to know whether there is anything to bring in step
    accesses = 0

    def __init__(self, array: np.ndarray, name: str = "", trainable: bool = False):
        self._array = np.asarray(array, order="C")       # ascontiguousarray would give scalars an axis
        self.name = name
        self.trainable = trainable
        #: counts changes; a device copy remembers the version that it holds
        self.version = 0
        #: who has newer values than the host array
        self.holder: Holder | None = None

    @property
    def array(self) -> np.ndarray:
        """The present values, to read or to write."""
        if self.holder is not None:
            self.holder.fetch(self, self._array)
            self.holder = None
        self.touch()
        return self._array

    def begin(self) -> None:
        """Let values that are not there yet be made beside what the caller does."""
        if self.holder is not None:
            self.holder.begin()

    def __getstate__(self) -> dict:
        _ = self.array              # copies and files hold the values themselves, and not whoever has them
        return vars(self)

    def touch(self) -> None:
        """Declare the host array changed."""
        self.version += 1
        Variable.accesses += 1

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self._array.shape, str(self._array.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or 'unnamed'}: {self.spec})"
