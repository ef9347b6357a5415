"""Windows that slide over an image, as C text: which pixels a window holds, and which windows hold a pixel.

One object describes one axis (height or width). Pooling kernels are written with two of them, and walk over their result along
``axes_of``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..ir import TensorSpec


class Axis(NamedTuple):
    """One physical dimension of a tensor: the C variable that counts it, its extent, and the elements between neighbours."""

    name: str
    extent: int
    stride: int


def axes_of(spec: TensorSpec, names: str = "nchw") -> tuple[Axis, ...]:
    """The physical dimensions of a rank-4 tensor, outermost first. The inner part of blocked channels is called ``b``."""
    axes: list[Axis] = []
    stride = spec.size
    for dim in spec.layout.dims(spec.shape):
        stride //= max(dim.extent, 1)
        name = names[dim.axis]
        axes.append(Axis("b" if any(axis.name == name for axis in axes) else name, dim.extent, stride))
    return tuple(axes)


def offset(axes: Sequence[Axis], rename: Mapping[str, str]) -> str:
    """C text for the offset of an element; ``rename`` gives other expressions for some of the counters."""
    terms = []
    for axis in axes:
        if axis.extent > 1:
            text = rename.get(axis.name, axis.name)
            terms.append(f"(index_t){text}" if axis.stride == 1 else f"(index_t){text} * {axis.stride}")
    return " + ".join(terms) or "0"


@dataclass(frozen=True)
class Sliding:
    """``count`` windows of ``size`` taps, ``dilation`` apart; window p starts at pixel p · stride − pad of ``extent`` pixels."""

    extent: int
    count: int
    size: int
    stride: int
    pad: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Pixels from the first to the last tap of a window."""
        return (self.size - 1) * self.dilation + 1

    @property
    def cut(self) -> bool:
        """Whether some window hangs over the edge of the image."""
        return self.pad > 0 or self._last_end > self.extent

    @property
    def covers(self) -> int:
        """Windows that may hold one pixel."""
        return -(-self.reach // self.stride)

    @property
    def empty(self) -> bool:
        """Whether some window has no tap inside the image, which dilation can bring about."""
        starts = (p * self.stride - self.pad for p in range(self.count))
        return any(all(not 0 <= start + r * self.dilation < self.extent for r in range(self.size)) for start in starts)

    @property
    def _last_end(self) -> int:
        return (self.count - 1) * self.stride - self.pad + self.reach

    def _start(self, p: str) -> str:
        text = p if self.stride == 1 else f"{p} * {self.stride}"
        return f"{text} - {self.pad}" if self.pad else text

    def taps(self, p: str, v: str, tap: str) -> str:
        """Declares <v>_at, where window p starts, and <tap>_first and <tap>_last, its taps inside the image."""
        lines = [f"const int {v}_at = {self._start(p)};"]
        first, last = "0", str(self.size - 1)
        if self.pad:
            below = f"-{v}_at" if self.dilation == 1 else f"({self.dilation - 1} - {v}_at) / {self.dilation}"
            first = f"{v}_at < 0 ? {below} : 0"
        if self._last_end > self.extent:
            room = f"{self.extent - 1} - {v}_at"
            inner = room if self.dilation == 1 else f"({room}) / {self.dilation}"
            last = f"{v}_at + {self.reach} > {self.extent} ? {inner} : {last}"
        return " ".join([*lines, f"const int {tap}_first = {first};", f"const int {tap}_last = {last};"])

    def inside(self, tap: str) -> str:
        """C text for the tap inside the image that is nearest to ``tap``."""
        text = tap
        if self._last_end > self.extent:
            text = f"({text} > {tap}_last ? {tap}_last : {text})"
        if self.pad:
            text = f"({tap} < {tap}_first ? {tap}_first : {text})"
        return text

    def bounds(self, p: str, v: str) -> str:
        """Declares <v>_first and <v>_end, the pixels of window p that lie inside the image (undilated windows)."""
        first, end = f"{v}_at", f"{v}_at + {self.size}"
        if self.pad:
            first = f"{first} < 0 ? 0 : {first}"
        if self._last_end > self.extent:
            end = f"{end} > {self.extent} ? {self.extent} : {end}"
        return f"const int {v}_at = {self._start(p)}; const int {v}_first = {first}; const int {v}_end = {end};"

    def length(self, v: str, padded: bool) -> str:
        """C text for the pixels in the window that :meth:`bounds` declared, with its padding or without; digits if constant."""
        if padded and self._last_end > self.extent + self.pad:
            return f"({v}_at + {self.size} > {self.extent + self.pad} ? {self.extent + self.pad} - {v}_at : {self.size})"
        return str(self.size) if padded or not self.cut else f"({v}_end - {v}_first)"

    def covering(self, h: str, p: str) -> str:
        """Declares <p>_first and <p>_last, the windows that hold pixel h (undilated windows)."""
        at = f"({h} + {self.pad})" if self.pad else h
        last = at if self.stride == 1 else f"{at} / {self.stride}"
        if (self.extent - 1 + self.pad) // self.stride >= self.count:
            last = f"{last} >= {self.count} ? {self.count - 1} : {last}"
        if self.size <= self.stride:
            ahead = self.stride - self.size
            first = f"({at} + {ahead}) / {self.stride}" if ahead else f"{at} / {self.stride}"
        else:
            first = f"{at} < {self.size} ? 0 : ({at} - {self.size}) / {self.stride} + 1"
        return f"const int {p}_last = {last}; const int {p}_first = {first};"

    def tap_of(self, k: str, h: str, p: str, r: str) -> tuple[str, list[str], str]:
        """(statements, conditions, tap) for the k-th window back from the last one that may hold pixel h.

        Declares <p> and the pixel's place <r> in that window. It holds the pixel if all conditions are true; <p> exists in
        any case, so that a load needs no branch.
        """
        at = f"({h} + {self.pad})" if self.pad else h
        window = at if self.stride == 1 else f"{at} / {self.stride}"
        window = window if self.covers == 1 else f"{window} - {k}"
        lines, conditions = [f"const int {p}_k = {window};"], []
        bound = f"{p}_k"
        if (self.extent - 1 + self.pad) // self.stride >= self.count:
            conditions.append(f"{p}_k < {self.count}")
            bound = f"({p}_k >= {self.count} ? {self.count - 1} : {bound})"
        if self.covers > 1:
            conditions.append(f"{p}_k >= 0")
            bound = f"({p}_k < 0 ? 0 : {bound})"
        lines += [f"const int {p} = {bound};", f"const int {r} = {at} - {p}_k * {self.stride};"]
        if self.covers * self.stride > self.reach:
            conditions.append(f"{r} < {self.reach}")
        if self.dilation > 1:
            conditions.append(f"{r} % {self.dilation} == 0")
            return " ".join(lines), conditions, f"{r} / {self.dilation}"
        return " ".join(lines), conditions, r


@dataclass(frozen=True)
class Adaptive:
    """``count`` windows that share out ``extent`` pixels.

    Window p holds the pixels ⌊p · extent / count⌋ … ⌈(p + 1) · extent / count⌉ − 1.
    """

    extent: int
    count: int

    def bounds(self, p: str, v: str) -> str:
        """As :meth:`Sliding.bounds`."""
        return (f"const int {v}_first = {p} * {self.extent} / {self.count}; "
                f"const int {v}_end = (({p} + 1) * {self.extent} + {self.count - 1}) / {self.count};")

    def length(self, v: str, padded: bool) -> str:
        """As :meth:`Sliding.length`; there is no padding."""
        return str(self.extent // self.count) if self.extent % self.count == 0 else f"({v}_end - {v}_first)"

    def covering(self, h: str, p: str) -> str:
        """As :meth:`Sliding.covering`."""
        return (f"const int {p}_first = {h} * {self.count} / {self.extent}; "
                f"const int {p}_last = (({h} + 1) * {self.count} + {self.extent - 1}) / {self.extent} - 1;")


def walk_text(axes: Sequence[Axis], index: str) -> list[str]:
    """Statements that declare the counter of each axis from a physical position."""
    lines, rest = [], index
    counted = [axis for axis in axes if axis.extent > 1]
    for axis in axes:
        if axis.extent <= 1:
            lines.append(f"const int {axis.name} = 0;")
    for number, axis in enumerate(reversed(counted)):
        last = number == len(counted) - 1
        lines.append(f"const int {axis.name} = {rest if last else f'{rest} % {axis.extent}'};")
        if not last:
            lines.append(f"const index_t {axis.name}_rest = {rest} / {axis.extent};")
            rest = f"{axis.name}_rest"
    return lines
