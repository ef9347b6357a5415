"""Two-dimensional convolution (cross-correlation, as all frameworks call convolution) and its two gradients.

Letters: N images, C input channels, H × W their size, K output channels, R × S the filter, P × Q the output's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .conv_lowerings import DGRAD, FPROP, WGRAD
from .elementwise import add
from .shape import reshape
from .tracing import Tensor, apply, as_value, graph_of, pair


@dataclass(frozen=True)
class Convolution(Op):
    """What the three directions have in common. ``padding`` is (top, bottom, left, right)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def attributes(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(Convolution)}

    def output_size(self, height: int, width: int, r: int, s: int) -> tuple[int, int]:
        """P and Q."""
        top, bottom, left, right = self.padding
        p = (height + top + bottom - self.dilation[0] * (r - 1) - 1) // self.stride[0] + 1
        q = (width + left + right - self.dilation[1] * (s - 1) - 1) // self.stride[1] + 1
        if p < 1 or q < 1:
            raise ShapeError(
                "the filter is larger than the padded image",
                where="conv2d",
                got=f"image {height}×{width}, padding {self.padding}",
                expected=f"at least {self.dilation[0] * (r - 1) + 1}×{self.dilation[1] * (s - 1) + 1}",
                hint="use a larger image, more padding or fewer pooling layers",
            )
        return p, q

    def products(self, weights: TensorSpec, y: TensorSpec) -> int:
        """Multiply-adds of any direction."""
        return y.size * math.prod(weights.shape[1:])


@dataclass(frozen=True)
class Conv2d(Convolution):
    """x (N, C, H, W), w (K, C/groups, R, S) → y (N, K, P, Q)."""

    tail_outputs = (0,)

    def infer(self, x, w):
        if x.rank != 4 or w.rank != 4:
            raise ShapeError(
                "needs an image tensor (N, C, H, W) and filters (K, C/groups, R, S)", where="conv2d", got=f"{x.shape}, {w.shape}"
            )
        if x.shape[1] != w.shape[1] * self.groups:
            raise ShapeError(
                f"the image has {x.shape[1]} channels, the filters take {w.shape[1] * self.groups}",
                where="conv2d",
                got=f"image {x.shape}, filters {w.shape}, groups {self.groups}",
            )
        if w.shape[0] % self.groups:
            raise ShapeError(f"out_channels (={w.shape[0]}) must be divisible by groups (={self.groups})", where="conv2d")
        p, q = self.output_size(*x.shape[2:], *w.shape[2:])
        return (TensorSpec((x.shape[0], w.shape[0], p, q), x.dtype, x.layout),)

    def grad(self, inputs, outputs, cotangents):
        (x, w), (g,) = inputs, cotangents
        dx = apply(Conv2dDgrad(**self.attributes(), size=x.shape[2:]), g, w)[0]
        dw = apply(Conv2dWgrad(**self.attributes(), window=w.shape[2:]), x, g)[0]
        return dx, dw

    def reference(self, x, w):
        x, w = x.astype(np.float64), w.astype(np.float64)
        p, q = self.output_size(*x.shape[2:], *w.shape[2:])
        y = np.zeros((x.shape[0], w.shape[0], p, q))
        for r, s, rows, cols, padded in windows(self, x, w.shape[2:], p, q):
            part = padded[:, :, rows, cols].reshape(x.shape[0], self.groups, -1, p, q)
            filters = w[:, :, r, s].reshape(self.groups, -1, w.shape[1])
            y += np.einsum("ngcpq,gkc->ngkpq", part, filters).reshape(y.shape)
        return (y,)

    def flops(self, inputs, outputs):
        return 2 * self.products(inputs[1], outputs[0])

    @property
    def lowerings(self):
        return FPROP

    @classmethod
    def samples(cls):
        return [Sample(op, (x, w)) for op, x, w in _cases(cls)]


@dataclass(frozen=True)
class Conv2dDgrad(Convolution):
    """dy (N, K, P, Q), w → dx (N, C, H, W), the gradient in the image; ``size`` is (H, W)."""

    size: tuple[int, int] = (1, 1)
    tail_outputs = (0,)

    def infer(self, dy, w):
        if dy.shape[1:] != (w.shape[0], *self.output_size(*self.size, *w.shape[2:])):
            raise ShapeError(
                "the gradient does not fit the image and the filters",
                where="conv2d dgrad",
                got=dy.shape,
                expected=(dy.shape[0], w.shape[0], *self.output_size(*self.size, *w.shape[2:])),
            )
        return (TensorSpec((dy.shape[0], w.shape[1] * self.groups, *self.size), dy.dtype, dy.layout),)

    def grad(self, inputs, outputs, cotangents):
        (dy, w), (g,) = inputs, cotangents
        return apply(Conv2d(**self.attributes()), g, w)[0], apply(Conv2dWgrad(**self.attributes(), window=w.shape[2:]), g, dy)[0]

    def reference(self, dy, w):
        dy, w = dy.astype(np.float64), w.astype(np.float64)
        n, _k, p, q = dy.shape
        top, _, left, _ = self.padding
        padded = np.zeros(
            (n, w.shape[1] * self.groups, self.size[0] + sum(self.padding[:2]), self.size[1] + sum(self.padding[2:]))
        )
        for r, s, rows, cols, _ in windows(self, padded, w.shape[2:], p, q, pad=False):
            part = np.einsum(
                "ngkpq,gkc->ngcpq", dy.reshape(n, self.groups, -1, p, q), w[:, :, r, s].reshape(self.groups, -1, w.shape[1])
            )
            padded[:, :, rows, cols] += part.reshape(n, -1, p, q)
        return (padded[:, :, top : top + self.size[0], left : left + self.size[1]],)

    def flops(self, inputs, outputs):
        return 2 * self.products(inputs[1], inputs[0])

    @property
    def lowerings(self):
        return DGRAD

    @classmethod
    def samples(cls):
        return [Sample(cls(**op.attributes(), size=x.shape[2:]), (op.infer(x, w)[0], w)) for op, x, w in _cases(Conv2d)]


@dataclass(frozen=True)
class Conv2dWgrad(Convolution):
    """x, dy → dw (K, C/groups, R, S), the gradient in the filters; with ``row_sum`` also the bias gradient (K,)."""

    window: tuple[int, int] = (1, 1)
    row_sum: bool = False
    tail_outputs = (0, 1)

    def infer(self, x, dy):
        if (x.shape[0], *self.output_size(*x.shape[2:], *self.window)) != (dy.shape[0], *dy.shape[2:]):
            raise ShapeError(
                "the gradient does not fit the image and the filters",
                where="conv2d wgrad",
                got=dy.shape,
                expected=(x.shape[0], dy.shape[1], *self.output_size(*x.shape[2:], *self.window)),
            )
        dw = TensorSpec((dy.shape[1], x.shape[1] // self.groups, *self.window), x.dtype)
        return (dw, TensorSpec((dy.shape[1],), x.dtype)) if self.row_sum else (dw,)

    def grad(self, inputs, outputs, cotangents):
        (x, dy), g = inputs, cotangents[0]
        dx = ddy = None
        if g is not None:
            dx = apply(Conv2dDgrad(**self.attributes(), size=x.shape[2:]), dy, g)[0]
            ddy = apply(Conv2d(**self.attributes()), x, g)[0]
        if self.row_sum and cotangents[1] is not None:
            from .shape import expand

            spread = expand(reshape(cotangents[1], (1, -1, 1, 1)), dy.shape)
            ddy = spread if ddy is None else add(ddy, spread)
        return dx, ddy

    def reference(self, x, dy):
        x, dy = x.astype(np.float64), dy.astype(np.float64)
        n, k, p, q = dy.shape
        dw = np.zeros((k, x.shape[1] // self.groups, *self.window))
        for r, s, rows, cols, padded in windows(self, x, self.window, p, q):
            part = padded[:, :, rows, cols].reshape(n, self.groups, -1, p, q)
            dw[:, :, r, s] = np.einsum("ngcpq,ngkpq->gkc", part, dy.reshape(n, self.groups, -1, p, q)).reshape(k, -1)
        return (dw, dy.sum((0, 2, 3))) if self.row_sum else (dw,)

    def flops(self, inputs, outputs):
        return 2 * self.products(outputs[0], inputs[1])

    @property
    def lowerings(self):
        return WGRAD

    @classmethod
    def samples(cls):
        return [
            Sample(cls(**op.attributes(), window=w.shape[2:], row_sum=bool(i % 2)), (x, op.infer(x, w)[0]))
            for i, (op, x, w) in enumerate(_cases(Conv2d))
        ]


def windows(op: Convolution, x: np.ndarray, window: Sequence[int], p: int, q: int, pad: bool = True):
    """For each filter position: (r, s, rows, columns, padded image), where padded[..., rows, columns] meets filter element (r,
    s)."""
    top, bottom, left, right = op.padding
    padded = np.pad(x, ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)))) if pad else x
    for r in range(window[0]):
        for s in range(window[1]):
            h, w = r * op.dilation[0], s * op.dilation[1]
            yield (
                r,
                s,
                slice(h, h + (p - 1) * op.stride[0] + 1, op.stride[0]),
                slice(w, w + (q - 1) * op.stride[1] + 1, op.stride[1]),
                padded,
            )


def _cases(cls):
    f = TensorSpec
    return [
        (cls(), f((2, 3, 7, 5)), f((4, 3, 3, 3))),
        (cls(padding=(1, 1, 1, 1)), f((1, 5, 6, 9)), f((7, 5, 3, 3))),
        (cls(stride=(2, 3), padding=(2, 1, 0, 3)), f((2, 3, 11, 8)), f((5, 3, 5, 3))),
        (cls(padding=(2, 2, 2, 2), dilation=(2, 2)), f((1, 2, 9, 10)), f((3, 2, 3, 3))),
        (cls(), f((3, 17, 5, 4)), f((9, 17, 1, 1))),
        (cls(stride=(2, 2)), f((2, 6, 7, 8)), f((8, 6, 1, 1))),
        (cls(padding=(1, 1, 1, 1), groups=2), f((2, 6, 5, 5)), f((4, 3, 3, 3))),
        (cls(stride=(2, 1), padding=(1, 1, 1, 1), groups=6), f((2, 6, 6, 5)), f((12, 1, 3, 3))),
        (cls(padding=(2, 2, 2, 2)), f((2, 1, 28, 28)), f((6, 1, 5, 5))),
        (cls(), f((1, 3, 4, 4)), f((2, 3, 4, 4))),
        (cls(stride=(3, 3), dilation=(1, 2)), f((2, 2, 10, 12)), f((3, 2, 2, 3))),
        (cls(padding=(1, 1, 1, 1)), f((3, 20, 17, 18)), f((18, 20, 3, 3))),
        (cls(padding=(0, 2, 1, 3)), f((2, 18, 10, 3)), f((34, 18, 3, 3))),
        (cls(padding=(1, 1, 1, 1), groups=7), f((3, 7, 19, 26)), f((7, 1, 3, 3))),
        (cls(stride=(2, 2), padding=(2, 2, 2, 2), groups=16), f((2, 16, 23, 28)), f((16, 1, 5, 5))),
        (cls(stride=(3, 2), padding=(0, 1, 3, 0), dilation=(2, 1), groups=3), f((2, 3, 14, 41)), f((6, 1, 3, 4))),
        (cls(stride=(2, 2), padding=(1, 1, 1, 1), groups=3), f((2, 3, 9, 83)), f((3, 1, 3, 3))),
        (cls(stride=(2, 2), padding=(1, 1, 1, 1)), f((1, 70, 7, 6)), f((5, 70, 3, 3))),
        (cls(stride=(4, 4), padding=(2, 2, 2, 2)), f((1, 3, 23, 35)), f((4, 3, 11, 11))),
        (cls(padding=(4, 4, 4, 4)), f((1, 2, 10, 75)), f((3, 2, 9, 9))),
        (cls(padding=(1, 1, 1, 1)), f((2, 72, 9, 21)), f((24, 72, 3, 3))),
        (cls(padding=(1, 0, 2, 1)), f((2, 16, 6, 7)), f((32, 16, 3, 3))),
        (cls(padding=(0, 2, 1, 0), dilation=(2, 1), groups=2), f((3, 8, 11, 19)), f((32, 4, 3, 2))),
        (cls(stride=(2, 1), padding=(0, 1, 2, 0), groups=2), f((3, 32, 9, 11)), f((64, 16, 3, 2))),
        (cls(stride=(1, 2)), f((2, 16, 7, 9)), f((8, 16, 1, 1))),
        (cls(padding=(1, 1, 1, 1)), f((1, 8, 1, 2)), f((32, 8, 3, 3))),         # as few as kernels for many channels take
        (cls(padding=(1, 1, 1, 1)), f((1, 32, 1, 1)), f((8, 32, 3, 3))),
        (cls(padding=(1, 1, 1, 1)), f((1, 16, 2, 1)), f((16, 16, 3, 3))),
    ]


def same_padding(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) so that the output has ceil(size / stride) elements; the odd one goes behind."""
    total = max((-(-size // stride) - 1) * stride + dilation * (window - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def resolve_padding(
    padding: int | str | Sequence[int],
    size: Sequence[int],
    window: Sequence[int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) from a number, a pair (vertical, horizontal), four numbers, 'same' or 'valid'."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        return (
            *same_padding(size[0], window[0], stride[0], dilation[0]),
            *same_padding(size[1], window[1], stride[1], dilation[1]),
        )
    if isinstance(padding, str):
        raise ArgumentError("unknown padding", where="conv2d", got=padding, expected="'same', 'valid' or numbers")
    if isinstance(padding, (int, np.integer)) or len(tuple(padding)) == 2:
        vertical, horizontal = pair(padding, "conv2d padding", 0)
        return (vertical, vertical, horizontal, horizontal)
    values = tuple(int(v) for v in padding)
    if len(values) != 4 or min(values) < 0:
        raise ArgumentError("padding needs one, two or four numbers of at least 0", where="conv2d", got=padding)
    return values


def conv2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    """Convolution of x (N, C, H, W) with w (K, C/groups, R, S), plus bias (K,).

    Args:
        padding: a number, (vertical, horizontal), (top, bottom, left, right), 'same' (output ceil(H / stride); TensorFlow's
            rule, which for
            stride 1 is PyTorch's) or 'valid'.

    Raises:
        ShapeError: if channels, groups or sizes do not fit.
    """
    graph = graph_of(x, w)
    x, w = as_value(graph, x), as_value(graph, w)
    if len(x.shape) != 4 or len(w.shape) != 4:
        raise ShapeError(
            "needs images (N, C, H, W) and filters (K, C/groups, R, S)",
            where=graph.path or "conv2d",
            got=f"{x.shape} and {w.shape}",
        )
    if not isinstance(groups, int) or groups < 1:
        raise ArgumentError("groups must be a positive whole number", where="conv2d", got=groups)
    stride, dilation = pair(stride, "conv2d stride", 1), pair(dilation, "conv2d dilation", 1)
    padding = resolve_padding(padding, x.shape[2:], w.shape[2:], stride, dilation)
    y = apply(Conv2d(stride, padding, dilation, groups), x, w)[0]
    if bias is not None:
        bias = as_value(graph, bias)
        if bias.shape != (w.shape[0],):
            raise ShapeError(
                "the bias does not fit the filters", where=graph.path or "conv2d", got=bias.shape, expected=(w.shape[0],)
            )
        y = add(y, reshape(bias, (1, -1, 1, 1)))
    return y
