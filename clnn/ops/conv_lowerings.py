"""The ways to compute a convolution and its gradients: as a product of views (implicit GEMM), with the windows written out
first (im2col), or directly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from ..codegen.lowering import Context, Lowering, Operand
from ..codegen.views import Digit, View, matrix
from ..errors import LoweringError
from ..ir import NHWC, ROW, TensorSpec, blocked
from ..target import Target
from . import depthwise, direct_blocks, direct_channels, direct_planes, strips, winograd, winograd_blocks, winograd_fused
from .conv_views import channels_last, dgrad_gemms, fprop_gemm, pixels, wgrad_gemm
from .gemm import Gemm, launch_gemm, main_kind
from .tiles import turned

#: pixels of a row from which on vectors are read along it
LONG_ROW = 16


class _Image(NamedTuple):
    """What a product reads beside filters: the image, or the gradient of the result."""

    spec: TensorSpec
    at: Operand


def _image(context: Context) -> _Image:
    return _Image(context.inputs[0], context.input(0))


def _turned_image(context: Context) -> _Image:
    """The same with its channels innermost, in scratch memory."""
    return _Image(context.inputs[0].with_layout(NHWC), turned(context, context.input(0)))


def _filters(context: Context, image: _Image) -> Operand:
    """The filters of a product with an image, turned to (K, R, S, C/groups) where the product runs along channels."""
    filters = context.input(1)
    return turned(context, filters) if channels_last(image.spec, context.inputs[1].shape[2:]) else filters


def _implicit_fprop(op, context: Context, image_of=_image) -> None:
    image = image_of(context)
    gemm = fprop_gemm(op, image.spec, context.inputs[1], context.outputs[0])
    launch_gemm(context, main_kind(context.target), gemm, _filters(context, image), image.at, context.output(0))


def _implicit_dgrad(op, context: Context, image_of=_image) -> None:
    image = image_of(context)
    products, untouched = dgrad_gemms(op, image.spec, context.inputs[1], context.outputs[0])
    filters = _filters(context, image)
    for number, gemm in enumerate(products):
        launch_gemm(context, main_kind(context.target), gemm, filters, image.at, context.output(0),
                    label=f" {number}" if number else "")
    for places in untouched:
        axes = tuple((digit.extent, digit.stride) for digit in places.digits)
        context.launch("pointwise/fill", {"base": places.base, "axes": axes}, {}, {"y": context.output(0)})


def _turned_fprop(op, context: Context) -> None:
    """Along the channels of an image whose rows are too short for vectors."""
    _implicit_fprop(op, context, _turned_image)


def _turned_dgrad(op, context: Context) -> None:
    """As :func:`_turned_fprop`."""
    _implicit_dgrad(op, context, _turned_image)


def _implicit_wgrad(op, context: Context) -> None:
    gemm = wgrad_gemm(op, *context.inputs, context.outputs[0])
    kind, (a, b), sums = main_kind(context.target), (context.input(1), context.input(0)), _row_sum(context)
    launch_gemm(context, kind, gemm, a, b, context.output(0), sums)


def _row_sum(context: Context) -> Operand | None:
    """Where the bias gradient goes, if it is asked for beside a product."""
    return context.output(1) if len(context.outputs) > 1 else None


def _written_out(context: Context, op, gemm: Gemm, a: Operand) -> None:
    """Write the patches out, then multiply plain matrices."""
    rows, cols = gemm.b.shape
    context.check_workspace(4 * gemm.batch * rows * cols)
    if gemm.b.window is None and op.stride == (1, 1):
        raise LoweringError("the windows are the image itself, there is nothing to write out")
    columns = context.scratch((gemm.batch, rows, cols))
    context.launch(
        "conv/im2col", {"rows": rows, "cols": cols, "batch": gemm.batch, "x": gemm.b}, {"x": context.input(0)}, {"y": columns}
    )
    plain = replace(gemm, b=matrix(rows, cols, cols, 1, rows * cols))
    launch_gemm(context, main_kind(context.target), plain, a, columns, context.output(0), _row_sum(context))


def _im2col_fprop(op, context: Context) -> None:
    _written_out(context, op, fprop_gemm(op, *context.inputs, context.outputs[0]), _filters(context, _image(context)))


def _im2col_dgrad(op, context: Context) -> None:
    (gemm, *others), untouched = dgrad_gemms(op, *context.inputs, context.outputs[0])
    if others or untouched:
        raise LoweringError("a stride makes several products")
    _written_out(context, op, gemm, _filters(context, _image(context)))


def _im2col_wgrad(op, context: Context) -> None:
    _written_out(context, op, wgrad_gemm(op, *context.inputs, context.outputs[0]), context.input(1))


def _col2im(op, context: Context) -> None:
    """dgrad by the other order: multiply first, wᵀ · dy, then gather the columns of each pixel."""
    dy, w = context.inputs
    (dx,) = context.outputs
    _, cg, r, s = w.shape
    kg, cols = w.shape[0] // op.groups, dy.shape[0] * dy.shape[2] * dy.shape[3]
    rows = cg * r * s
    context.check_workspace(4 * op.groups * rows * cols)
    columns = context.scratch((op.groups, rows, cols))
    gemm = Gemm(
        matrix(rows, kg, 1, rows, kg * rows),
        View((Digit(kg, dy.strides[1]),), pixels(dy), None, kg * dy.strides[1]),
        matrix(rows, cols, cols, 1, rows * cols),
        op.groups,
    )
    launch_gemm(context, main_kind(context.target), gemm, context.input(1), context.input(0), columns)
    context.launch(
        "conv/col2im",
        {**_shape_problem(op, dx, dy, (r, s)), "dims": _walk_dims(dx)},
        {"columns": columns},
        {"dx": context.output(0)},
    )


def _walk_dims(spec: TensorSpec) -> tuple[tuple[str, int], ...]:
    """The physical dimensions of an image tensor, outermost first, as (letter, extent)."""
    return tuple(("nchw"[d.axis], d.extent) for d in spec.layout.dims(spec.shape))


def _shape_problem(op, x: TensorSpec, y: TensorSpec, window: tuple[int, int]) -> dict[str, object]:
    return {
        "N": x.shape[0],
        "C": x.shape[1],
        "H": x.shape[2],
        "W": x.shape[3],
        "K": y.shape[1],
        "P": y.shape[2],
        "Q": y.shape[3],
        "R": window[0],
        "S": window[1],
        "stride": op.stride,
        "padding": op.padding,
        "dilation": op.dilation,
        "groups": op.groups,
    }


def _direct_fprop(op, context: Context) -> None:
    x, w = context.inputs
    (y,) = context.outputs
    context.launch(
        "conv/direct",
        {**_shape_problem(op, x, y, w.shape[2:]), "x_strides": x.strides, "dims": _walk_dims(y)},
        {"x": context.input(0), "f": context.input(1)},
        {"y": context.output(0)},
    )


def _direct_dgrad(op, context: Context) -> None:
    dy, w = context.inputs
    (dx,) = context.outputs
    context.launch(
        "conv/direct_dgrad",
        {**_shape_problem(op, dx, dy, w.shape[2:]), "dy_strides": dy.strides, "dims": _walk_dims(dx)},
        {"dy": context.input(0), "f": context.input(1)},
        {"dx": context.output(0)},
    )


def _direct_wgrad(op, context: Context) -> None:
    x, dy = context.inputs
    stores = {"dw": context.output(0)} | ({"db": context.output(1)} if op.row_sum else {})
    context.launch(
        "conv/direct_wgrad",
        {**_shape_problem(op, x, dy, op.window), "x_strides": x.strides, "dy_strides": dy.strides},
        {"x": context.input(0), "dy": context.input(1)},
        stores,
    )


def _refuse_narrow(op, inputs, outputs, target: Target) -> str | None:
    channels = (outputs[0] if outputs[0].rank == 4 else inputs[0]).shape[1]
    return "groups this narrow leave a matrix unit mostly idle" if op.groups > 1 and channels // op.groups < 4 else None


def _refuse_scattered(op, inputs, outputs, target: Target) -> str | None:
    """For dgrad, where the pixels of a product are apart in memory."""
    if not target.is_cpu and op.stride[1] > 1 and outputs[0].strides[1] != 1:
        return f"stores to pixels that are {op.stride[1]} apart waste the width of the memory"
    return _refuse_narrow(op, inputs, outputs, target)


def _refuse_turned(op, inputs, outputs, target: Target) -> str | None:
    width = inputs[0].shape[3]
    if not target.is_cpu:
        return "items load single elements where they lie"
    if width >= LONG_ROW or math.prod(inputs[1].shape[2:]) == 1:
        return f"vectors are read from rows of {width} pixels as they lie"
    return _refuse_narrow(op, inputs, outputs, target)


def _refuse_gathered(op, inputs, outputs, target: Target) -> str | None:
    """For filters, on GPUs: where pixels are few, but do not lie side by side."""
    if not target.is_cpu and op.window == (1, 1) and op.stride != (1, 1):
        return f"vectors cannot be read from pixels that are {op.stride} apart"
    return _refuse_narrow(op, inputs, outputs, target)


def _wgrad_layouts(op, inputs, outputs):
    return [((layout, layout), (ROW,) * len(outputs)) for layout in (ROW, NHWC)]


def _planes_layouts(op, inputs, outputs):
    return [((ROW,) * len(inputs), (ROW,) * len(outputs))]


def _innermost_layouts(op, inputs, outputs):
    return [((NHWC, NHWC), (ROW,) * len(outputs))]


def _channels_layouts(op, inputs, outputs):
    return [((NHWC, ROW), (layout,)) for layout in (NHWC, blocked(8), blocked(16))]


def _block_layouts(op, inputs, outputs):
    return [((layout, ROW), (layout,)) for layout in (blocked(8), blocked(16))]


def _filter_layouts(op, inputs, outputs):
    return [((layout, ROW), (layout,)) for layout in (ROW, NHWC)]


def _all_layouts(op, inputs, outputs):
    return [*_filter_layouts(op, inputs, outputs), *_block_layouts(op, inputs, outputs)]


FPROP = (
    Lowering("direct_planes", direct_planes.fprop, direct_planes.refuse, _planes_layouts),
    Lowering("winograd_blocks", winograd_blocks.fprop, winograd_blocks.refuse, _all_layouts),
    Lowering("winograd", winograd.fprop, winograd.refuse, _filter_layouts),
    Lowering("winograd_fused", winograd_fused.fprop, winograd_fused.refuse, _planes_layouts),
    Lowering("depthwise", depthwise.fprop, layouts=_all_layouts),
    Lowering("direct_channels", direct_channels.fprop, direct_channels.refuse, _channels_layouts),
    Lowering("direct_blocks", direct_blocks.fprop, direct_blocks.refuse, _block_layouts),
    Lowering("strips", strips.fprop, strips.refuse_fprop, _planes_layouts),
    Lowering("turned_gemm", _turned_fprop, _refuse_turned, _planes_layouts),
    Lowering("implicit_gemm", _implicit_fprop, _refuse_narrow, _filter_layouts),
    Lowering("im2col", _im2col_fprop, _refuse_narrow, _filter_layouts),
    Lowering("direct", _direct_fprop, layouts=_filter_layouts),
)
DGRAD = (
    Lowering("direct_planes", direct_planes.dgrad, direct_planes.refuse, _planes_layouts),
    Lowering("winograd_blocks", winograd_blocks.dgrad, winograd_blocks.refuse, _all_layouts),
    Lowering("winograd", winograd.dgrad, winograd.refuse, _filter_layouts),
    Lowering("winograd_fused", winograd_fused.dgrad, winograd_fused.refuse, _planes_layouts),
    Lowering("depthwise", depthwise.dgrad, layouts=_all_layouts),
    Lowering("direct_channels", direct_channels.dgrad, direct_channels.refuse, _channels_layouts),
    Lowering("direct_blocks", direct_blocks.dgrad, direct_blocks.refuse, _block_layouts),
    Lowering("strips", strips.dgrad, strips.refuse_dgrad, _planes_layouts),
    Lowering("turned_gemm", _turned_dgrad, _refuse_turned, _planes_layouts),
    Lowering("implicit_gemm", _implicit_dgrad, _refuse_scattered, _filter_layouts),
    Lowering("col2im", _col2im, _refuse_narrow, _filter_layouts),
    Lowering("im2col", _im2col_dgrad, _refuse_narrow, _filter_layouts),
    Lowering("direct", _direct_dgrad, layouts=_filter_layouts),
)
WGRAD = (
    Lowering("direct_planes", direct_planes.wgrad, direct_planes.refuse, _planes_layouts),
    Lowering("direct_channels", direct_channels.wgrad, direct_channels.refuse_wgrad, _innermost_layouts),
    Lowering("winograd", winograd.wgrad, winograd.refuse, _wgrad_layouts),
    Lowering("depthwise", depthwise.wgrad, layouts=_wgrad_layouts),
    Lowering("strips", strips.wgrad, strips.refuse_wgrad, _planes_layouts),
    Lowering("implicit_gemm", _implicit_wgrad, _refuse_gathered, _wgrad_layouts),
    Lowering("im2col", _im2col_wgrad, _refuse_narrow, _wgrad_layouts),
    Lowering("direct", _direct_wgrad, layouts=_wgrad_layouts),
)
