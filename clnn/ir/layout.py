"""How the elements of a logically (N, C, H, W) tensor lie in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Dim(NamedTuple):
    """One physical dimension: it walks logical ``axis`` in steps of ``scale``, ``extent`` times."""

    axis: int
    extent: int
    scale: int


@dataclass(frozen=True)
class Layout:
    """A named order of dimensions.

    ``row`` is the row-major order of any rank and is printed as NCHW for images; ``NHWC`` puts the channels last;
    ``NCHW<c>c`` splits the channels into blocks of c that lie innermost. All but ``row`` need rank 4.
    """

    name: str
    block: int = 0

    def dims(self, shape: tuple[int, ...]) -> tuple[Dim, ...]:
        """The physical dimensions, outermost first."""
        if self.name == "row":
            return tuple(Dim(axis, extent, 1) for axis, extent in enumerate(shape))
        n, c, h, w = shape
        if self.block == 0:
            return (Dim(0, n, 1), Dim(2, h, 1), Dim(3, w, 1), Dim(1, c, 1))
        return (Dim(0, n, 1), Dim(1, c // self.block, self.block), Dim(2, h, 1), Dim(3, w, 1), Dim(1, self.block, 1))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can have this layout."""
        return self.name == "row" or (len(shape) == 4 and (self.block == 0 or shape[1] % self.block == 0))

    def strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Elements between neighbours along each logical axis; not defined for blocked layouts."""
        if self.block:
            raise ValueError(f"{self} has no single stride per axis")
        result = [0] * len(shape)
        step = 1
        for dim in reversed(self.dims(shape)):
            result[dim.axis] = step
            step *= dim.extent
        return tuple(result)

    def __str__(self) -> str:
        return "NCHW" if self.name == "row" else self.name


ROW = Layout("row")
NHWC = Layout("NHWC")


def blocked(channels: int) -> Layout:
    """The channel-blocked layout NCHW<channels>c."""
    return Layout(f"NCHW{channels}c", channels)
