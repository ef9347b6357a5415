"""The ways to compute a convolution and its gradients: as a product of views (implicit GEMM), with the windows written out
first (im2col), or directly."""

from __future__ import annotations

from dataclasses import replace

from ..codegen.lowering import Context, Lowering
from ..codegen.views import Digit, View, Window, matrix, merge
from ..errors import LoweringError
from ..ir import NHWC, ROW, TensorSpec
from ..target import Target
from . import depthwise, direct_planes, strips, winograd
from .gemm import Gemm, launch_gemm, main_kind


def _image(spec: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return spec.shape, spec.strides


def _pixels(spec: TensorSpec) -> tuple[Digit, ...]:
    """(image, row, column) of a tensor as digits, joined where they walk memory as one."""
    (n, _, h, w), (sn, _, sh, sw) = _image(spec)
    return merge([Digit(n, sn), Digit(h, sh), Digit(w, sw)])


def _window(op, x: TensorSpec) -> Window:
    (_, _, h, w), (_, _, sh, sw) = _image(x)
    return Window(h, w, sh, sw, -op.padding[0], -op.padding[2])


def _patches(op, x: TensorSpec, y: TensorSpec, window: tuple[int, int]) -> View:
    """The im2col matrix (C/groups · R · S) × (N · P · Q) of one group, as a view of the image."""
    (n, c, _, _), (sn, sc, sh, sw) = _image(x)
    cg = c // op.groups
    if window == (1, 1) and not any(op.padding):
        pixels = merge([Digit(n, sn), Digit(y.shape[2], sh * op.stride[0]), Digit(y.shape[3], sw * op.stride[1])])
        return View((Digit(cg, sc),), pixels, None, cg * sc)
    return View(
        (Digit(cg, sc), Digit(window[0], 0, op.dilation[0]), Digit(window[1], 0, 0, op.dilation[1])),
        (Digit(n, sn), Digit(y.shape[2], 0, op.stride[0]), Digit(y.shape[3], 0, 0, op.stride[1])),
        _window(op, x),
        cg * sc,
    )


def fprop_gemm(op, x: TensorSpec, w: TensorSpec, y: TensorSpec) -> Gemm:
    """y = w · patches(x)."""
    kg, depth = w.shape[0] // op.groups, w.size // w.shape[0]
    return Gemm(
        matrix(kg, depth, depth, 1, kg * depth),
        _patches(op, x, y, w.shape[2:]),
        View((Digit(kg, y.strides[1]),), _pixels(y), None, kg * y.strides[1]),
        op.groups,
    )


def dgrad_gemm(op, dy: TensorSpec, w: TensorSpec, dx: TensorSpec) -> Gemm:
    """dx = wᵀ · (the outputs whose window covers a pixel); outputs between the strides do not exist and count as zero."""
    (n, k, p, q), (sn, sk, sp, sq) = _image(dy)
    _, cg, r, s = w.shape
    kg = k // op.groups
    a = View((Digit(cg, r * s),), (Digit(kg, cg * r * s), Digit(r * s, 1)), None, kg * cg * r * s)
    if (r, s) == (1, 1) and not any(op.padding) and op.stride == (1, 1):
        b = View((Digit(kg, sk),), _pixels(dy), None, kg * sk)
    else:
        b = View(
            (Digit(kg, sk), Digit(r, 0, -op.dilation[0]), Digit(s, 0, 0, -op.dilation[1])),
            (Digit(n, sn), Digit(dx.shape[2], 0, 1), Digit(dx.shape[3], 0, 0, 1)),
            Window(p, q, sp, sq, op.padding[0], op.padding[2], *op.stride),
            kg * sk,
        )
    return Gemm(a, b, View((Digit(cg, dx.strides[1]),), _pixels(dx), None, cg * dx.strides[1]), op.groups)


def wgrad_gemm(op, x: TensorSpec, dy: TensorSpec, dw: TensorSpec) -> Gemm:
    """dw = dy · patches(x)ᵀ."""
    kg, depth = dw.shape[0] // op.groups, dw.size // dw.shape[0]
    a = View((Digit(kg, dy.strides[1]),), _pixels(dy), None, kg * dy.strides[1])
    return Gemm(a, _patches(op, x, dy, dw.shape[2:]).transposed, matrix(kg, depth, depth, 1, kg * depth), op.groups)


def _implicit(gemm_of):
    def emit(op, context: Context) -> None:
        row_sum = context.output(1) if len(context.outputs) > 1 else None
        gemm = gemm_of(op, *context.inputs, context.outputs[0])
        launch_gemm(context, main_kind(context.target), gemm, *_operands(op, context), context.output(0), row_sum)

    return emit


def _operands(op, context: Context):
    """The tensors behind the views A and B: weights × image, weights × gradient, gradient × image."""
    return context.input(1), context.input(0)


def _im2col(gemm_of):
    """Write the patches out, then multiply plain matrices."""

    def emit(op, context: Context) -> None:
        gemm = gemm_of(op, *context.inputs, context.outputs[0])
        rows, cols = gemm.b.shape
        nbytes = 4 * gemm.batch * rows * cols
        context.check_workspace(nbytes)
        if gemm.b.window is None and op.stride == (1, 1):
            raise LoweringError("the windows are the image itself, there is nothing to write out")
        columns = context.scratch((gemm.batch, rows, cols))
        context.launch(
            "conv/im2col", {"rows": rows, "cols": cols, "batch": gemm.batch, "x": gemm.b}, {"x": context.input(0)}, {"y": columns}
        )
        a, _ = _operands(op, context)
        row_sum = context.output(1) if len(context.outputs) > 1 else None
        launch_gemm(
            context,
            main_kind(context.target),
            replace(gemm, b=matrix(rows, cols, cols, 1, rows * cols)),
            a,
            columns,
            context.output(0),
            row_sum,
        )

    return emit


def _col2im(op, context: Context) -> None:
    """dgrad by the other order: multiply first, wᵀ · dy, then gather the columns of each pixel."""
    dy, w = context.inputs
    (dx,) = context.outputs
    _, cg, r, s = w.shape
    kg, pixels = w.shape[0] // op.groups, dy.shape[0] * dy.shape[2] * dy.shape[3]
    rows = cg * r * s
    context.check_workspace(4 * op.groups * rows * pixels)
    columns = context.scratch((op.groups, rows, pixels))
    gemm = Gemm(
        matrix(rows, kg, 1, rows, kg * rows),
        View((Digit(kg, dy.strides[1]),), _pixels(dy), None, kg * dy.strides[1]),
        matrix(rows, pixels, pixels, 1, rows * pixels),
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


def _refuse_strided(op, inputs, outputs, target: Target) -> str | None:
    if op.stride[0] * op.stride[1] > 1 and (inputs[1].shape[2:] != (1, 1) or target.is_cpu):
        return f"stride {op.stride} would multiply mostly zeros"
    return _refuse_narrow(op, inputs, outputs, target)


def _refuse_gathered(op, inputs, outputs, target: Target) -> str | None:
    """Forwards, and for filters: where pixels are few, but do not lie side by side."""
    window = op.window if hasattr(op, "window") else inputs[1].shape[2:]
    if (target.is_cpu or hasattr(op, "window")) and tuple(window) == (1, 1) and op.stride != (1, 1):
        return f"vectors cannot be read from pixels that are {op.stride} apart"
    return _refuse_narrow(op, inputs, outputs, target)


def _wgrad_layouts(op, inputs, outputs):
    return [((layout, layout), (ROW,) * len(outputs)) for layout in (ROW, NHWC)]


def _planes_layouts(op, inputs, outputs):
    return [((ROW,) * len(inputs), (ROW,) * len(outputs))]


def _filter_layouts(op, inputs, outputs):
    return [((layout, ROW), (layout,)) for layout in (ROW, NHWC)]


FPROP = (
    Lowering("direct_planes", direct_planes.fprop, direct_planes.refuse, _planes_layouts),
    Lowering("winograd", winograd.fprop, winograd.refuse, _filter_layouts),
    Lowering("depthwise", depthwise.fprop, layouts=_filter_layouts),
    Lowering("strips", strips.fprop, strips.refuse_fprop, _planes_layouts),
    Lowering("implicit_gemm", _implicit(fprop_gemm), _refuse_gathered, _filter_layouts),
    Lowering("im2col", _im2col(fprop_gemm), _refuse_narrow, _filter_layouts),
    Lowering("direct", _direct_fprop, layouts=_filter_layouts),
)
DGRAD = (
    Lowering("direct_planes", direct_planes.dgrad, direct_planes.refuse, _planes_layouts),
    Lowering("winograd", winograd.dgrad, winograd.refuse, _filter_layouts),
    Lowering("depthwise", depthwise.dgrad, layouts=_filter_layouts),
    Lowering("strips", strips.dgrad, strips.refuse_dgrad, _planes_layouts),
    Lowering("implicit_gemm", _implicit(dgrad_gemm), _refuse_strided, _filter_layouts),
    Lowering("col2im", _col2im, _refuse_narrow, _filter_layouts),
    Lowering("im2col", _im2col(dgrad_gemm), _refuse_strided, _filter_layouts),
    Lowering("direct", _direct_dgrad, layouts=_filter_layouts),
)
WGRAD = (
    Lowering("direct_planes", direct_planes.wgrad, direct_planes.refuse, _planes_layouts),
    Lowering("winograd", winograd.wgrad, winograd.refuse, _wgrad_layouts),
    Lowering("depthwise", depthwise.wgrad, layouts=_wgrad_layouts),
    Lowering("strips", strips.wgrad, strips.refuse_wgrad, _planes_layouts),
    Lowering("implicit_gemm", _implicit(wgrad_gemm), _refuse_gathered, _wgrad_layouts),
    Lowering("im2col", _im2col(wgrad_gemm), _refuse_narrow, _wgrad_layouts),
    Lowering("direct", _direct_wgrad, layouts=_wgrad_layouts),
)
