"""Scalar expressions: what a pointwise operator computes for one element.

One expression serves four readers: numpy evaluates it, C is generated from it, its gradient is derived from it, and fusing two
operators substitutes one into the other. Equal expressions are one object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np

from .philox import uniform

_interned: WeakValueDictionary[tuple, Expr] = WeakValueDictionary()


class Expr:
    """A constant, an argument, or a function of expressions; immutable and interned, so ``==`` is ``is``."""

    __slots__ = ("__weakref__", "args", "function", "value")
    function: str                   # "const", "arg", or a name in FUNCTIONS
    args: tuple[Expr, ...]
    value: float | int              # the constant, or the argument's number

    def __new__(cls, function: str, args: tuple[Expr, ...] = (), value: float | int = 0) -> Expr:
        key = (function, args, type(value), value, math.copysign(1.0, value))
        found = _interned.get(key)
        if found is None:
            found = super().__new__(cls)
            found.function, found.args, found.value = function, args, value
            _interned[key] = found
        return found

    def __add__(self, other): return add(self, other)
    def __radd__(self, other): return add(other, self)
    def __sub__(self, other): return sub(self, other)
    def __rsub__(self, other): return sub(other, self)
    def __mul__(self, other): return mul(self, other)
    def __rmul__(self, other): return mul(other, self)
    def __truediv__(self, other): return div(self, other)
    def __rtruediv__(self, other): return div(other, self)
    def __neg__(self): return mul(-1.0, self)

    def __str__(self) -> str:
        if self.function == "const":
            return f"{self.value:g}"
        if self.function == "arg":
            return "abcdefghijklmnopqrstuvwxyz"[self.value] if self.value < 26 else f"arg{self.value}"
        return f"{self.function}({', '.join(map(str, self.args))})"

    __repr__ = __str__

    def __reduce__(self):
        return Expr, (self.function, self.args, self.value)


def arg(number: int) -> Expr:
    """The element of the operand with this number."""
    return Expr("arg", value=number)


def const(value: float) -> Expr:
    return Expr("const", value=float(value))


def lift(value: Expr | float) -> Expr:
    return value if isinstance(value, Expr) else const(value)


def _is(expr: Expr, value: float) -> bool:
    return expr.function == "const" and expr.value == value


def call(function: str, *args: Expr | float) -> Expr:
    return Expr(function, tuple(lift(a) for a in args))


def add(x, y) -> Expr:
    x, y = lift(x), lift(y)
    if _is(x, 0.0):
        return y
    return x if _is(y, 0.0) else call("add", x, y)


def sub(x, y) -> Expr:
    x, y = lift(x), lift(y)
    return x if _is(y, 0.0) else call("sub", x, y)


def mul(x, y) -> Expr:
    x, y = lift(x), lift(y)
    if _is(x, 1.0):
        return y
    if _is(y, 1.0):
        return x
    if _is(x, 0.0) or _is(y, 0.0):
        return const(0.0)
    return call("mul", x, y)


def div(x, y) -> Expr:
    x, y = lift(x), lift(y)
    return x if _is(y, 1.0) else call("div", x, y)


def select(condition, x, y) -> Expr:
    return call("select", condition, x, y)


@dataclass(frozen=True)
class Function:
    """A scalar function: how numpy and C compute it, and its partial derivatives.

    ``partials(node, *args)`` returns one expression per argument (None: not differentiable in it). A partial that is written with
    ``node``, the function's own value, spares the argument: the backward pass then reads the output instead of the input.
    """

    numpy: Callable
    c: str
    partials: Callable[..., tuple[Expr | None, ...]] | None = None

    @property
    def calls(self) -> bool:
        """Whether its C text calls something, which takes numbers only; what is made of signs takes vectors, too."""
        return re.search(r"\w\(", self.c) is not None


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.power(x, y)


def _power_partials(node, x, y):
    in_exponent = None if y.function == "const" else select(call("equal", x, 0.0), 0.0, node * call("log", x))
    return y * power(x, sub(y, 1.0)), in_exponent


def power(x, y) -> Expr:
    """x ** y, with the small whole powers spelled out."""
    x, y = lift(x), lift(y)
    if y.function == "const":
        if y.value in (0.0, 1.0, 2.0):
            return (const(1.0), x, mul(x, x))[int(y.value)]
        if y.value == 0.5:
            return call("sqrt", x)
    if x.function == "const" and y.function == "const":
        return const(x.value ** y.value)
    return call("pow", x, y)


def _pick(condition, x, y):
    return np.where(np.asarray(condition) != 0, x, y)


def _tie(node, x, y):
    return (select(call("greater", x, y), 1.0, select(call("equal", x, y), 0.5, 0.0)),
            select(call("greater", y, x), 1.0, select(call("equal", x, y), 0.5, 0.0)))


def _tie_min(node, x, y):
    return tuple(reversed(_tie(node, x, y)))


def _quiet(function: Callable) -> Callable:
    def evaluate(*args):
        with np.errstate(all="ignore"):
            return function(*args)
    return evaluate


# Ternaries stand where C has fmax, fmin and fabs: they pass NaN on, and a builtin is a real call on some CPU runtimes.
FUNCTIONS: dict[str, Function] = {
    "add": Function(np.add, "({0} + {1})", lambda n, x, y: (const(1.0), const(1.0))),
    "sub": Function(np.subtract, "({0} - {1})", lambda n, x, y: (const(1.0), const(-1.0))),
    "mul": Function(np.multiply, "({0} * {1})", lambda n, x, y: (y, x)),
    "div": Function(_quiet(np.divide), "({0} / {1})", lambda n, x, y: (div(1.0, y), -div(n, y))),
    "max": Function(np.maximum, "(({0} > {1} || {0} != {0}) ? {0} : {1})", _tie),
    "min": Function(np.minimum, "(({0} < {1} || {0} != {0}) ? {0} : {1})", _tie_min),
    "pow": Function(_power, "pow({0}, {1})", _power_partials),
    "exp": Function(_quiet(np.exp), "exp({0})", lambda n, x: (n,)),
    "log": Function(_quiet(np.log), "log({0})", lambda n, x: (div(1.0, x),)),
    "log1p": Function(_quiet(np.log1p), "log1p({0})", lambda n, x: (div(1.0, add(1.0, x)),)),
    "sqrt": Function(_quiet(np.sqrt), "sqrt({0})", lambda n, x: (div(0.5, n),)),
    "rsqrt": Function(_quiet(lambda x: 1 / np.sqrt(x)), "(1.0f / sqrt({0}))", lambda n, x: (mul(-0.5, mul(n, mul(n, n))),)),
    "abs": Function(np.abs, "({0} < 0.0f ? -{0} : {0})", lambda n, x: (call("sign", x),)),
    "sign": Function(np.sign, "({0} > 0.0f ? 1.0f : ({0} < 0.0f ? -1.0f : {0}))", lambda n, x: (const(0.0),)),
    "tanh": Function(np.tanh, "tanh({0})", lambda n, x: (sub(1.0, mul(n, n)),)),
    "erf": Function(_erf, "erf({0})", lambda n, x: (mul(2.0 / math.sqrt(math.pi), call("exp", -mul(x, x))),)),
    "sigmoid": Function(_quiet(lambda x: 1 / (1 + np.exp(-x))), "(1.0f / (1.0f + exp(-{0})))",
                        lambda n, x: (mul(n, sub(1.0, n)),)),
    "relu": Function(lambda x: np.where(x < 0, 0, x), "({0} < 0.0f ? 0.0f : {0})",
                     lambda n, x: (select(call("greater", n, 0.0), 1.0, 0.0),)),
    "relu6": Function(lambda x: np.where(x < 0, 0, np.where(x > 6, 6, x)),
                      "({0} < 0.0f ? 0.0f : ({0} > 6.0f ? 6.0f : {0}))",
                      lambda n, x: (select(call("greater", n, 0.0), select(call("less", n, 6.0), 1.0, 0.0), 0.0),)),
    "leaky_relu": Function(lambda x, slope: np.where(x < 0, x * slope, x), "({0} < 0.0f ? {0} * {1} : {0})",
                           lambda n, x, slope: (select(call("greater", x, 0.0), 1.0, slope), None)),
    "elu": Function(_quiet(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x))),
                    "({0} > 0.0f ? {0} : {1} * expm1({0}))",
                    lambda n, x, alpha: (select(call("greater", x, 0.0), 1.0, add(n, alpha)), None)),
    "clip": Function(lambda x, low, high: np.where(x < low, low, np.where(x > high, high, x)),
                     "({0} < {1} ? {1} : ({0} > {2} ? {2} : {0}))",
                     lambda n, x, low, high: (select(call("less", x, low), 0.0, select(call("greater", x, high), 0.0, 1.0)),
                                              None, None)),
    "less": Function(np.less, "({0} < {1} ? 1.0f : 0.0f)", lambda n, x, y: (None, None)),
    "greater": Function(np.greater, "({0} > {1} ? 1.0f : 0.0f)", lambda n, x, y: (None, None)),
    "equal": Function(np.equal, "({0} == {1} ? 1.0f : 0.0f)", lambda n, x, y: (None, None)),
    "select": Function(_pick, "({0} != 0.0f ? {1} : {2})",
                       lambda n, c, x, y: (None, select(c, 1.0, 0.0), select(c, 0.0, 1.0))),
    # uniform(seed, step, salt): its fourth, hidden argument is the logical index of the element
    "uniform": Function(uniform, "clnn_uniform((uint){0}, (uint){1}, (uint){2}, (uint){index})",
                        lambda n, seed, step, salt: (None, None, None)),
}


def topological(roots: Iterable[Expr]) -> list[Expr]:
    """All expressions below the roots, arguments before what uses them, each once."""
    seen: dict[Expr, None] = {}

    def visit(expr: Expr) -> None:
        if expr in seen:
            return
        for a in expr.args:
            visit(a)
        seen[expr] = None

    for root in roots:
        visit(root)
    return list(seen)


def arguments(exprs: Iterable[Expr]) -> set[int]:
    """The numbers of the operands that occur."""
    return {int(e.value) for e in topological(exprs) if e.function == "arg"}


def uses(exprs: Iterable[Expr], function: str) -> bool:
    return any(e.function == function for e in topological(exprs))


def substitute(exprs: Sequence[Expr], replacements: dict[Expr, Expr]) -> tuple[Expr, ...]:
    """Replace whole sub-expressions (arguments among them) by others, outermost first."""
    done: dict[Expr, Expr] = dict(replacements)

    def visit(expr: Expr) -> Expr:
        if expr not in done:
            done[expr] = Expr(expr.function, tuple(visit(a) for a in expr.args), expr.value) if expr.args else expr
        return done[expr]

    return tuple(visit(expr) for expr in exprs)


def differentiate(root: Expr, seed: Expr) -> dict[int, Expr]:
    """Reverse-mode derivative of ``root``: for each operand number, ``seed`` times the partial derivative in that operand."""
    adjoint: dict[Expr, Expr] = {root: seed}
    for expr in reversed(topological([root])):
        if expr not in adjoint or not expr.args:
            continue
        partials = FUNCTIONS[expr.function].partials(expr, *expr.args)
        for a, partial in zip(expr.args, partials, strict=True):
            if partial is None or a.function == "const" or _is(partial, 0.0):
                continue
            adjoint[a] = add(adjoint.get(a, const(0.0)), _scale(adjoint[expr], partial))
    return {int(e.value): g for e, g in adjoint.items() if e.function == "arg"}


def _scale(gradient: Expr, partial: Expr) -> Expr:
    """gradient × partial, where a 0/1 choice becomes a choice of the gradient, so that 0 × inf never arises."""
    if partial.function == "select" and all(a.function == "const" or a.function == "select" for a in partial.args[1:]):
        return select(partial.args[0], _scale(gradient, partial.args[1]), _scale(gradient, partial.args[2]))
    return mul(gradient, partial)


def evaluate(exprs: Sequence[Expr], arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The expressions in numpy float64, broadcast to ``shape``."""
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    values: dict[Expr, np.ndarray] = {}
    for e in topological(exprs):
        if e.function == "const":
            values[e] = np.float64(e.value)
        elif e.function == "arg":
            array = np.asarray(arrays[int(e.value)])
            values[e] = array.astype(np.float64) if array.dtype.kind == "f" else array.astype(np.int64)
        else:
            hidden = (index,) if e.function == "uniform" else ()
            values[e] = FUNCTIONS[e.function].numpy(*(values[a] for a in e.args), *hidden)
    return tuple(np.broadcast_to(np.asarray(values[e], dtype=np.float64), shape).copy() for e in exprs)


def c_number(value: float) -> str:
    """A float literal of OpenCL C."""
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    if math.isnan(value):
        return "NAN"
    text = repr(float(np.float32(value)) if abs(value) < 3.4e38 else value)
    return f"{text}f" if value >= 0 else f"({text}f)"


def to_c(exprs: Sequence[Expr], operands: dict[int, str], index: str, prefix: str = "v",
         kind: str = "float") -> tuple[list[str], list[str]]:
    """C statements that compute the expressions, and the names that hold them.

    ``operands`` gives C text for each argument, ``index`` the logical element index (for random numbers). Each distinct
    sub-expression is computed once, in the type ``kind``: a vector where no function calls another.
    """
    names: dict[Expr, str] = {}
    lines: list[str] = []
    for e in topological(exprs):
        if e.function == "const":
            names[e] = c_number(e.value)
        elif e.function == "arg":
            names[e] = operands[int(e.value)]
        else:
            names[e] = f"{prefix}{len(lines)}"
            text = FUNCTIONS[e.function].c.format(*(names[a] for a in e.args), index=index)
            lines.append(f"const {kind} {names[e]} = {text};")
    return lines, [names[e] for e in exprs]
