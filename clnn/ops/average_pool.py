"""Average over windows of an image, sliding or adaptive.

The gradient gathers: each pixel adds up what the windows that cover it give, in a fixed order, so no atomics are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..codegen.windows import Adaptive, Sliding
from ..errors import ArgumentError, ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from .pool import Pair, pool_layouts, pool_problem, require_image, slide, window_pairs
from .reduce import mean
from .tracing import Tensor, apply, as_value, graph_of, pair

AVERAGE_CASES: tuple[tuple[dict, tuple[int, ...]], ...] = (
    ({"kernel": (2, 2), "stride": (2, 2)}, (2, 8, 6, 7)),
    ({"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1)}, (2, 16, 5, 4)),
    ({"kernel": (3, 2), "stride": (2, 3), "padding": (1, 1), "count_include_pad": False}, (1, 3, 7, 11)),
    ({"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "ceil_mode": True}, (2, 1, 6, 8)),
    ({"kernel": (3, 4), "stride": (2, 3), "padding": (0, 2), "ceil_mode": True, "count_include_pad": False}, (1, 5, 8, 13)),
    ({"kernel": (4, 3), "stride": (3, 2), "padding": (1, 1), "ceil_mode": True, "divisor_override": 5}, (1, 2, 8, 6)),
    ({"kernel": (1, 1), "stride": (3, 2)}, (3, 2, 5, 1)),
    ({"kernel": (5, 5), "stride": (3, 3), "ceil_mode": True}, (1, 2, 4, 5)),
)

ADAPTIVE_CASES: tuple[tuple[Pair, tuple[int, ...]], ...] = (
    ((7, 7), (1, 8, 10, 13)), ((3, 2), (2, 16, 7, 4)), ((5, 4), (2, 3, 3, 1)), ((1, 3), (1, 2, 6, 6)), ((1, 1), (2, 1, 3, 5)))


@dataclass(frozen=True)
class AveragePool(Op):
    """Base of the averages over windows, which differ in their windows and in what the sum of a window is divided by."""

    #: the name of the public function, for messages
    function: ClassVar[str]
    tail_outputs = (0,)

    def windows(self, size: Pair) -> tuple[Sliding | Adaptive, Sliding | Adaptive]:
        """The windows along H and W of an image of ``size``."""
        raise NotImplementedError

    def divisor(self) -> str | int:
        """A number, ``window`` (pixels of the window and its padding) or ``pixels`` (those inside the image)."""
        raise NotImplementedError

    def weights(self, size: Pair) -> np.ndarray:
        """(P, Q, H, W): what a pixel contributes to a result; for references."""
        raise NotImplementedError

    def transposed(self, size: Pair) -> Op:
        """The gradient for images of ``size``."""
        raise NotImplementedError

    def infer(self, x):
        require_image(x, self.function)
        rows, cols = self.windows(x.shape[2:])
        return (TensorSpec((*x.shape[:2], rows.count, cols.count), x.dtype, x.layout),)

    def grad(self, inputs, outputs, cotangents):
        return apply(self.transposed(inputs[0].shape[2:]), cotangents[0])

    def reference(self, x):
        return (np.einsum("pqhw,nchw->ncpq", self.weights(x.shape[2:]), x),)

    def flops(self, inputs, outputs):
        return _covered(self.windows(inputs[0].shape[2:])) * inputs[0].shape[0] * inputs[0].shape[1]

    @property
    def lowerings(self):
        return (Lowering("windows", emit_average, layouts=pool_layouts),)


@dataclass(frozen=True)
class AveragePoolGrad(Op):
    """Base of the gradients of averages: gradient of the result → gradient of the image, whose height and width are ``size``."""

    size: Pair
    tail_outputs = (0,)

    @property
    def forward(self) -> AveragePool:
        """The operator whose gradient this is."""
        raise NotImplementedError

    def infer(self, dy):
        where = f"the gradient of {self.forward.function}"
        require_image(dy, where)
        rows, cols = self.forward.windows(self.size)
        expected = (*dy.shape[:2], rows.count, cols.count)
        if dy.shape != expected:
            raise ShapeError("the gradient does not have the shape of the result", where=where, got=dy.shape, expected=expected)
        return (TensorSpec((*dy.shape[:2], *self.size), dy.dtype, dy.layout),)

    def grad(self, inputs, outputs, cotangents):
        return apply(self.forward, cotangents[0])

    def reference(self, dy):
        return (np.einsum("pqhw,ncpq->nchw", self.forward.weights(self.size), dy),)

    def flops(self, inputs, outputs):
        return _covered(self.forward.windows(self.size)) * inputs[0].shape[0] * inputs[0].shape[1]

    @property
    def lowerings(self):
        return (Lowering("gather", emit_average_grad, layouts=pool_layouts),)


def _covered(windows: tuple[Sliding | Adaptive, Sliding | Adaptive]) -> int:
    """Additions for one channel, edges counted as if they were whole."""
    product = 1
    for axis in windows:
        product *= axis.count * (axis.size if isinstance(axis, Sliding) else -(-axis.extent // axis.count))
    return product


@dataclass(frozen=True)
class AvgPool2d(AveragePool):
    """The mean of each window.

    Padding counts as zeros with ``count_include_pad``, else not at all; ``divisor_override`` replaces the count.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    function = "avg_pool2d"

    def windows(self, size):
        return slide(self.function, size, self.kernel, self.stride, self.padding, (1, 1), self.ceil_mode)

    def divisor(self):
        return self.divisor_override or ("window" if self.count_include_pad else "pixels")

    def transposed(self, size):
        return AvgPool2dGrad(size, self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                             self.divisor_override)

    def weights(self, size):
        rows, cols = self.windows(size)
        weights = np.zeros((rows.count, cols.count, *size))
        for p, q in np.ndindex(rows.count, cols.count):
            h0, w0 = p * rows.stride - rows.pad, q * cols.stride - cols.pad
            h1, w1 = min(h0 + rows.size, size[0] + rows.pad), min(w0 + cols.size, size[1] + cols.pad)
            inside = np.s_[max(h0, 0):min(h1, size[0]), max(w0, 0):min(w1, size[1])]
            count = (h1 - h0) * (w1 - w0) if self.count_include_pad else weights[p, q][inside].size
            weights[p, q][inside] = 1.0 / (self.divisor_override or count)
        return weights

    @classmethod
    def samples(cls):
        return [Sample(cls(**attributes), (TensorSpec(shape),)) for attributes, shape in AVERAGE_CASES]


@dataclass(frozen=True)
class AvgPool2dGrad(AveragePoolGrad):
    """The gradient of :class:`AvgPool2d`."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def forward(self):
        return AvgPool2d(self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)

    @classmethod
    def samples(cls):
        return [Sample(cls(shape[2:], **attributes), AvgPool2d(**attributes).infer(TensorSpec(shape)))
                for attributes, shape in AVERAGE_CASES]


@dataclass(frozen=True)
class AdaptiveAvgPool2d(AveragePool):
    """The mean of each of P x Q windows that share out the image; window p holds rows ⌊p · H / P⌋ … ⌈(p + 1) · H / P⌉ − 1."""

    output_size: Pair
    function = "adaptive_avg_pool2d"

    def windows(self, size):
        return Adaptive(size[0], self.output_size[0]), Adaptive(size[1], self.output_size[1])

    def divisor(self):
        return "pixels"

    def transposed(self, size):
        return AdaptiveAvgPool2dGrad(size, self.output_size)

    def weights(self, size):
        weights = np.zeros((*self.output_size, *size))
        for p, q in np.ndindex(self.output_size):
            (h0, h1), (w0, w1) = (((at * extent) // count, -(-(at + 1) * extent // count))
                                  for at, extent, count in zip((p, q), size, self.output_size, strict=True))
            weights[p, q, h0:h1, w0:w1] = 1.0 / ((h1 - h0) * (w1 - w0))
        return weights

    @classmethod
    def samples(cls):
        return [Sample(cls(size), (TensorSpec(shape),)) for size, shape in ADAPTIVE_CASES]


@dataclass(frozen=True)
class AdaptiveAvgPool2dGrad(AveragePoolGrad):
    """The gradient of :class:`AdaptiveAvgPool2d`."""

    output_size: Pair

    @property
    def forward(self):
        return AdaptiveAvgPool2d(self.output_size)

    @classmethod
    def samples(cls):
        return [Sample(cls(shape[2:], size), (TensorSpec((*shape[:2], *size)),)) for size, shape in ADAPTIVE_CASES]


def emit_average(op: AveragePool, context: Context) -> None:
    (x,), (y,) = context.inputs, context.outputs
    windows = op.windows(x.shape[2:])
    context.launch("pool/average", {"N": y.size, "M": x.size, **pool_problem(x, y, *windows), "divisor": op.divisor()},
                   {"x": context.input(0)}, {"y": context.output(0)})


def emit_average_grad(op: AveragePoolGrad, context: Context) -> None:
    (dy,), (dx,) = context.inputs, context.outputs
    context.launch("pool/average_grad", {"N": dx.size, "M": dy.size, **pool_problem(dx, dy, *op.forward.windows(op.size)),
                                         "divisor": op.forward.divisor()},
                   {"dy": context.input(0)}, {"dx": context.output(0)})


def avg_pool2d(x: Tensor, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
               padding: int | Sequence[int] = 0, ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Value:
    """The mean of each window; the windows are ``stride`` (by default the window's size) apart.

    Padding counts as zeros with ``count_include_pad``, else it does not count; ``divisor_override`` replaces the number of pixels
    that a window's sum is divided by. What a window of ``ceil_mode`` has beyond the padding never counts.
    """
    kernel, step, pad = window_pairs("avg_pool2d", kernel_size, stride, padding)
    if divisor_override is not None and (not isinstance(divisor_override, (int, np.integer)) or divisor_override == 0):
        raise ArgumentError("a sum cannot be divided by this", where="avg_pool2d, divisor_override", got=divisor_override,
                            expected="a whole number other than 0, or None")
    override = None if divisor_override is None else int(divisor_override)
    return apply(AvgPool2d(kernel, step, pad, bool(ceil_mode), bool(count_include_pad), override), x)[0]


def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None] | None) -> Value:
    """The mean of windows that share out the image so that the result has ``output_size``; None keeps the image's size."""
    value = as_value(graph_of(x), x)
    require_image(value.spec, "adaptive_avg_pool2d")
    size = value.shape[2:]
    if output_size is None or isinstance(output_size, (int, np.integer)):
        output_size = (output_size, output_size)
    given = tuple(output_size)
    wanted = tuple(extent if g is None else g for g, extent in zip(given, size, strict=True)) if len(given) == 2 else given
    wanted = pair(wanted, "adaptive_avg_pool2d, output_size", 1)
    if wanted == size:
        return value
    if wanted == (1, 1):
        return mean(value, (2, 3), keepdims=True)
    if size[0] % wanted[0] == 0 and size[1] % wanted[1] == 0:
        return avg_pool2d(value, (size[0] // wanted[0], size[1] // wanted[1]))
    return apply(AdaptiveAvgPool2d(wanted), value)[0]


def global_avg_pool2d(x: Tensor) -> Value:
    """The mean of each channel: (N, C, H, W) → (N, C, 1, 1)."""
    return adaptive_avg_pool2d(x, 1)
