"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..errors import ArgumentError, ShapeError
from ..ir import Value
from . import init
from .checks import is_whole, pair, whole
from .module import Module
from .parameter import Parameter

Padding = int | str | Sequence[int]


class Conv2d(Module):
    """Cross-correlation: (N, in_channels, H, W) → (N, out_channels, P, Q).

    ``weight`` is (out_channels, in_channels / groups, R, S), drawn by :func:`clnn.nn.init.he_normal`; ``bias`` is
    (out_channels,) and starts at 0.

    Args:
        in_channels: C.
        out_channels: K.
        kernel_size: R and S; a whole number or a pair.
        stride: a whole number or a pair.
        padding: a whole number, a pair (vertical, horizontal), four widths (top, bottom, left, right), 'same'
            (P = ⌈H / stride⌉) or 'valid' (0).
        dilation: a whole number or a pair.
        groups: channel groups that do not see each other; divides C and K.
        bias: whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
                 padding: Padding = 0, dilation: int | Sequence[int] = 1, groups: int = 1, bias: bool = True):
        super().__init__()
        layer = type(self).__name__
        self.in_channels = whole(layer, "in_channels", in_channels)
        self.out_channels = whole(layer, "out_channels", out_channels)
        self.kernel_size = pair(layer, "kernel_size", kernel_size)
        self.stride = pair(layer, "stride", stride)
        self.dilation = pair(layer, "dilation", dilation)
        self.groups = whole(layer, "groups", groups)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ArgumentError(f"{name} (={channels}) must be divisible by groups (={self.groups})", where=layer)
        self.padding = _padding(layer, padding)
        self.weight = Parameter(init.he_normal_draw((self.out_channels, self.in_channels // self.groups, *self.kernel_size)))
        self.register_parameter("bias", Parameter(np.zeros(self.out_channels, np.float32)) if bias else None)

    def forward(self, x: Value) -> Value:
        if len(x.shape) != 4:
            raise ShapeError(f"a convolution needs an input with 4 axes, not {len(x.shape)}", got=f"shape {x.shape}",
                             expected=f"(N, {self.in_channels}, H, W)")
        if x.shape[1] != self.in_channels:
            last = x.shape[3] == self.in_channels
            raise ShapeError(f"in_channels (={self.in_channels}) does not fit the input, which has {x.shape[1]} channels",
                             got=f"shape {x.shape}", expected=f"(N, {self.in_channels}, H, W)",
                             hint="ops.transpose(x, (0, 3, 1, 2)), if the channels come last" if last else None)
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


def _padding(layer: str, padding: Padding) -> str | tuple[int, ...]:
    """'same', 'valid', a pair or four widths."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ArgumentError("unknown padding", where=layer, got=f"padding={padding!r}", expected="'same', 'valid' or widths")
        return padding
    widths: Any = (padding, padding) if is_whole(padding) else padding
    if not isinstance(widths, Sequence) or len(widths) not in (2, 4) or not all(is_whole(w) and w >= 0 for w in widths):
        raise ArgumentError("padding is not understood", where=layer, got=f"padding={padding!r}",
                            expected="'same', 'valid', a whole number, (vertical, horizontal) or (top, bottom, left, right)")
    return tuple(int(width) for width in widths)
