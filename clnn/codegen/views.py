"""A matrix seen in a tensor: what lets one GEMM kernel compute matrix products and all three directions of a convolution.

Row and column indices are split into mixed-radix digits (for instance column -> image, P, Q). Each digit adds to the offset of
the element, and, if the view slides a window over an image, to its coordinates h and w. Elements outside the image are zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Digit(NamedTuple):
    """One digit of a row or column index, outermost first."""

    extent: int
    stride: int = 0  # elements added to the offset
    h: int = 0  # rows added to the window coordinate
    w: int = 0  # columns added to the window coordinate


class Window(NamedTuple):
    """The image that a view looks at."""

    height: int
    width: int
    h_stride: int
    w_stride: int
    h0: int = 0
    w0: int = 0


def innermost(digits: Sequence[Digit]) -> Digit:
    """The digit along which neighbours differ."""
    return next((d for d in reversed(digits) if d.extent > 1), digits[-1])


def one_run(digits: Sequence[Digit]) -> bool:
    """Whether all elements lie evenly apart: there is one digit at most."""
    return sum(d.extent > 1 for d in digits) <= 1


@dataclass(frozen=True)
class View:
    """Element (row, column) of batch entry g lies at ``g * batch + digits * strides + h * h_stride + w * w_stride``."""

    rows: tuple[Digit, ...]
    cols: tuple[Digit, ...]
    window: Window | None = None
    batch: int = 0
    base: int = 0

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        return math.prod(d.extent for d in self.rows), math.prod(d.extent for d in self.cols)

    @property
    def transposed(self) -> View:
        return View(self.cols, self.rows, self.window, self.batch, self.base)

    @property
    def checked(self) -> bool:
        """Whether some element can fall outside the image."""
        if self.window is None:
            return False
        w = self.window
        digits = (*self.rows, *self.cols)
        low_h = w.h0 + sum(min(0, d.h * (d.extent - 1)) for d in digits)
        high_h = w.h0 + sum(max(0, d.h * (d.extent - 1)) for d in digits)
        low_w = w.w0 + sum(min(0, d.w * (d.extent - 1)) for d in digits)
        high_w = w.w0 + sum(max(0, d.w * (d.extent - 1)) for d in digits)
        return low_h < 0 or low_w < 0 or high_h >= w.height or high_w >= w.width

    @property
    def flattened(self) -> View:
        """The same view without its window, if no element falls outside the image: coordinates become strides."""
        w = self.window
        if w is None or self.checked:
            return self

        def flat(digits: tuple[Digit, ...]) -> tuple[Digit, ...]:
            return tuple(Digit(d.extent, d.stride + d.h * w.h_stride + d.w * w.w_stride) for d in digits)

        return View(flat(self.rows), flat(self.cols), None, self.batch, self.base + w.h0 * w.h_stride + w.w0 * w.w_stride)

    @property
    def straight(self) -> bool:
        """Whether each row is one run of neighbours in memory."""
        return self.window is None and one_run(self.cols) and innermost(self.cols).stride == 1

    def in_panels(self, width: int) -> bool:
        """Whether the columns lie in panels of ``width``, one after the other, each row by row: see :func:`panels`."""
        return len(self.rows) == 1 and len(self.cols) == 2 and self == panels(*self.shape, width, bool(self.batch))

    @property
    def row_contiguous(self) -> bool:
        """Whether loads should run along rows: neighbouring rows lie side by side in memory for longer than neighbouring
        columns do."""
        return self._run(self.rows) > self._run(self.cols)

    def _run(self, digits: tuple[Digit, ...]) -> int:
        """How many neighbours along the innermost digit lie side by side in memory."""
        inner = innermost(digits)
        step = inner.stride
        if self.window is not None:
            step += inner.h * self.window.h_stride + inner.w * self.window.w_stride
        return inner.extent if step == 1 else 0

    def quads(self) -> bool:
        """Whether four neighbours in the direction of loads can be read as one aligned float4."""
        along, across = (self.rows, self.cols) if self.row_contiguous else (self.cols, self.rows)
        inner = innermost(along)
        others = [d for d in (*along, *across) if d is not inner and d.extent > 1]
        return (
            self.window is None
            and inner.stride == 1
            and inner.extent % 4 == 0
            and self.base % 4 == 0
            and self.batch % 4 == 0
            and all(d.stride % 4 == 0 for d in others)
        )

    # -- C text -----------------------------------------------------------------------------------------------------

    def _decode(self, digits: tuple[Digit, ...], index: str, prefix: str) -> str:
        """Statements that declare <prefix>o (offset) and, with a window, <prefix>h and <prefix>w."""
        used = [d for d in digits if d.extent > 1]
        lines, terms = [], {"o": [], "h": [], "w": []}
        rest = index
        for number, digit in enumerate(reversed(used)):
            last = number == len(used) - 1
            name = f"{prefix}d{number}"
            lines.append(f"const int {name} = {rest if last else f'{rest} % {digit.extent}'};")
            if not last:
                lines.append(f"const int {prefix}r{number} = {rest} / {digit.extent};")
                rest = f"{prefix}r{number}"
            for key, factor in (("o", digit.stride), ("h", digit.h), ("w", digit.w)):
                if factor:
                    terms[key].append(name if factor == 1 else f"{name} * {factor}")
        for key in ("o", "h", "w") if self.window is not None else ("o",):
            kind = "index_t" if key == "o" else "int"
            text = " + ".join(terms[key]) or "0"
            lines.append(f"const {kind} {prefix}{key} = {f'(index_t){text}' if key == 'o' and terms[key] else text};")
        return " ".join(lines)

    def row(self, index: str, prefix: str) -> str:
        """Statements that decode a row index into variables named after ``prefix``."""
        return self._decode(self.rows, index, prefix)

    def col(self, index: str, prefix: str) -> str:
        """Statements that decode a column index into variables named after ``prefix``."""
        return self._decode(self.cols, index, prefix)

    def locate(self, row: str, col: str, name: str, batch: str = "0") -> str:
        """Statements that declare <name> (the element's offset) and, if the view is checked, <name>_in (whether it exists)."""
        base = f"{self.base} + " if self.base else ""
        base += f"(index_t){batch} * {self.batch} + " if self.batch and batch != "0" else ""
        if self.window is None:
            return f"const index_t {name} = {base}{row}o + {col}o;"
        w = self.window
        lines = [f"const int {name}_h = {row}h + {col}h + {w.h0};", f"const int {name}_w = {row}w + {col}w + {w.w0};"]
        if self.checked:
            lines.append(f"const bool {name}_in = (uint){name}_h < {w.height}u && (uint){name}_w < {w.width}u;")
        lines.append(
            f"const index_t {name} = {base}{row}o + {col}o + (index_t){name}_h * {w.h_stride} + {name}_w * {w.w_stride};"
        )
        return " ".join(lines)

    def load(self, pointer: str, name: str) -> str:
        """The element that :meth:`locate` has located."""
        return f"({name}_in ? {pointer}[{name}] : 0.0f)" if self.checked else f"{pointer}[{name}]"

    # -- numpy, for tests and references ----------------------------------------------------------------------------

    def gather(self, flat: np.ndarray, batch: int = 0) -> np.ndarray:
        """The matrix of one batch entry, read from the tensor's flat storage."""

        def decode(digits):
            index = np.arange(math.prod(d.extent for d in digits))
            o, h, w = np.zeros_like(index), np.zeros_like(index), np.zeros_like(index)
            for d in reversed(digits):
                digit, index = index % d.extent, index // d.extent
                o, h, w = o + digit * d.stride, h + digit * d.h, w + digit * d.w
            return o, h, w

        ro, rh, rw = (part[:, None] for part in decode(self.rows))
        co, ch, cw = (part[None, :] for part in decode(self.cols))
        offset = self.base + batch * self.batch + ro + co
        if self.window is None:
            return flat[offset]
        win = self.window
        h, w = rh + ch + win.h0, rw + cw + win.w0
        inside = (h >= 0) & (w >= 0) & (h < win.height) & (w < win.width)
        return np.where(inside, flat[np.where(inside, offset + h * win.h_stride + w * win.w_stride, 0)], 0)


def side_by_side(view: View, digit: Digit) -> bool:
    """Whether the elements along one of the digits are neighbours, from a multiple of its extent on."""
    others = (d.stride for d in (*view.rows, *view.cols) if d is not digit and d.extent > 1)
    return view.window is None and digit.stride == 1 and all(n % digit.extent == 0 for n in (view.base, view.batch, *others))


def run_of(view: View, digits: Sequence[Digit]) -> tuple[int, int]:
    """(length, step) of the neighbours along the innermost digit of a view that lie side by side in memory, or each second one
    does: what kernels read as vectors. The step is 1 or 2 pixels of an image over which the view slides, and 0 where it does not
    move over an image."""
    digit, window = innermost(digits), view.window
    if digit.stride == 1 and not digit.h and not digit.w:
        return digit.extent, 0
    if window is not None and not digit.stride and not digit.h and digit.w in (1, 2) and window.w_stride == 1:
        return digit.extent, digit.w
    return 1, 0


def matrix(rows: int, cols: int, row_stride: int, col_stride: int, batch: int = 0, base: int = 0) -> View:
    """A plain strided matrix."""
    return View((Digit(rows, row_stride),), (Digit(cols, col_stride),), None, batch, base)


def panels(rows: int, cols: int, width: int, batched: bool = True) -> View:
    """A matrix in panels of ``width`` columns, the last one filled up."""
    count = -(-cols // width)
    batch = count * rows * width if batched else 0
    return View((Digit(rows, width),), (Digit(count, rows * width), Digit(width, 1)), None, batch)


def merge(digits: Sequence[Digit]) -> tuple[Digit, ...]:
    """The same digits with neighbours joined where they walk memory as one."""
    merged: list[Digit] = []
    for digit in digits:
        if digit.extent == 1:
            continue
        if merged and merged[-1].stride == digit.stride * digit.extent:
            merged[-1] = Digit(merged[-1].extent * digit.extent, digit.stride)
        else:
            merged.append(digit)
    return tuple(merged) or (Digit(1, 0),)
