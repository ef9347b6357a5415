"""Tails that a CPU's product computes by vectors, where 16 neighbours are finished together: the numbers of single elements."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from harness import build_together, check_close, run_offer

from clnn.codegen.expr import FUNCTIONS, arg, call, select
from clnn.codegen.template import render
from clnn.ir import NHWC, ROW, TensorSpec
from clnn.ops import Conv2d, Matmul
from clnn.ops.fused import Fused
from clnn.ops.pointwise import Map

#: how many arguments each function takes that is written without calls
VECTORS = {name: 1 + max(i for i in range(4) if f"{{{i}}}" in function.c) for name, function in FUNCTIONS.items()
           if not function.calls}


def with_tail(base, inputs, exprs, extra):
    tail = Map(exprs)
    return Fused(base, ((0, tail),), (len(extra),), len(inputs)), (*inputs, *extra)


def offer_of(op, inputs, target, layout=ROW, **config):
    """The offer of the packed product, and the specs in which it takes and makes images."""
    lowering = next(lowering for lowering in op.lowerings if lowering.name in ("packed", "implicit_gemm"))
    outputs = op.infer(*inputs)
    given, made = next((given, made) for given, made in lowering.layouts(op, inputs, outputs) if made[0] == given[0] == layout)
    inputs = tuple(spec.with_layout(lies) for spec, lies in zip(inputs, given, strict=True))
    outputs = tuple(spec.with_layout(lies) for spec, lies in zip(outputs, made, strict=True))
    return lowering.offer(op, inputs, outputs, target, config=config, forced=True), inputs, outputs


def check(op, inputs, session, by_vectors: bool, layout=ROW, positive: bool = False):
    offer, given, made = offer_of(op, inputs, session.target, layout)
    text = render(next(launch.kernel for launch in offer.launches if launch.kernel.template == "gemm/packed"))[1]
    assert ("c_loose" in text) == by_vectors
    rng = np.random.default_rng(3)
    draw = functools.partial(rng.uniform, 0.5, 1.5) if positive else functools.partial(rng.normal, 0.0, 1.0)
    arrays = [np.asarray(draw(spec.shape), np.float32) for spec in inputs]
    expected = op.reference(*(array.astype(np.float64) for array in arrays))
    for number, array in enumerate(run_offer(op, offer, arrays, given, made, session)):
        check_close(array, expected[number], 1e-5, f"{op} output {number}")


def test_signs_take_vectors_and_calls_do_not():
    assert {"add", "mul", "relu", "relu6", "clip", "select", "max", "abs"} <= VECTORS.keys()
    assert not {"exp", "sigmoid", "tanh", "sqrt", "rsqrt", "pow", "elu", "uniform"} & VECTORS.keys()


@pytest.mark.parametrize("function", sorted(VECTORS))
def test_every_function(function, device_session):
    """Over an element of each kind: the product's, one of an image of the same shape, one for a column, one for all."""
    inputs, extra = (TensorSpec((40, 24)), TensorSpec((24, 48))), (TensorSpec((40, 48)), TensorSpec((48,)), TensorSpec(()))
    count = VECTORS[function]
    exprs = tuple(call(function, *(arg((first + i) % 4) for i in range(count))) for first in range(4))
    op, specs = with_tail(Matmul(), inputs, exprs, extra)
    check(op, specs, device_session, True, positive=function == "div")


@pytest.mark.parametrize(("shape", "by_vectors"), [((40, 48), True), ((48,), True), ((1, 48), True), ((), True), ((40, 1), True)])
def test_operands_however_they_are_broadcast(shape, by_vectors, device_session):
    op, specs = with_tail(Matmul(), (TensorSpec((40, 24)), TensorSpec((24, 48))), (arg(0) + arg(1),), (TensorSpec(shape),))
    check(op, specs, device_session, by_vectors)


@pytest.mark.parametrize("layout", [ROW, NHWC])
@pytest.mark.parametrize("shape", [(2, 32, 8, 8), (32, 1, 1), (2, 32, 1, 1), (1, 1, 8, 8), (2, 1, 1, 8)])
def test_images(shape, layout, device_session):
    """Runs of an image's pixels, or of its channels, with whatever is the same along them or goes along."""
    base, inputs = Conv2d(), (TensorSpec((2, 16, 8, 8)), TensorSpec((32, 16, 1, 1)))
    op, specs = with_tail(base, inputs, (select(call("greater", arg(1), arg(0)), arg(1) * 2.0, arg(0)),), (TensorSpec(shape),))
    along = shape != (2, 1, 1, 8) if layout == ROW else True        # 8 that begin anew are no run of 16
    check(op, specs, device_session, along, layout)


@pytest.mark.parametrize("columns", [7, 16, 23, 33, 80])
def test_calls_and_ragged_columns(columns, device_session):
    inputs, extra = (TensorSpec((13, 9)), TensorSpec((9, columns))), (TensorSpec((columns,)),)
    for expr, simple in ((call("exp", arg(0)) + arg(1), False), (call("relu", arg(0) + arg(1)), True)):
        op, specs = with_tail(Matmul(), inputs, (expr,), extra)
        check(op, specs, device_session, simple and columns >= 16)


def test_low_blocks_end_a_tile(device_session):
    """Rows that no whole block takes are multiplied by lower ones, each row once, wherever tiles and pieces of them end."""
    cases = [(m, {}) for m in range(1, 27)] + [(128, {}), (130, {}), (98, {"MC": 132, "MB": 96}), (104, {"MC": 132, "MB": 48}),
                                               (61, {"MC": 24, "MB": 24}), (128, {"MC": 132, "MB": 96, "KC": 8})]
    ready = []
    for m, config in cases:
        tail = Map((arg(1) + arg(0),))
        op, specs = with_tail(Matmul(), (TensorSpec((m, 20)), TensorSpec((20, 48))), tail.exprs, (TensorSpec((m, 48)),))
        ready.append((op, specs, *offer_of(op, specs, device_session.target, MR=6, NV=1, **config)))
    build_together([offer for _, _, offer, _, _ in ready], device_session)
    assert sum("down == 4" in render(offer.launches[-1].kernel)[1] for _, _, offer, _, _ in ready) >= 15
    rng = np.random.default_rng(4)
    for op, specs, offer, given, made in ready:
        arrays = [rng.standard_normal(spec.shape).astype(np.float32) for spec in specs]
        expected = op.reference(*(array.astype(np.float64) for array in arrays))
        check_close(run_offer(op, offer, arrays, given, made, device_session)[0], expected[0], 1e-5, str(specs[0].shape))
