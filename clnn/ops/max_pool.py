"""Maximum over windows of an image.

The gradient gathers: each pixel adds up what the windows that found it give, in a fixed order, so no atomics are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..codegen.windows import Sliding
from ..errors import ArgumentError, ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from ..ir.op import distinct, integers
from .pool import Pair, pool_layouts, pool_problem, require_image, slide, window_pairs
from .tracing import Tensor, apply, pair

MAX_CASES: tuple[tuple[dict, tuple[int, ...]], ...] = (
    ({"kernel": (2, 2), "stride": (2, 2)}, (2, 8, 6, 7)),
    ({"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}, (2, 16, 9, 8)),
    ({"kernel": (3, 2), "stride": (1, 3), "padding": (1, 0), "dilation": (2, 1)}, (1, 3, 7, 11)),
    ({"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True}, (2, 1, 6, 8)),
    ({"kernel": (3, 4), "stride": (2, 3), "padding": (1, 2), "dilation": (1, 2), "ceil_mode": True}, (1, 5, 8, 13)),
    ({"kernel": (1, 1), "stride": (3, 2)}, (3, 2, 5, 1)),
    ({"kernel": (5, 5), "stride": (3, 3), "ceil_mode": True}, (1, 2, 4, 5)),
    ({"kernel": (16, 17), "stride": (1, 2)}, (1, 2, 17, 20)),
)


@dataclass(frozen=True)
class MaxPool2d(Op):
    """The maximum of each window and, ``with_index``, the place r · S + s in the window where it was found first."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    with_index: bool = True
    tail_outputs = (0,)

    @property
    def index_dtype(self) -> str:
        return "uint8" if self.kernel[0] * self.kernel[1] <= 255 else "int32"

    def windows(self, size: Pair) -> tuple[Sliding, Sliding]:
        return slide("max_pool2d", size, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)

    def infer(self, x):
        require_image(x, "max_pool2d")
        rows, cols = self.windows(x.shape[2:])
        shape = (*x.shape[:2], rows.count, cols.count)
        specs = TensorSpec(shape, x.dtype, x.layout), TensorSpec(shape, self.index_dtype, x.layout)
        return specs if self.with_index else specs[:1]

    def grad(self, inputs, outputs, cotangents):
        if cotangents[0] is None:
            return (None,)
        index = outputs[1] if self.with_index else apply(replace(self, with_index=True), inputs[0])[1]
        op = MaxPool2dGrad(inputs[0].shape[2:], self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)
        return apply(op, cotangents[0], index)

    def without_outputs(self, dead: set[int]) -> Op | None:
        """The operator that does not compute the outputs numbered ``dead``; None if it is not there."""
        return replace(self, with_index=False) if self.with_index and dead == {1} else None

    def reference(self, x):
        rows, cols = self.windows(x.shape[2:])
        y = np.full((*x.shape[:2], rows.count, cols.count), -np.inf)
        index = np.full(y.shape, -1)
        for p, q in np.ndindex(rows.count, cols.count):
            for r, s in np.ndindex(self.kernel):
                h, w = p * rows.stride - rows.pad + r * rows.dilation, q * cols.stride - cols.pad + s * cols.dilation
                if 0 <= h < rows.extent and 0 <= w < cols.extent:
                    v, best = x[:, :, h, w], y[:, :, p, q]
                    wins = (v > best) | (np.isnan(v) & ~np.isnan(best)) | (index[:, :, p, q] < 0)
                    y[:, :, p, q] = np.where(wins, v, best)
                    index[:, :, p, q] = np.where(wins, r * self.kernel[1] + s, index[:, :, p, q])
        return (y, index.astype(self.index_dtype)) if self.with_index else (y,)

    def flops(self, inputs, outputs):
        return outputs[0].size * self.kernel[0] * self.kernel[1]

    @property
    def lowerings(self):
        return (Lowering("windows", emit_max, layouts=pool_layouts),)

    @classmethod
    def samples(cls):
        return [Sample(cls(**attributes), (TensorSpec(shape),), {0: distinct}) for attributes, shape in (*MAX_CASES, (
            {"kernel": (2, 2), "stride": (2, 2), "with_index": False}, (2, 16, 6, 7)))]


@dataclass(frozen=True)
class MaxPool2dGrad(Op):
    """(gradient of the result, index of each maximum) → gradient of the image, whose height and width are ``size``."""

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    tail_outputs = (0,)

    def windows(self) -> tuple[Sliding, Sliding]:
        return slide("the gradient of max_pool2d", self.size, self.kernel, self.stride, self.padding, self.dilation,
                     self.ceil_mode)

    def infer(self, dy, index):
        rows, cols = self.windows()
        expected = (*dy.shape[:2], rows.count, cols.count)
        if dy.shape != expected or index.shape != expected:
            raise ShapeError("the gradient does not have the shape of the result", where="the gradient of max_pool2d",
                             got=(dy.shape, index.shape), expected=expected)
        return (TensorSpec((*dy.shape[:2], *self.size), dy.dtype, dy.layout),)

    def grad(self, inputs, outputs, cotangents):
        raise ArgumentError("second derivatives are not available", where="max_pool2d",
                            hint="differentiate a function of max_pool2d's result only once")

    def reference(self, dy, index):
        rows, cols = self.windows()
        dx = np.zeros((*dy.shape[:2], *self.size))
        for p, q in np.ndindex(rows.count, cols.count):
            for r, s in np.ndindex(self.kernel):
                h, w = p * rows.stride - rows.pad + r * rows.dilation, q * cols.stride - cols.pad + s * cols.dilation
                if 0 <= h < rows.extent and 0 <= w < cols.extent:
                    dx[:, :, h, w] += np.where(index[:, :, p, q] == r * self.kernel[1] + s, dy[:, :, p, q], 0.0)
        return (dx,)

    def flops(self, inputs, outputs):
        return inputs[0].size

    @property
    def lowerings(self):
        return (Lowering("gather", emit_max_grad, layouts=pool_layouts),)

    @classmethod
    def samples(cls):
        samples = []
        for attributes, shape in MAX_CASES:
            y, index = MaxPool2d(**attributes).infer(TensorSpec(shape))
            positions = attributes["kernel"][0] * attributes["kernel"][1]
            samples.append(Sample(cls(shape[2:], **attributes), (y, index), {1: integers(0, positions)}, differentiable=False))
        return samples


def emit_max(op: MaxPool2d, context: Context) -> None:
    (x,), y = context.inputs, context.outputs[0]
    stores = {"y": context.output(0)} | ({"index": context.output(1)} if op.with_index else {})
    context.launch("pool/max", {"N": y.size, "M": x.size, **pool_problem(x, y, *op.windows(x.shape[2:]))},
                   {"x": context.input(0)}, stores)


def emit_max_grad(op: MaxPool2dGrad, context: Context) -> None:
    dy, dx = context.inputs[0], context.outputs[0]
    context.launch("pool/max_grad", {"N": dx.size, "M": dy.size, **pool_problem(dx, dy, *op.windows())},
                   {"dy": context.input(0), "index": context.input(1)}, {"dx": context.output(0)})


def max_pool2d(x: Tensor, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
               padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, ceil_mode: bool = False) -> Value:
    """The maximum of each window; the windows are ``stride`` (by default the window's size) apart.

    Padding never wins. With ``ceil_mode`` a last window that hangs over the edge counts too, if it starts inside the image or its
    left padding. NaN is passed on. Of equal maxima the first one in the window gets the gradient.
    """
    kernel, step, pad = window_pairs("max_pool2d", kernel_size, stride, padding)
    op = MaxPool2d(kernel, step, pad, pair(dilation, "max_pool2d, dilation", 1), bool(ceil_mode))
    return apply(op, x)[0]
