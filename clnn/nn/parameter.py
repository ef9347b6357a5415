"""Parameters: the variables that training changes."""

from __future__ import annotations

import numpy as np

from ..ir import Variable


class Parameter(Variable):
    """A variable that a :class:`clnn.nn.Module` registers when it is assigned to an attribute.

    Args:
        array: the initial value; floats of any width are kept as float32.
        name: the dotted path; :meth:`clnn.nn.Module.name_variables` sets it.
        trainable: False freezes it: no gradient is computed and no optimiser touches it.
    """

    def __init__(self, array: np.ndarray, name: str = "", trainable: bool = True):
        array = np.array(array)                 # a copy: training writes into it
        super().__init__(array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array, name, trainable)
