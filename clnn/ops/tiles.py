"""Transposing matrices tile by tile, which changes of layout and transpositions share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..codegen.lowering import Context, Operand
from ..codegen.views import Digit, merge
from ..errors import LoweringError

#: fewest rows, and columns, that fill tiles well enough
NARROW = 8


def transpose_tiles(context: Context, digits: Sequence[Digit]) -> None:
    """Launch the transposition of matrices that lie one after the other, if that is what the digits of the result describe.

    Raises:
        LoweringError: if it is not.
    """
    *batch, rows, cols = (Digit(1, 0), Digit(1, 0), *merge(digits))
    matrices = math.prod(digit.extent for digit in batch)
    apart = [digit.stride for digit in batch if digit.extent > 1]
    if rows.stride != 1 or cols.stride != rows.extent or any(stride != rows.extent * cols.extent for stride in apart):
        raise LoweringError("does not transpose matrices")
    if context.inputs[0].itemsize > 4:
        raise LoweringError("has room for elements of four bytes")
    if min(rows.extent, cols.extent) < NARROW:
        raise LoweringError(f"fewer than {NARROW} rows or columns do not fill a tile")
    turn(context, context.input(0), context.output(0), matrices, rows.extent, cols.extent)


def turn(context: Context, x: Operand, y: Operand, matrices: int, rows: int, cols: int) -> None:
    """Launch the transposition of matrices that lie one after the other; ``rows`` and ``cols`` are the result's."""
    context.launch("pointwise/transpose", {"batch": matrices, "rows": rows, "cols": cols}, {"x": x}, {"y": y})


def turned(context: Context, x: Operand) -> Operand:
    """A tensor (N, C, H, W) as (N, H, W, C) in scratch memory.

    Raises:
        LoweringError: if that is more than a lowering may ask for.
    """
    spec = context.spec(x)
    n, c, h, w = spec.shape
    context.check_workspace(spec.nbytes)
    y = context.scratch((n, h, w, c))
    turn(context, x, y, n, h * w, c)
    return y
