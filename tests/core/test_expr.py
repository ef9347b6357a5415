"""The expression language: one expression, read by numpy, as C text, by differentiation and by substitution."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clnn.codegen.expr import (
    FUNCTIONS,
    Expr,
    add,
    arg,
    arguments,
    c_number,
    call,
    const,
    differentiate,
    div,
    evaluate,
    mul,
    power,
    select,
    sub,
    substitute,
    to_c,
    topological,
    uses,
)

#: the domain of each argument where it is not the whole line; points closer than GAP to a kink are left out
DOMAIN = {"log": [(0.3, 3)], "log1p": [(-0.6, 3)], "sqrt": [(0.3, 3)], "rsqrt": [(0.3, 3)], "div": [(-2, 2), (0.4, 2)],
          "pow": [(0.3, 2), (-2, 2)], "leaky_relu": [(-3, 3), (0.1, 0.4)], "elu": [(-3, 3), (0.5, 1.5)],
          "clip": [(-3, 3), (-1.5, -0.5), (0.5, 1.5)], "relu6": [(-2, 8)]}
KINKS = {"abs": (0,), "relu": (0,), "relu6": (0, 6), "leaky_relu": (0,), "elu": (0,), "sign": (0,)}
GAP, STEP = 1e-2, 1e-6
ARITY = {name: len(set(re.findall(r"\{(\d)\}", f.c))) for name, f in FUNCTIONS.items()}
DIFFERENTIABLE = [name for name, f in FUNCTIONS.items() if f.partials and any(
    p is not None for p in f.partials(arg(9), *(arg(i) for i in range(ARITY[name]))))]


def points(name: str, count: int = 200) -> list[np.ndarray]:
    """Arguments of a function, away from its kinks."""
    rng = np.random.default_rng(3)
    ranges = DOMAIN.get(name, [(-2.5, 2.5)] * ARITY[name])
    values = [rng.uniform(low, high, count) for low, high in ranges]
    keep = np.ones(count, bool)
    for kink in KINKS.get(name, ()):
        keep &= np.abs(values[0] - kink) > GAP
    if name in ("max", "min", "clip", "less", "greater"):
        for other in values[1:]:
            keep &= np.abs(values[0] - other) > GAP
    if name == "select":
        values[0] = (values[0] > 0).astype(np.float64)
    return [v[keep] for v in values]


def value(expr: Expr, *arrays) -> np.ndarray:
    shape = np.broadcast_shapes(*(np.shape(a) for a in arrays)) if arrays else ()
    return evaluate([expr], [np.asarray(a, np.float64) for a in arrays], shape)[0]


# -- differentiation ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_partials_agree_with_finite_differences(name):
    arity = ARITY[name]
    expr = call(name, *(arg(i) for i in range(arity)))
    arrays = points(name)
    partials = FUNCTIONS[name].partials(expr, *expr.args)
    derived = differentiate(expr, const(1.0))
    for i in range(arity):
        if partials[i] is None:
            assert i not in derived
            continue
        shifted = [[a + sign * STEP * (number == i) for number, a in enumerate(arrays)] for sign in (1, -1)]
        numeric = (value(expr, *shifted[0]) - value(expr, *shifted[1])) / (2 * STEP)
        analytic = value(derived[i], *arrays) if i in derived else np.zeros_like(numeric)
        np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-7, err_msg=f"{name}, argument {i}")


def test_every_function_with_a_gradient_is_tested():
    assert set(FUNCTIONS) - set(DIFFERENTIABLE) == {"less", "greater", "equal", "uniform"}


def test_chain_and_product_rule():
    x, y = arg(0), arg(1)
    expr = call("tanh", x * y + call("exp", x)) * x / (y * y + 2.0)
    arrays = [np.linspace(-1, 1, 7), np.linspace(0.5, 2, 7)]
    derived = differentiate(expr, arg(2))
    for i in range(2):
        up, down = ([a + s * STEP * (n == i) for n, a in enumerate(arrays)] for s in (1, -1))
        numeric = 3 * (value(expr, *up) - value(expr, *down)) / (2 * STEP)
        np.testing.assert_allclose(value(derived[i], *arrays, np.full(7, 3.0)), numeric, rtol=1e-6)


def test_gradient_of_a_choice_is_a_choice():
    """0 × inf would be NaN: where a branch is not taken its cotangent must not come through."""
    derived = differentiate(call("relu", arg(0)), arg(1))[0]
    assert derived.function == "select"
    np.testing.assert_array_equal(value(derived, [-1.0, 2.0], [np.inf, 5.0]), [0.0, 5.0])
    assert value(differentiate(call("clip", arg(0), const(-1.0), const(1.0)), arg(1))[0], [3.0], [np.nan]) == 0.0


def test_ties_share_the_gradient():
    derived = differentiate(call("max", arg(0), arg(1)), const(1.0))
    assert [float(value(derived[i], 2.0, 2.0)) for i in (0, 1)] == [0.5, 0.5]


def test_power_with_a_constant_exponent_needs_no_logarithm():
    derived = differentiate(power(arg(0), 3.0), const(1.0))
    assert not uses(derived.values(), "log")
    np.testing.assert_allclose(value(derived[0], [-2.0, 0.0, 3.0]), [12.0, 0.0, 27.0])


def test_no_gradient_through_comparisons_and_random_numbers():
    assert differentiate(call("less", arg(0), arg(1)), const(1.0)) == {}
    assert differentiate(call("uniform", arg(0), arg(1), const(2.0)), const(1.0)) == {}


def test_gradient_written_with_the_result_spares_the_argument():
    """Backward passes then read what the forward pass has written."""
    x = arg(0)
    for name in ("exp", "tanh", "sigmoid", "relu", "sqrt", "rsqrt"):
        node = call(name, x)
        (replaced,) = substitute([differentiate(node, arg(1))[0]], {node: arg(2)})
        assert arguments([replaced]) <= {1, 2}, name


# -- interning and simplification ---------------------------------------------------------------------------------------

def test_equal_expressions_are_one_object():
    assert (arg(0) * 2.0 + arg(1)) is (arg(0) * 2.0 + arg(1))
    assert arg(0) is not arg(1) and const(1.0) is not arg(1)
    assert const(0.0) is not const(-0.0) and const(1.0) is const(1)


def test_copies_and_pickles_are_the_same_object():
    expr = call("exp", arg(0) * 3.0) + 1.0
    assert pickle.loads(pickle.dumps(expr)) is expr
    assert copy.deepcopy(expr) is expr


def test_interned_expressions_are_released():
    from clnn.codegen import expr as module
    gc.collect()
    before = len(module._interned)
    kept = [arg(0) * float(number) for number in range(2, 200)]
    assert len(module._interned) >= before + len(kept)
    del kept
    gc.collect()
    assert len(module._interned) <= before + 5


def test_trivial_arithmetic_vanishes():
    x = arg(0)
    assert x + 0.0 is x and 0.0 + x is x and x - 0.0 is x and x * 1.0 is x and 1.0 * x is x and x / 1.0 is x
    assert x * 0.0 is const(0.0)
    assert power(x, 1.0) is x and power(x, 2.0) is x * x and power(x, 0.0) is const(1.0) and power(x, 0.5) is call("sqrt", x)
    assert power(2.0, 3.0) is const(8.0)


# -- substitution -------------------------------------------------------------------------------------------------------

def test_substitute_replaces_arguments_everywhere():
    x, y = arg(0), arg(1)
    expr = call("exp", x) * x + y
    (got,) = substitute([expr], {x: y * 2.0, y: const(3.0)})
    assert got is call("exp", y * 2.0) * (y * 2.0) + 3.0, "what was put in is not replaced again"


def test_substitute_replaces_the_outermost():
    x = arg(0)
    inner = call("tanh", x)
    (got,) = substitute([call("exp", inner) + inner], {inner: arg(1), x: arg(2)})
    assert got is call("exp", arg(1)) + arg(1)


def test_substitute_leaves_the_rest_alone():
    expr = arg(0) * 2.0
    assert substitute([expr, arg(3)], {arg(5): arg(6)}) == (expr, arg(3))


leaves = st.one_of(st.integers(0, 2).map(arg), st.floats(-2, 2, width=16).map(const))
expressions = st.recursive(leaves, lambda inner: st.one_of(
    st.builds(add, inner, inner), st.builds(sub, inner, inner), st.builds(mul, inner, inner),
    st.builds(lambda a: call("tanh", a), inner), st.builds(lambda a: call("sigmoid", a), inner),
    st.builds(lambda a, b: select(call("less", a, b), a, b), inner, inner)), max_leaves=12)


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
def test_substitution_is_composition(outer, inner):
    arrays = [np.array([0.5, -1.25]), np.array([1.0, 2.0]), np.array([-0.75, 0.1])]
    (got,) = substitute([outer], {arg(0): inner})
    np.testing.assert_allclose(value(got, *arrays), value(outer, value(inner, *arrays), *arrays[1:]), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_topological_order_and_c_text_of_any_expression(expr):
    order = topological([expr])
    position = {e: i for i, e in enumerate(order)}
    assert len(position) == len(order) and order[-1] is expr
    assert all(position[a] < position[e] for e in order for a in e.args)
    lines, (result,) = to_c([expr], {i: f"x{i}" for i in range(3)}, "i")
    assert len(lines) == sum(bool(e.args) for e in order), "each distinct sub-expression is computed once"
    known = {"x0", "x1", "x2"}
    for line in lines:
        match = re.fullmatch(r"const float (v\d+) = (.*);", line)
        assert match and match.group(2).count("(") == match.group(2).count(")")
        assert set(re.findall(r"\b[vx]\d+\b", match.group(2))) <= known, "used before it is declared"
        known.add(match.group(1))
    assert result in known or re.fullmatch(r"\(?-?[\d.e-]+f\)?", result)


# -- C text and numbers -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", FUNCTIONS)
def test_c_text_of_every_function(name):
    operands = [f"x{i}" for i in range(ARITY[name])]
    (line,), (result,) = to_c([call(name, *(arg(i) for i in range(ARITY[name])))], dict(enumerate(operands)), "at")
    assert result == "v0" and line.startswith("const float v0 = ") and line.endswith(";")
    text = line[len("const float v0 = "):-1]
    assert all(re.search(rf"\b{operand}\b", text) for operand in operands) and "{" not in text
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        assert depth >= 0
    assert depth == 0 and text.count("?") == text.count(":")
    assert not re.search(r"(?<![\w.])\d+\.\d+(?![\df])", text), "a literal without f is a double"
    assert ("at" in text) == (name == "uniform")


def in_python(text: str):
    """A ternary, comparison or arithmetic expression of C as a Python function of x0, x1, x2."""
    text = re.sub(r"(?<=\d)f\b", "", text).replace("||", " or ").replace("&&", " and ")

    def ternary(inner: str) -> str:
        depth = 0
        for at, character in enumerate(inner):
            depth += (character == "(") - (character == ")")
            if character == "?" and depth == 0:
                rest, level, nested = inner[at + 1:], 0, 0
                for colon, other in enumerate(rest):
                    level += (other == "(") - (other == ")")
                    nested += (other == "?") if level == 0 else 0
                    if other == ":" and level == 0:
                        if nested == 0:
                            return f"({ternary(rest[:colon])}) if ({inner[:at]}) else ({ternary(rest[colon + 1:])})"
                        nested -= 1
        if inner.strip().startswith("(") and inner.strip().endswith(")"):
            return f"({ternary(inner.strip()[1:-1])})"
        return inner

    names = {key: getattr(math, key) for key in ("exp", "log", "log1p", "sqrt", "tanh", "erf", "expm1", "pow")}
    return eval(f"lambda x0, x1=0.0, x2=0.0: {ternary(text)}", names)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "uniform"])
def test_c_and_numpy_compute_the_same(name):
    operands = {i: f"x{i}" for i in range(ARITY[name])}
    (line,), _ = to_c([call(name, *(arg(i) for i in operands))], operands, "i")
    function = in_python(line[len("const float v0 = "):-1])
    arrays = points(name, 40)
    expected = value(call(name, *(arg(i) for i in operands)), *arrays)
    got = [function(*map(float, row)) for row in zip(*arrays, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-12, err_msg=line)


@pytest.mark.parametrize("name", ["max", "min", "relu", "relu6", "leaky_relu", "clip", "abs", "sign", "add", "mul"])
def test_nan_comes_through(name):
    """A diverged model must not look healthy."""
    operands = {i: f"x{i}" for i in range(ARITY[name])}
    rest = [(1.0, 2.0)[i] for i in range(ARITY[name] - 1)]
    assert np.isnan(value(call(name, *(arg(i) for i in operands)), math.nan, *rest))
    (line,), _ = to_c([call(name, *(arg(i) for i in operands))], operands, "i")
    assert math.isnan(in_python(line[len("const float v0 = "):-1])(math.nan, *rest)), line


@pytest.mark.parametrize(("number", "text"), [(1.0, "1.0f"), (-2.5, "(-2.5f)"), (math.inf, "INFINITY"), (-math.inf, "-INFINITY"),
                                              (math.nan, "NAN"), (1e-30, "1.0000000031710769e-30f"),
                                              (0.1, "0.10000000149011612f")])
def test_number_in_c(number, text):
    assert c_number(number) == text


@settings(max_examples=100, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_in_c_are_exact(number):
    assert np.float32(float(c_number(number).strip("()f"))) == np.float32(number)


def test_shared_parts_are_computed_once_for_several_results():
    x = arg(0)
    shared = call("exp", x)
    lines, results = to_c([shared + 1.0, shared * shared], {0: "x"}, "i", prefix="t")
    assert len(lines) == 3 and len(set(results)) == 2 and all(name.startswith("t") for name in results)


def test_whole_numbers_stay_whole_numbers():
    label = np.array([3, 16777217], np.int32)
    assert evaluate([call("equal", arg(0), const(16777217.0))], [label], (2,))[0].tolist() == [0.0, 1.0]


def test_random_numbers_depend_on_the_logical_index_only():
    expr = call("uniform", arg(0), arg(1), const(7.0))
    (flat,) = evaluate([expr], [np.int32(5), np.int32(1)], (24,))
    (shaped,) = evaluate([expr], [np.int32(5), np.int32(1)], (2, 3, 4))
    np.testing.assert_array_equal(flat, shaped.ravel())
    assert ((flat >= 0) & (flat < 1)).all() and len(set(flat)) == 24
    (other,) = evaluate([expr], [np.int32(5), np.int32(2)], (24,))
    assert (other != flat).all()


def test_expressions_print_readably():
    assert str(call("max", arg(0) * 2.0, arg(30))) == "max(mul(a, 2), arg30)"
    assert str(div(arg(1), arg(0))) == "div(b, a)"
