"""Neighbours that an item of a pointwise kernel computes together: they share draws of random numbers and loads of operands."""

from __future__ import annotations

import pytest

from clnn.codegen.expr import add, arg, call, const, select
from clnn.codegen.template import render
from clnn.ir import NHWC, ROW, TensorSpec
from clnn.ops import Map
from clnn.target import GENERIC_CPU, GENERIC_GPU

DROPOUT = select(call("less", call("uniform", arg(1), arg(2), const(1)), const(0.5)), const(0.0), arg(0))


def kernel(expr, image: TensorSpec, others: tuple[TensorSpec, ...], target=GENERIC_GPU, config=None):
    op = Map((expr,))
    (launch,) = op.lowerings[0].offer(op, (image, *others), (image,), target, config, forced=True).launches
    return launch.kernel


@pytest.mark.parametrize("shape, layout, target, vector", [
    ((64, 4096), ROW, GENERIC_GPU, 4),
    ((8, 16, 28, 28), ROW, GENERIC_GPU, 4),
    ((8, 16, 28, 28), NHWC, GENERIC_GPU, 1),        # neighbours in memory are none by number, so they share no draw
    ((64, 4096), ROW, GENERIC_CPU, 1),
], ids=str)
def test_a_draw_is_shared_where_numbers_are_neighbours(shape, layout, target, vector):
    image, number = TensorSpec(shape, layout=layout), TensorSpec((), "int32")
    assert vector == kernel(DROPOUT, image, (number, number), target).t.VECTOR


def test_what_draws_nothing_has_no_vectors():
    image = TensorSpec((64, 4096))
    assert kernel(add(arg(0), arg(1)), image, (image,)).t.VECTOR == 1


def test_operands_of_the_results_shape_are_loaded_by_vectors():
    image, channel = TensorSpec((8, 16, 28, 28)), TensorSpec((16, 1, 1))
    _, text = render(kernel(add(arg(0), arg(1)), image, (channel,), config={"VECTOR": 4}))
    assert text.count("*(__global const float4*)(y_in0 + y0_i)") == 1 and "y_in0[" not in text
    assert text.count("y_in1[") == 4
