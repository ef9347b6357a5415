"""Pointwise functions of the user's hand: arithmetic, activations, dropout. Each is one expression."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..codegen.expr import Expr, arg, call, const, power, select
from ..codegen.expr import add as e_add
from ..codegen.expr import div as e_div
from ..codegen.expr import mul as e_mul
from ..codegen.expr import sub as e_sub
from ..errors import ArgumentError
from ..ir import Value
from .pointwise import broadcast_shape, pointwise
from .tracing import Tensor, as_value, graph_of


def _binary(build: Callable[[Expr, Expr], Expr], a: Tensor, b: Tensor) -> Value:
    graph = graph_of(a, b)
    values = [as_value(graph, a), as_value(graph, b)]
    shape = broadcast_shape([value.spec for value in values], graph.path or "arithmetic")
    return pointwise(graph, [build(arg(0), arg(1))], values, shape)[0]


def _unary(build: Callable[[Expr], Expr], x: Tensor) -> Value:
    graph = graph_of(x)
    value = as_value(graph, x)
    return pointwise(graph, [build(arg(0))], [value], value.shape)[0]


def add(a: Tensor, b: Tensor) -> Value:
    """a + b, broadcast."""
    return _binary(e_add, a, b)


def sub(a: Tensor, b: Tensor) -> Value:
    """a − b, broadcast."""
    return _binary(e_sub, a, b)


def mul(a: Tensor, b: Tensor) -> Value:
    """a · b, broadcast."""
    return _binary(e_mul, a, b)


def div(a: Tensor, b: Tensor) -> Value:
    """a / b, broadcast."""
    return _binary(e_div, a, b)


def maximum(a: Tensor, b: Tensor) -> Value:
    """The larger of a and b; NaN if either is; equal elements share the gradient."""
    return _binary(lambda x, y: call("max", x, y), a, b)


def minimum(a: Tensor, b: Tensor) -> Value:
    """The smaller of a and b; NaN if either is; equal elements share the gradient."""
    return _binary(lambda x, y: call("min", x, y), a, b)


def pow(a: Tensor, b: Tensor) -> Value:
    """a to the power b, broadcast."""
    if isinstance(b, (int, float)):
        return _unary(lambda x: power(x, const(b)), a)
    return _binary(power, a, b)


def neg(x: Tensor) -> Value:
    """−x."""
    return _unary(lambda e: -e, x)


def exp(x: Tensor) -> Value:
    """e to the power x."""
    return _unary(lambda e: call("exp", e), x)


def log(x: Tensor) -> Value:
    """Natural logarithm."""
    return _unary(lambda e: call("log", e), x)


def sqrt(x: Tensor) -> Value:
    """Square root."""
    return _unary(lambda e: call("sqrt", e), x)


def abs(x: Tensor) -> Value:
    """Absolute value; gradient 0 at 0."""
    return _unary(lambda e: call("abs", e), x)


def clip(x: Tensor, min: float | None = None, max: float | None = None) -> Value:
    """x held in [min, max]; either may be None."""
    low, high = -math.inf if min is None else float(min), math.inf if max is None else float(max)
    if low > high:
        raise ArgumentError("the lower bound lies above the upper", where="clip", got=(min, max))
    return _unary(lambda e: call("clip", e, const(low), const(high)), x)


def relu(x: Tensor) -> Value:
    """max(x, 0); gradient 0 at 0; NaN stays NaN."""
    return _unary(lambda e: call("relu", e), x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Value:
    """x for x ≥ 0, negative_slope · x below."""
    return _unary(lambda e: call("leaky_relu", e, const(negative_slope)), x)


def relu6(x: Tensor) -> Value:
    """min(max(x, 0), 6)."""
    return _unary(lambda e: call("relu6", e), x)


def elu(x: Tensor, alpha: float = 1.0) -> Value:
    """x for x > 0, alpha · (eˣ − 1) below."""
    return _unary(lambda e: call("elu", e, const(alpha)), x)


def sigmoid(x: Tensor) -> Value:
    """1 / (1 + e⁻ˣ); its gradient is s(1 − s)."""
    return _unary(lambda e: call("sigmoid", e), x)


def tanh(x: Tensor) -> Value:
    """Hyperbolic tangent."""
    return _unary(lambda e: call("tanh", e), x)


def gelu(x: Tensor, approximate: str = "none") -> Value:
    """x · Φ(x) with the normal distribution's Φ, or its tanh approximation (Hendrycks and Gimpel, 2016)."""
    if approximate == "none":
        return _unary(lambda e: 0.5 * e * (1.0 + call("erf", e * (1 / math.sqrt(2)))), x)
    if approximate == "tanh":
        # (1 + tanh u) / 2 is sigmoid(2u), whose derivative does not cancel where it saturates
        return _unary(lambda e: e * call("sigmoid", 2 * math.sqrt(2 / math.pi) * (e + 0.044715 * (e * e * e))), x)
    raise ArgumentError("unknown approximation", where="gelu", got=approximate, expected="'none' or 'tanh'")


def silu(x: Tensor) -> Value:
    """x · sigmoid(x)."""
    return _unary(lambda e: e * call("sigmoid", e), x)


def hardsigmoid(x: Tensor) -> Value:
    """relu6(x + 3) / 6."""
    return _unary(lambda e: call("relu6", e + 3.0) * (1 / 6), x)


def hardswish(x: Tensor) -> Value:
    """x · relu6(x + 3) / 6 (Howard et al., 2019)."""
    return _unary(lambda e: e * call("relu6", e + 3.0) * (1 / 6), x)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Value:
    """Zero each element with probability p and scale the others by 1 / (1 − p).

    The mask is Philox(seed, step, salt, element), with the seed and the step of the graph (``Graph.random``) and a salt that
    tells the
    dropout layers of a graph apart: the same in the forward and the backward pass, in any layout, on any device.
    """
    if not 0 <= p < 1:
        raise ArgumentError("the probability is out of range", where="dropout", got=p, expected="0 <= p < 1")
    graph = graph_of(x)
    value = as_value(graph, x)
    if p == 0 or not training:
        return value
    graph.salts += 1
    seed, step = map(graph.variable, graph.random) if graph.random else (graph.constant(0, "int32"), graph.constant(0, "int32"))
    dropped = call("less", call("uniform", arg(1), arg(2), const(graph.salts)), const(p))
    return pointwise(graph, [select(dropped, 0.0, arg(0) * (1 / (1 - p)))], [value, seed, step], value.shape)[0]
