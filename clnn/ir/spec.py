"""The type of a tensor: logical shape, element type, layout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .layout import ROW, Layout


@dataclass(frozen=True)
class TensorSpec:
    """Logical shape, numpy dtype name and layout of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: Layout = ROW

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def with_layout(self, layout: Layout) -> TensorSpec:
        return self if layout == self.layout else TensorSpec(self.shape, self.dtype, layout)

    def with_shape(self, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(tuple(shape), self.dtype)

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each logical axis."""
        return self.layout.strides(self.shape)

    def to_physical(self, array: np.ndarray) -> np.ndarray:
        """A logically shaped array as the flat sequence of elements that this layout stores."""
        array = np.ascontiguousarray(array, dtype=self.dtype).reshape(self.shape)
        if self.layout == ROW:
            return array.reshape(-1)
        if self.layout.block:
            n, c, h, w = self.shape
            block = self.layout.block
            return np.ascontiguousarray(array.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2)).reshape(-1)
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).reshape(-1)

    def from_physical(self, flat: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_physical`."""
        if self.layout == ROW:
            return flat.reshape(self.shape)
        n, c, h, w = self.shape
        if self.layout.block:
            block = self.layout.block
            return np.ascontiguousarray(flat.reshape(n, c // block, h, w, block).transpose(0, 1, 4, 2, 3)).reshape(self.shape)
        return np.ascontiguousarray(flat.reshape(n, h, w, c).transpose(0, 3, 1, 2))

    def __str__(self) -> str:
        layout = f" {self.layout}" if self.rank == 4 else ""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{layout}"
