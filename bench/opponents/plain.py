"""numpy, for matrix products."""

from __future__ import annotations

import numpy as np

from bench.cases import Case
from bench.side import Prepared, Unable


class Numpy:
    """Prepares cases for numpy's BLAS."""

    def about(self) -> dict:
        return {"numpy": np.__version__}

    def prepare(self, case: Case, variant: dict) -> Prepared:
        if case.kind != "matmul":
            raise Unable("numpy takes part in matrix products only")
        a, b = case.arrays().values()
        a = a.T if case.params["a"] == "T" else a
        b = b.T if case.params["b"] == "T" else b
        first = a @ b
        return Prepared(lambda: a @ b, lambda: None, lambda number: first)
