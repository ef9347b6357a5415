"""The pickled batches of CIFAR's "python version", read without running anything that they name.

A pickle is a program. Here it may call three names only, those by which NumPy arrays are pickled, and each stands for an inert
class of this file.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import numpy as np

from ..errors import FileError


class _Dtype:
    """Stands for numpy.dtype: keeps the type code."""

    def __init__(self, code, *_):
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state):
        pass  # byte order and alignment, of no meaning for single bytes


class _Array:
    """Stands for numpy.ndarray: keeps shape, type and bytes."""

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.by_columns, self.raw = state

    def to_numpy(self) -> np.ndarray:
        """uint8 array; ValueError when the state does not hang together."""
        if not isinstance(self.dtype, _Dtype) or self.dtype.code.lstrip("|") != "u1" or not isinstance(self.raw, bytes):
            raise ValueError("its data is not an array of bytes")
        if math.prod(self.shape) != len(self.raw):
            raise ValueError(f"its data has {len(self.raw)} bytes for the shape {self.shape}")
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape, order="F" if self.by_columns else "C")


def _reconstruct(*_) -> _Array:
    return _Array()


_ALLOWED = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype,
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct, ("numpy._core.multiarray", "_reconstruct"): _reconstruct}


class _BatchUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, where: str):
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise FileError("the pickle is unsafe, and was not run", where=self.where, got=f"it names {module}.{name}",
                            expected="numpy arrays, lists and text only",
                            hint="fetch the file from its official address; do not open this one") from None


def read_pickled_batch(data: bytes, where: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows uint8 (D, 3072) and labels int64 (D,) of one batch file.

    Raises:
        FileError: names ``where``: the pickle names anything but NumPy arrays, is damaged, or is no CIFAR-10 batch.
    """
    try:
        batch = _BatchUnpickler(data, str(where)).load()
        rows, labels = batch[b"data"] if b"data" in batch else batch["data"], batch.get(b"labels", batch.get("labels"))
        rows, labels = rows.to_numpy(), np.array(labels, np.int64)
        if rows.ndim != 2 or rows.shape[1] != 3072 or labels.shape != rows.shape[:1]:
            raise ValueError(f"rows {rows.shape}, labels {labels.shape}")
    except FileError:
        raise
    except Exception as error:  # a damaged pickle fails in any way whatever
        raise FileError("not a batch of CIFAR-10, or damaged", where=where, got=f"{type(error).__name__}: {error}",
                        expected="a pickled 'data' (D, 3072) of bytes and 'labels' (D)", hint="fetch it again") from error
    return rows, labels
