"""Images cut into square tiles, as C text: where the tiles of a grid lie."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from ..ir import TensorSpec

#: the problem constants of templates that do a whole Winograd convolution, beside how the filters in ``u`` lie
WHOLE = {
    "N": "images",
    "ins": "channels that are read",
    "outs": "channels that are made",
    "pixels": "(rows, columns) of x",
    "results": "(rows, columns) of y",
    "x_strides": "of (image, channel, row, column) in x",
    "y_strides": "the same in y",
    "beside": "channels of a block, where x and y are cut into such (then a channel's stride is that of a block's first), else 0",
    "origin": "(row, column) of the first pixel of the first tile",
    "rows": "tiles down",
    "cols": "tiles across",
    "images": "L of L d Lᵀ, the transform of a tile d",
    "back": "the same of a tile of products",
}


def lying(spec: TensorSpec) -> tuple[tuple[int, ...], int]:
    """Strides of (image, channel, row, column), and how many channels a block has, 0 if there are no blocks: then the stride of
    channels is that of the first ones of blocks."""
    block = spec.layout.block
    if not block:
        return spec.strides, 0
    _, channels, height, width = spec.shape
    return (channels * height * width, height * width, width * block, block), block


def tiles(p: SimpleNamespace) -> int:
    """Tiles of all images."""
    return p.N * p.rows * p.cols


def first_pixel(tile: str, rows: int, cols: int, hop: int, strides: Sequence[int], origin: Sequence[int] | None = None) -> str:
    """Statements that declare the first pixel (h, w) of a tile and, as ``at`` without a semicolon, where it lies in channel 0.

    ``tile`` counts along the columns, then the rows, then the images of the grid; ``strides`` are those of (image, channel, row,
    column), ``origin`` is the first pixel of the first tile.
    """
    of_image, _, of_row, of_column = strides
    top, left = (f" + {place}" for place in origin) if origin else ("", "")
    return (f"const int h = {tile} / {cols} % {rows} * {hop}{top}, w = {tile} % {cols} * {hop}{left}; const index_t at = "
            f"(index_t)({tile} / {cols * rows}) * {of_image} + (index_t)h * {of_row} + (index_t)w * {of_column}")


def inside(pixels: Sequence[int], origin: Sequence[int], grid: Sequence[int], hop: int, size: int) -> tuple[bool, ...]:
    """Whether all tiles of ``size`` lie on the image, down and across."""
    return tuple(first >= 0 and first + (tiles - 1) * hop + size <= extent
                 for extent, first, tiles in zip(pixels, origin, grid, strict=True))


def left_of(place: str, extent: int, tiles: int, hop: int) -> str:
    """How many pixels of a tile that begins at ``place`` there are, where tiles may hang over the edge."""
    return f"({extent} - {place} < {hop} ? {extent} - {place} : {hop})" if tiles * hop != extent else str(hop)
