"""Batch normalisation (Ioffe and Szegedy, 2015): one operator for training, its gradient, and the function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..codegen.expr import add, arg, call
from ..codegen.held import PAIRS, SINGLE
from ..codegen.lowering import Lowering, same_layouts
from ..errors import ArgumentError, ShapeError
from ..ir import NHWC, ROW, Graph, Op, Sample, TensorSpec, Value, Variable
from ..ir.op import normal, positive
from .norm_lowerings import emit_forward, emit_forward_held, emit_gradient, emit_gradient_held, refuse_held
from .pointwise import pointwise, require_float
from .shape import reshape
from .tracing import Tensor, apply, as_value, graph_of


def check_channels(x: TensorSpec, named: dict[str, TensorSpec], where: str) -> None:
    """x needs an axis 1, and everything named one element per channel."""
    if x.rank < 2:
        raise ShapeError("needs a batch axis and a channel axis", where=where, got=x.shape, expected="(N, C) or (N, C, H, W)")
    for name, spec in named.items():
        if spec.shape != (x.shape[1],):
            raise ShapeError(f"{name} needs one element per channel", where=where, got=spec.shape, expected=(x.shape[1],))


def per_channel(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def reduced_axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


@dataclass(frozen=True)
class BatchNorm(Op):
    """x, gamma, beta → y normalised by the statistics of the batch, mean, biased variance."""

    eps: float
    tail_outputs = (0, 1, 2)

    def infer(self, x, gamma, beta):
        check_channels(x, {"the weight": gamma, "the bias": beta}, "batch_norm")
        return (x, gamma, gamma)

    def grad(self, inputs, outputs, cotangents):
        (x, gamma, _), (_, mean, var), (dy, dmean, dvar) = inputs, outputs, cotangents
        graph, shape = x.graph, (-1, *(1,) * (x.spec.rank - 2))
        count = x.spec.size // x.shape[1]
        dx = dgamma = dbeta = None
        if dy is not None:
            dx, dgamma, dbeta = graph.add(BatchNormGrad(self.eps), (dy, x, mean, var, gamma))
        terms, values = [], []
        if dmean is not None:
            terms.append(arg(0) * (1 / count))
            values.append(reshape(dmean, shape))
        if dvar is not None:
            n = len(values)
            terms.append((arg(n) - arg(n + 1)) * arg(n + 2) * (2 / count))
            values += [x, reshape(mean, shape), reshape(dvar, shape)]
        if dx is not None:
            terms.append(arg(len(values)))
            values.append(dx)
        total = terms[0]
        for term in terms[1:]:
            total = add(total, term)
        return pointwise(graph, [total], values, x.shape)[0], dgamma, dbeta

    def reference(self, x, gamma, beta):
        mean, var = x.mean(reduced_axes(x)), x.var(reduced_axes(x))
        xhat = (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + self.eps)
        return xhat * per_channel(gamma, x) + per_channel(beta, x), mean, var

    def flops(self, inputs, outputs):
        return 8 * inputs[0].size

    @property
    def lowerings(self):
        layouts = same_layouts(ROW, NHWC)
        return (Lowering("held", emit_forward_held, refuse_held(SINGLE), layouts),
                Lowering("parts", emit_forward, layouts=layouts))

    @classmethod
    def samples(cls):
        f = TensorSpec

        def far(rng, spec):
            return normal(rng, spec) + np.float32(1000)

        def sample(shape, **kwargs):
            return Sample(cls(1e-5), (f(shape), f(shape[1:2]), f(shape[1:2])), **kwargs)
        shapes = ((7, 2, 13, 11), (3, 5, 4, 7), (2, 16, 3, 3), (40, 7), (3, 32), (1, 3, 5, 1), (2, 3, 9), (2, 3, 104, 100))
        return [sample(shape) for shape in shapes] + [
            sample((9, 3, 8, 9), fill={0: far}, tolerance=1e-4), sample((600, 16), fill={0: far}, tolerance=1e-4)]


@dataclass(frozen=True)
class BatchNormGrad(Op):
    """dy, x, mean, var, gamma → gradients of x, gamma and beta."""

    eps: float
    tail_outputs = (0, 1, 2)

    def infer(self, dy, x, mean, var, gamma):
        check_channels(x, {"the mean": mean, "the variance": var, "the weight": gamma}, self.name)
        if dy.shape != x.shape:
            raise ShapeError("the gradient does not have the shape of the input", where=self.name, got=dy.shape, expected=x.shape)
        return (x, gamma, gamma)

    def grad(self, inputs, outputs, cotangents):
        raise ArgumentError("batch normalisation can be differentiated once only", where=self.name,
                            hint="take second derivatives with training=False, where batch_norm is a pointwise expression")

    def reference(self, dy, x, mean, var, gamma):
        axes, count = reduced_axes(x), x.size / x.shape[1]
        invstd = 1 / np.sqrt(var + self.eps)
        xhat = (x - per_channel(mean, x)) * per_channel(invstd, x)
        dgamma, dbeta = (dy * xhat).sum(axes), dy.sum(axes)
        dx = per_channel(gamma * invstd, x) * (dy - per_channel(dbeta, x) / count - xhat * per_channel(dgamma, x) / count)
        return dx, dgamma, dbeta

    def flops(self, inputs, outputs):
        return 10 * inputs[0].size

    @property
    def lowerings(self):
        layouts = same_layouts(ROW, NHWC)
        return (Lowering("held", emit_gradient_held, refuse_held(PAIRS), layouts),
                Lowering("parts", emit_gradient, layouts=layouts))

    @classmethod
    def samples(cls):
        f = TensorSpec
        return [Sample(cls(1e-5), (f(s), f(s), f(s[1:2]), f(s[1:2]), f(s[1:2])), {3: positive}, differentiable=False)
                for s in ((7, 2, 13, 11), (3, 5, 4, 7), (2, 16, 3, 3), (40, 7), (600, 16), (1, 3, 5, 1), (2, 3, 104, 100))]


# -- the function -------------------------------------------------------------------------------------------------------

def batch_norm(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Value:
    """(x − mean) / sqrt(var + eps) · weight + bias per channel (axis 1).

    With ``training`` the statistics are those of the batch, and the running ones, which must be variables, are updated when the
    run ends: running ← (1 − momentum) · running + momentum · batch, with the unbiased variance. Otherwise the running statistics
    are used; where there are none, those of the batch.
    """
    graph = graph_of(x)
    value = require_float(as_value(graph, x), "batch_norm")
    if len(value.shape) < 2:
        check_channels(value.spec, {}, "batch_norm")
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("needs both running statistics or none", where="batch_norm")
    channels = value.shape[1]
    gamma = as_value(graph, np.ones(channels, np.float32) if weight is None else weight)
    beta = as_value(graph, np.zeros(channels, np.float32) if bias is None else bias)
    if not training and running_mean is not None:
        return _with_running_statistics(value, as_value(graph, running_mean), as_value(graph, running_var), gamma, beta, eps)
    count = value.spec.size // max(channels, 1)
    if count <= 1:
        raise ShapeError("expected more than 1 value per channel when training", where="batch_norm", got=value.shape,
                         expected="a larger batch or image", hint="drop a last batch of one, or evaluate with training=False")
    y, mean, var = apply(BatchNorm(float(eps)), value, gamma, beta)
    if training and running_mean is not None:
        update_running(graph, running_mean, mean, momentum, "running_mean")
        update_running(graph, running_var, var, momentum, "running_var", count / (count - 1))
    return y


def update_running(graph: Graph, running: Tensor, batch: Value, momentum: float, name: str, factor: float = 1.0) -> None:
    """Register running ← (1 − momentum) · running + momentum · factor · batch; a layer used twice is updated twice."""
    if not isinstance(running, Variable):
        raise ArgumentError(f"{name} is updated in training and must be a variable", where="batch_norm",
                            got=type(running).__name__, expected="clnn.ir.Variable")
    if running.shape != batch.shape:
        raise ShapeError(f"{name} needs one element per channel", where="batch_norm", got=running.shape, expected=batch.shape)
    variable = graph.variable(running)
    present = graph.updates.get(variable, variable)
    graph.updates[variable] = pointwise(graph, [arg(0) * (1 - momentum) + arg(1) * (momentum * factor)], [present, batch])[0]


def _with_running_statistics(x: Value, mean: Value, var: Value, gamma: Value, beta: Value, eps: float) -> Value:
    named = {"running_mean": mean, "running_var": var, "the weight": gamma, "the bias": beta}
    check_channels(x.spec, {name: value.spec for name, value in named.items()}, "batch_norm")
    shape = (x.shape[1], *(1,) * (len(x.shape) - 2))
    expr = (arg(0) - arg(1)) * (arg(3) / call("sqrt", arg(2) + eps)) + arg(4)
    return pointwise(x.graph, [expr], [x, *(reshape(value, shape) for value in named.values())], x.shape)[0]
