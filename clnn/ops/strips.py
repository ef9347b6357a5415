"""Convolutions with few channels on one side, for devices with many items: strips of results in registers, see ``conv/strips``.

Such are the first layer of a network, its gradient in the image, and narrow groups. As matrices they would be mostly padding.
"""

from __future__ import annotations

from types import SimpleNamespace

from ..codegen.convolution import sides
from ..codegen.lowering import Context
from ..codegen.strips import share
from ..codegen.views import matrix
from ..codegen.window_sums import choose as choose_sums
from ..codegen.window_sums import chunks, cut, spills
from ..errors import LoweringError
from ..ir import TensorSpec
from ..target import Target
from .gemm import RESIDENT

#: most channels of the narrower side, of one group and of several; the least share of the multiply-adds that must count
NARROW, NARROW_GROUP, LEAST_SHARE = 4, 16, 0.4
DEPTHWISE = "filters that each see one channel have kernels of their own"
#: results that an item of a weight gradient sums up one after the other, at most; longer sums are cut into parts
LONGEST_SUM = 1 << 14
MOST_PARTS = 1024


def _problem(op, backwards: bool, x: TensorSpec, w: TensorSpec, y: TensorSpec) -> dict[str, object]:
    return sides(op, x, y, w.shape[2:], backwards) | {"x_strides": x.strides, "strides": y.strides}


def _emit(backwards: bool):
    def emit(op, context: Context) -> None:
        problem = _problem(op, backwards, *context.inputs, context.outputs[0])
        context.launch("conv/strips", problem, {"x": context.input(0), "f": context.input(1)}, {"y": context.output(0)})
    return emit


fprop, dgrad = _emit(False), _emit(True)


def _refuse(backwards: bool):
    def refuse(op, inputs, outputs, target: Target) -> str | None:
        if target.is_cpu:
            return "barriers between many items are slow on CPUs"
        p = SimpleNamespace(**_problem(op, backwards, *inputs, outputs[0]))
        most = NARROW if op.groups == 1 else NARROW_GROUP
        if op.groups > 1 and p.ins == p.outs == 1:
            return DEPTHWISE
        if min(p.ins, p.outs) > most:
            return f"more than {most} channels on both sides make matrices large enough"
        if (got := share(p, target)) < LEAST_SHARE:
            return f"only {100 * got:.0f} % of the time would go into products"
        return None
    return refuse


refuse_fprop, refuse_dgrad = _refuse(False), _refuse(True)


def _sums_problem(op, x: TensorSpec, dy: TensorSpec) -> dict[str, object]:
    (n, c, h, w), (_, k, p, q), (r, s) = x.shape, dy.shape, op.window
    return {"N": n, "groups": op.groups, "C": c // op.groups, "K": k // op.groups, "H": h, "W": w, "P": p, "Q": q,
            "R": r, "S": s, "stride": op.stride, "padding": (op.padding[0], op.padding[2]), "dilation": op.dilation,
            "x_strides": x.strides, "dy_strides": dy.strides, "parts": 1, "bias": int(op.row_sum)}


def wgrad(op, context: Context) -> None:
    """Partial sums over some rows of all images, then their sum."""
    problem = _sums_problem(op, *context.inputs)
    n, k, p, q = context.inputs[1].shape
    window = problem["C"] * problem["R"] * problem["S"]
    chosen = choose_sums(SimpleNamespace(**problem), context.target)
    if not chosen:
        raise LoweringError("is made for filters whose elements fit into a work-group's registers")
    # as many items on each compute unit as hide the time that loads take, but no less than four pieces of a row for a part
    pieces = chunks(SimpleNamespace(**problem), chosen["COLS"])
    size = cut(SimpleNamespace(**problem), SimpleNamespace(**chosen))
    groups = op.groups * -(-problem["K"] // size.block)
    wanted = max(-(-RESIDENT * context.target.compute_units // (groups * size.items)), -(-n * p * q // LONGEST_SUM))
    parts = max(1, min(wanted, pieces // 4, MOST_PARTS))
    if groups * parts > context.target.compute_units:       # whole rounds of the machine
        parts = groups * parts // context.target.compute_units * context.target.compute_units // groups
    parts = context.choice("parts", parts, tuple(v for v in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if v <= n * p))
    stores = {"part": context.scratch((parts, k, window))} | ({"sums": context.scratch((parts, k))} if op.row_sum else {})
    context.launch("conv/window_sums", {**problem, "parts": parts}, {"x": context.input(0), "dy": context.input(1)}, stores)
    context.launch("gemm/join", {"M": k, "N": window, "batch": 1, "splits": parts, "c": matrix(k, window, window, 1)},
                   {"part": stores["part"], **({"part_sum": stores["sums"]} if op.row_sum else {})},
                   {"c": context.output(0), **({"row_sum": context.output(1)} if op.row_sum else {})})


def refuse_wgrad(op, inputs, outputs, target: Target) -> str | None:
    if target.is_cpu:
        return "barriers between many items are slow on CPUs"
    most = NARROW if op.groups == 1 else NARROW_GROUP
    if op.groups > 1 and op.groups == inputs[0].shape[1]:
        return DEPTHWISE
    if inputs[0].shape[1] // op.groups > most:
        return f"more than {most} channels make matrices large enough"
    p = SimpleNamespace(**_sums_problem(op, *inputs))
    if (chosen := choose_sums(p, target)) and spills(p, SimpleNamespace(**chosen), target):
        return "the pixels of so many channels and rows do not stay in registers"
    return None
