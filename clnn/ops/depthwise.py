"""Depthwise convolution: every channel of the image has filters of its own (groups = C), one or several.

No products of matrices pay here; the kernels read each pixel once and are bound by memory.
"""

from __future__ import annotations

from ..codegen.image_tiles import lying
from ..codegen.lowering import Context
from ..codegen.views import Digit, View
from ..errors import LoweringError
from ..ir import NHWC, ROW, TensorSpec
from ..target import Target
from .tiles import turn

#: filter elements that the kernels hold in registers
LARGEST_WINDOW = 64


def _check(op, channels: int, window: tuple[int, int]) -> None:
    if op.groups != channels:
        raise LoweringError("is made for filters that each see one channel")
    if window[0] * window[1] > LARGEST_WINDOW:
        raise LoweringError(f"holds filters of at most {LARGEST_WINDOW} elements")


def _launch(op, context: Context, backwards: bool) -> None:
    (image, w), (result,) = context.inputs, context.outputs
    channels = (result if backwards else image).shape[1]
    _check(op, channels, w.shape[2:])
    (x_strides, beside), (strides, _) = lying(image), lying(result)
    if beside and (not context.target.is_cpu or w.shape[0] != channels):
        raise LoweringError("takes blocks of channels on CPUs, where each has one filter")
    filters, taps = context.input(1), w.shape[2] * w.shape[3]
    turned = context.target.is_cpu and result.layout != ROW and w.shape[0] == channels
    if turned:      # so that those of neighbouring channels are neighbours
        turned_filters = context.scratch((taps, channels))
        turn(context, filters, turned_filters, 1, taps, channels)
        filters = turned_filters
    context.launch("conv/depthwise",
                   {"N": image.shape[0], "C": result.shape[1], "pixels": image.shape[2:], "results": result.shape[2:],
                    "window": w.shape[2:], "stride": op.stride, "padding": (op.padding[0], op.padding[2]),
                    "dilation": op.dilation, "backwards": backwards, "spread": w.shape[0] // channels, "taps_first": turned,
                    "x_strides": x_strides, "strides": strides,
                    "inner": "channels" if result.layout == NHWC else "columns", "beside": beside},
                   {"x": context.input(0), "f": filters}, {"y": context.output(0)})


def fprop(op, context: Context) -> None:
    _launch(op, context, backwards=False)


def dgrad(op, context: Context) -> None:
    _launch(op, context, backwards=True)


def _parts(x: TensorSpec, dy: TensorSpec, target: Target) -> int:
    """Parts of the rows of all images, so that every compute unit has work."""
    n, k, p, q = dy.shape
    groups = k if dy.layout != NHWC else -(-k // (16 if target.is_cpu else 32))
    wanted = -(-(4 if target.is_cpu else 8) * target.compute_units // groups)
    return max(1, min(wanted, n * p * q // 1024, n * p, 256))


def wgrad(op, context: Context) -> None:
    """Partial sums over some rows of all images, then their sum."""
    x, dy = context.inputs
    (n, c, h, w), (_, k, p, q), (r, s) = x.shape, dy.shape, op.window
    _check(op, c, op.window)
    if op.groups == 1 and op.row_sum:
        raise LoweringError("would add up the bias gradient apart; a GEMM makes it beside that of the only channel's filters")
    parts = _parts(x, dy, context.target)
    parts = context.choice("parts", parts, tuple(v for v in (1, 2, 4, 8, 16, 32, 64, 128, 256) if v <= n * p))
    stores = {"part": context.scratch((parts, k, r * s))} | ({"sums": context.scratch((parts, k))} if op.row_sum else {})
    context.launch("conv/depthwise_wgrad",
                   {"N": n, "C": c, "H": h, "W": w, "K": k, "P": p, "Q": q, "R": r, "S": s, "stride": op.stride,
                    "padding": op.padding, "dilation": op.dilation, "groups": op.groups, "x_strides": x.strides,
                    "dy_strides": dy.strides, "parts": parts, "inner": "channels" if dy.layout == NHWC else "columns"},
                   {"x": context.input(0), "dy": context.input(1)}, stores)
    for number, (name, rows) in enumerate((("part", k * r * s), ("sums", k))[:1 + op.row_sum]):
        view = View((Digit(rows, 1),), (Digit(parts, rows),))
        context.launch("reduce/rows", {"rows": rows, "cols": parts, "x": view, "kind": "sum"},
                       {"x": stores[name]}, {"y": context.output(number)})
