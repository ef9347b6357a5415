"""Cross-entropy of rows of logits: the loss, its gradient and the count of hits, apart or all from one kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..codegen.expr import arg, call, select
from ..codegen.lowering import Context, Lowering
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import Op, Sample, TensorSpec, Value
from ..ir.op import integers, positive
from .pointwise import pointwise
from .reduce import sum
from .shape import expand, reshape
from .softmax import LogSoftmax, Softmax, SoftmaxGrad, log_softmax_of
from .tracing import apply

PARTS = ("rows", "grad", "hits")
LABELS = ("int32", "uint8", "int8")


class EntropyOp(Op):
    """Base: logits (N, C, …) and labels (N, …), or a weight per class (N, C, …) if ``soft`` → the ``parts``.

    ``rows`` is the loss of each row and ``hits`` whether its largest logit is the label, both (N, …); ``grad`` is the gradient in
    the logits for a cotangent of rows, which is then the third input. Rows with the label ``ignore_index`` have neither loss nor
    gradient; a label that is no class makes both NaN.
    """

    soft: bool
    smoothing: float
    ignore_index: int | None
    parts: tuple[str, ...]
    tail_outputs = (0, 1, 2)

    def infer(self, logits, labels, *rest):
        if logits.rank < 2:
            raise ShapeError("the logits need a batch axis and a class axis", where="cross_entropy", got=logits.shape,
                             expected="(N, C) or (N, C, d1, …)")
        row = (logits.shape[0], *logits.shape[2:])
        wanted = logits.shape if self.soft else row
        if not (labels.dtype == "float32" if self.soft else labels.dtype in LABELS):
            raise DTypeError("the labels have the wrong type", where="cross_entropy", got=labels.dtype,
                             expected="float32" if self.soft else " or ".join(LABELS))
        if labels.shape != wanted:
            raise ShapeError("the labels do not fit the logits", where="cross_entropy", got=labels.shape, expected=wanted,
                             hint="give a class number (a whole number) per row, or a float tensor of the logits' shape")
        if any(g.shape != row for g in rest):
            raise ShapeError("the gradient does not have the shape of the loss", where="cross_entropy",
                             got=rest[0].shape, expected=row)
        return tuple(TensorSpec(logits.shape if part == "grad" else row) for part in self.parts)

    def reference(self, logits, labels, *rest):
        classes = logits.shape[1]
        rows = (logits.shape[0], *logits.shape[2:])
        known, ignored = np.ones(rows, bool), np.zeros(rows, bool)
        if self.soft:
            target, aim = labels, labels.argmax(1)
        else:
            known, aim = (labels >= 0) & (labels < classes), labels
            target = np.moveaxis(np.eye(classes)[np.where(known, labels, 0)], -1, 1)
            ignored = labels == self.ignore_index if self.ignore_index is not None else ignored
        target = target * (1 - self.smoothing) + self.smoothing / classes
        logp = log_softmax_of(logits, 1)
        # np.where: 0 for ignored rows, NaN for labels that are no class
        mark = np.where(ignored, 0.0, np.where(known, 1.0, np.nan))
        found = {"rows": np.where(ignored, 0.0, mark * -(target * logp).sum(1)),
                 "hits": (logits.argmax(1) == aim).astype(np.float64)}
        if rest:
            slope = np.exp(logp) * target.sum(1, keepdims=True) - target
            found["grad"] = np.where(ignored[:, None], 0.0, (mark * rest[0])[:, None] * slope)
        return tuple(found[part] for part in self.parts)

    def flops(self, inputs, outputs):
        return 6 * inputs[0].size

    @property
    def lowerings(self):
        return (Lowering("rows", emit_cross_entropy),)


def emit_cross_entropy(op: EntropyOp, context: Context) -> None:
    logits = context.inputs[0]
    classes, inner = logits.shape[1], math.prod(logits.shape[2:])
    context.launch("softmax/cross_entropy",
                   {"rows": logits.size // max(classes, 1), "extent": classes, "inner": inner, "soft": op.soft,
                    "smoothing": float(op.smoothing), "ignore": op.ignore_index},
                   dict(zip(("x", "labels", "g"), map(context.input, range(len(context.inputs))), strict=False)),
                   {part: context.output(i) for i, part in enumerate(op.parts)})


def samples_of(make, with_gradient: bool, differentiable: bool = True) -> list[Sample]:
    """Samples of an operator made by ``make(soft, smoothing, ignore_index)``."""
    made = []
    for shape, soft, smoothing, ignore in (((6, 10), False, 0.0, None), ((5, 3), False, 0.1, None), ((4, 7), True, 0.0, None),
                                           ((3, 5, 2, 3), False, 0.2, 1), ((3, 300), True, 0.1, None), ((1, 1), False, 0.0, None),
                                           ((2, 600), False, 0.1, None), ((2, 4, 3), True, 0.1, None)):
        row = (shape[0], *shape[2:])
        labels = TensorSpec(shape) if soft else TensorSpec(row, "int32")
        inputs = (TensorSpec(shape), labels, *((TensorSpec(row),) if with_gradient else ()))
        made.append(Sample(make(soft, smoothing, ignore), inputs, {1: positive if soft else integers(0, shape[1])},
                           differentiable=differentiable))
    return made


def widen(row: Value) -> Value:
    """A value per row, broadcastable over the classes."""
    return reshape(row, (row.shape[0], 1, *row.shape[1:]))


@dataclass(frozen=True)
class CrossEntropy(EntropyOp):
    """logits, labels → the loss of each row."""

    soft: bool
    smoothing: float
    ignore_index: int | None
    parts: ClassVar = ("rows",)

    def grad(self, inputs, outputs, cotangents):
        (logits, labels), (g,) = inputs, cotangents
        dlogits = apply(CrossEntropyGrad(self.soft, self.smoothing, self.ignore_index), logits, labels, g)[0]
        if not self.soft:
            return dlogits, None
        logp = apply(LogSoftmax(1), logits)[0]
        return dlogits, pointwise(logits.graph, [arg(0) * arg(1) * (self.smoothing - 1)], [logp, widen(g)])[0]

    @classmethod
    def samples(cls):
        return samples_of(cls, False)


@dataclass(frozen=True)
class CrossEntropyGrad(EntropyOp):
    """logits, labels, g → g · (softmax − target)."""

    soft: bool
    smoothing: float
    ignore_index: int | None
    parts: ClassVar = ("grad",)

    def grad(self, inputs, outputs, cotangents):
        (logits, labels, g), (h,) = inputs, cotangents
        graph, keep = logits.graph, 1 - self.smoothing
        p = apply(Softmax(1), logits)[0]
        unit = apply(self, logits, labels, expand(graph.constant(1.0), g.shape))[0]
        dg = reshape(sum(pointwise(graph, [arg(0) * arg(1)], [h, unit])[0], 1), g.shape)
        curvature, slope = apply(SoftmaxGrad(1), p, h)[0], widen(g)
        if self.soft:
            mass = sum(labels, 1, keepdims=True)
            dlogits = pointwise(graph, [arg(0) * arg(1) * (arg(2) * keep + self.smoothing)], [curvature, slope, mass])[0]
            mixed = sum(pointwise(graph, [arg(0) * arg(1)], [h, p])[0], 1, keepdims=True)
            return dlogits, pointwise(graph, [arg(0) * keep * (arg(1) - arg(2))], [slope, mixed, h])[0], dg
        expr = arg(0) * arg(1)
        if self.ignore_index is not None:
            expr = select(call("equal", arg(2), self.ignore_index), 0.0, expr)
        return pointwise(graph, [expr], [curvature, slope, widen(labels)])[0], None, dg

    @classmethod
    def samples(cls):
        return samples_of(cls, True)


@dataclass(frozen=True)
class Hits(EntropyOp):
    """logits, labels → 1 where the first largest logit is the label (or the first class of the largest weight), else 0."""

    soft: bool
    smoothing: ClassVar = 0.0
    ignore_index: ClassVar = None
    parts: ClassVar = ("hits",)

    @classmethod
    def samples(cls):
        return samples_of(lambda soft, *_: cls(soft), False, differentiable=False)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(EntropyOp):
    """Several of the three in one kernel; the pass ``fuse_cross_entropy`` makes it, after differentiation."""

    soft: bool
    smoothing: float
    ignore_index: int | None
    parts: tuple[str, ...]

    def infer(self, logits, labels, *rest):
        ordered = tuple(part for part in PARTS if part in self.parts)
        if not ordered or self.parts != ordered or len(rest) != ("grad" in ordered):
            raise ArgumentError("the parts are not known, not in order, or do not fit the inputs", where=self.name,
                                got=self.parts, expected=f"some of {PARTS} in this order, and a third input for grad")
        return super().infer(logits, labels, *rest)

    def without_outputs(self, dead):
        parts = tuple(part for i, part in enumerate(self.parts) if i not in dead)
        return replace(self, parts=parts) if ("grad" in parts) == ("grad" in self.parts) else None

    def grad(self, inputs, outputs, cotangents):
        raise ArgumentError("the fused operator cannot be differentiated", where=self.name,
                            hint="differentiate the graph before the pass fuse_cross_entropy")

    @classmethod
    def samples(cls):
        return [*samples_of(lambda *a: cls(*a, PARTS), True, differentiable=False),
                *samples_of(lambda *a: cls(*a, ("rows", "hits")), False, differentiable=False)[:4]]
