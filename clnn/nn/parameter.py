"""Parameters: the variables that training changes."""

from __future__ import annotations

import numpy as np

from ..ir import Variable
from .draws import Draw


class Parameter(Variable):
    """A variable that a :class:`clnn.nn.Module` registers when it is assigned to an attribute.

    Args:
        array: the initial value, of which floats of any width are kept as float32, or what is to be drawn
            (:func:`clnn.nn.init.he_normal_draw`).
        name: the dotted path; :meth:`clnn.nn.Module.name_variables` sets it.
        trainable: False freezes it: no gradient is computed and no optimiser touches it.
    """

    def __init__(self, array: np.ndarray | Draw, name: str = "", trainable: bool = True):
        if isinstance(array, Draw):
            super().__init__(np.empty(array.shape, np.float32), name, trainable)
            self.holder = array
            return
        array = np.array(array)                 # a copy: training writes into it
        super().__init__(array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array, name, trainable)
