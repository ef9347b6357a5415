"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..errors import ArgumentError, ShapeError
from ..ir import Value
from .checks import is_whole, pair, whole
from .module import Module

Size = int | Sequence[int]


def _images(x: Value) -> Value:
    if len(x.shape) != 4:
        raise ShapeError(f"pooling needs an input with 4 axes, not {len(x.shape)}", got=f"shape {x.shape}",
                         expected="(N, C, H, W)")
    return x


class _Pool(Module):
    """Windows, strides and padding, checked."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool):
        super().__init__()
        layer = type(self).__name__
        self.kernel_size = pair(layer, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair(layer, "stride", stride)
        self.padding = pair(layer, "padding", padding, 0)
        self.dilation = pair(layer, "dilation", dilation)
        self.ceil_mode = bool(ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ArgumentError(f"padding (={self.padding}) must be at most half of kernel_size (={self.kernel_size})",
                                where=layer)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """Largest element of each window: (N, C, H, W) → (N, C, P, Q).

    Args:
        kernel_size, stride, padding, dilation: whole numbers or pairs; the stride is the window's size by default.
        return_indices: stands for PyTorch's sake; only False is possible.
        ceil_mode: round P and Q up, so that every element lies in a window.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        if return_indices:
            raise ArgumentError("indices are not available", where="MaxPool2d", got="return_indices=True", expected="False")

    def forward(self, x: Value) -> Value:
        return ops.max_pool2d(_images(x), self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class AvgPool2d(_Pool):
    """Mean of each window: (N, C, H, W) → (N, C, P, Q).

    Args:
        kernel_size, stride, padding: whole numbers or pairs; the stride is the window's size by default.
        ceil_mode: round P and Q up, so that every element lies in a window.
        count_include_pad: whether padding counts as elements.
        divisor_override: divide by this instead of the number of elements.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None):
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = None if divisor_override is None else whole("AvgPool2d", "divisor_override", divisor_override)

    def forward(self, x: Value) -> Value:
        return ops.avg_pool2d(_images(x), self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                              self.divisor_override)


class AdaptiveAvgPool2d(Module):
    """Mean over windows chosen so that the output is (N, C, *output_size), whatever H and W are.

    Args:
        output_size: a whole number or a pair; None in a pair keeps the input's extent.
    """

    def __init__(self, output_size: Size | tuple[int | None, int | None]):
        super().__init__()
        sizes: Any = (output_size,) * 2 if is_whole(output_size) or output_size is None else output_size
        if not isinstance(sizes, Sequence) or len(sizes) != 2 or not all(s is None or (is_whole(s) and s >= 1) for s in sizes):
            raise ArgumentError("output_size must be a whole number or a pair of them, each at least 1 or None",
                                where="AdaptiveAvgPool2d", got=f"output_size={output_size!r}")
        self.output_size = tuple(sizes)

    def forward(self, x: Value) -> Value:
        return ops.adaptive_avg_pool2d(_images(x), self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
