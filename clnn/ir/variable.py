"""Tensors that outlive one run: parameters, running statistics, optimiser state, counters."""

from __future__ import annotations

import numpy as np

from .spec import TensorSpec


class Variable:
    """A named host array that a graph may read and update; the runtime mirrors it on the device.

    Args:
        array: the initial value; kept in its own dtype.
        name: what error messages, checkpoints and printed graphs call it.
        trainable: whether a gradient is wanted for it.
    """

    def __init__(self, array: np.ndarray, name: str = "", trainable: bool = False):
        self.array = np.asarray(array, order="C")       # ascontiguousarray would give scalars an axis
        self.name = name
        self.trainable = trainable

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.array.shape, str(self.array.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or 'unnamed'}: {self.spec})"
