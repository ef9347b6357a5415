"""Pooling without a device: shape rules, references and error texts, beside PyTorch's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clnn import ops
from clnn.codegen.windows import axes_of
from clnn.errors import ArgumentError, DTypeError, ShapeError
from clnn.ir import NHWC, Graph, TensorSpec, blocked
from clnn.ops import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from clnn.ops.pool import window_count


def image(shape=(2, 3, 8, 9), dtype="float32"):
    return Graph().input(TensorSpec(shape, dtype), "x")


def settings(seed: int, count: int):
    """Random window settings, most of which PyTorch accepts."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
        stride = tuple(int(s) for s in rng.integers(1, 5, 2))
        padding = tuple(int(rng.integers(0, k // 2 + 1 + (rng.random() < 0.1))) for k in kernel)
        dilation = tuple(int(d) for d in rng.choice([1, 1, 2, 3], 2))
        size = tuple(int(n) for n in rng.integers(1, 14, 2))
        yield size, kernel, stride, padding, dilation, bool(rng.random() < 0.5)


def test_output_shapes_are_those_of_torch():
    torch = pytest.importorskip("torch")
    accepted = 0
    for size, kernel, stride, padding, dilation, ceil_mode in settings(0, 400):
        maximum, average = (kernel, stride, padding, dilation, ceil_mode), (kernel, stride, padding, ceil_mode)
        for name, arguments in (("max_pool2d", maximum), ("avg_pool2d", average)):
            try:
                expected = tuple(getattr(torch.nn.functional, name)(torch.zeros(1, 2, *size), *arguments).shape)
            except RuntimeError:
                with pytest.raises((ShapeError, ArgumentError)):
                    getattr(ops, name)(image((1, 2, *size)), *arguments)
                continue
            assert getattr(ops, name)(image((1, 2, *size)), *arguments).shape == expected, (name, size, arguments)
            accepted += 1
    assert accepted > 300


def test_references_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for size, kernel, stride, padding, dilation, ceil_mode in settings(2, 120):
        x = rng.standard_normal((2, 3, *size))
        try:
            expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), kernel, stride, padding, dilation, ceil_mode)
        except RuntimeError:
            continue
        y, _ = MaxPool2d(kernel, stride, padding, dilation, ceil_mode).reference(x)
        np.testing.assert_array_equal(y, expected.numpy())
        for include, override in itertools.product((True, False), (None, 3)):
            try:
                expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), kernel, stride, padding, ceil_mode, include,
                                                          override)
            except RuntimeError:
                continue
            (y,) = AvgPool2d(kernel, stride, padding, ceil_mode, include, override).reference(x)
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12, atol=1e-12)
        wanted = tuple(int(n) for n in rng.integers(1, 9, 2))
        (y,) = AdaptiveAvgPool2d(wanted).reference(x)
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), wanted)
        np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("values", "ceil_mode", "count"), [
    ((224, 3, 2, 1), False, 112), ((112, 3, 2, 0), True, 56), ((6, 3, 2, 0), True, 3), ((5, 2, 2, 1), True, 3),
    ((4, 5, 2, 0), True, 1), ((3, 5, 1, 0), False, -1)])
def test_window_count(values, ceil_mode, count):
    assert window_count(*values, ceil_mode=ceil_mode) == count


def test_index_type_follows_the_window():
    x = TensorSpec((1, 1, 32, 32))
    assert [spec.dtype for spec in MaxPool2d((15, 17), (1, 1)).infer(x)] == ["float32", "uint8"]
    assert [spec.dtype for spec in MaxPool2d((16, 16), (1, 1)).infer(x)] == ["float32", "int32"]


def test_unused_index_can_be_dropped():
    op = MaxPool2d((2, 2), (2, 2))
    smaller = op.without_outputs({1})
    assert len(smaller.infer(TensorSpec((1, 1, 4, 4)))) == 1
    assert op.without_outputs({0}) is None
    assert smaller.without_outputs({1}) is None


def test_first_maximum_wins_and_nan_stays():
    x = np.array([[1.0, 3.0, np.nan, 0.0], [3.0, 3.0, 5.0, np.nan]]).reshape(1, 1, 2, 4)
    y, index = MaxPool2d((2, 2), (2, 2)).reference(x)
    assert y[0, 0, 0, 0] == 3 and np.isnan(y[0, 0, 0, 1])
    assert index.reshape(-1).tolist() == [1, 0]


def test_adaptive_takes_the_simplest_way():
    def kind(size):
        return ops.adaptive_avg_pool2d(image((2, 3, 8, 12)), size)

    assert kind((None, 12)).kind == "input"
    assert kind(1).node.op.name == "Reduce" and kind(1).shape == (2, 3, 1, 1)
    assert kind((4, None)).node.op == AvgPool2d((2, 1), (2, 1))
    assert kind((3, 5)).node.op == AdaptiveAvgPool2d((3, 5))
    assert ops.global_avg_pool2d(image()).shape == (2, 3, 1, 1)


@pytest.mark.parametrize(("call", "error", "parts"), [
    (lambda: ops.max_pool2d(image((3, 8, 8)), 2), ShapeError,
     ["max_pool2d: needs a batch of images", "(3, 8, 8)", "(N, C, H, W)"]),
    (lambda: ops.max_pool2d(image((2, 3, 4, 9)), 5), ShapeError,
     ["larger than the padded image", "5x5", "at most 4x9", "smaller window"]),
    (lambda: ops.max_pool2d(image(), 3, dilation=5), ShapeError, ["larger than the padded image", "11x11"]),
    (lambda: ops.max_pool2d(image(), 3, padding=2), ArgumentError,
     ["max_pool2d, padding", "wider than half the window", "2 along the height", "at most 1 for a window of 3", "ops.pad"]),
    (lambda: ops.max_pool2d(image(), 2, stride=0), ArgumentError, ["max_pool2d, stride", "0", "each at least 1"]),
    (lambda: ops.max_pool2d(image(), 2, padding=-1), ArgumentError, ["max_pool2d, padding", "-1", "each at least 0"]),
    (lambda: ops.max_pool2d(image(), (2, 2, 2)), ArgumentError, ["max_pool2d, kernel_size", "(2, 2, 2)"]),
    (lambda: ops.max_pool2d(image(dtype="int32"), 2), DTypeError, ["max_pool2d", "int32", "float32"]),
    (lambda: ops.avg_pool2d(image(), (2, 5), padding=(0, 3)), ArgumentError, ["avg_pool2d, padding", "3 along the width"]),
    (lambda: ops.avg_pool2d(image(), 2, divisor_override=0), ArgumentError,
     ["avg_pool2d, divisor_override", "0", "other than 0"]),
    (lambda: ops.adaptive_avg_pool2d(image(), 0), ArgumentError, ["adaptive_avg_pool2d, output_size", "each at least 1"]),
    (lambda: ops.adaptive_avg_pool2d(image(), (1, 2, 3)), ArgumentError, ["adaptive_avg_pool2d, output_size", "(1, 2, 3)"]),
    (lambda: ops.adaptive_avg_pool2d(image((8, 8)), 2), ShapeError, ["adaptive_avg_pool2d", "(8, 8)"]),
])
def test_errors_speak(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_axes_lie_as_the_layout_says():
    spec = TensorSpec((2, 16, 3, 5))
    assert [tuple(axis) for axis in axes_of(spec.with_layout(NHWC))] == [("n", 2, 240), ("h", 3, 80), ("w", 5, 16), ("c", 16, 1)]
    assert [axis.name for axis in axes_of(spec.with_layout(blocked(8)), "ncpq")] == ["n", "c", "p", "q", "b"]
    assert [axis.stride for axis in axes_of(spec.with_layout(blocked(8)))] == [240, 120, 40, 8, 1]


def test_samples_render_for_gpus_and_cpus():
    from clnn.codegen.template import render
    from clnn.target import GENERIC_CPU, GENERIC_GPU

    for operator in (MaxPool2d, AvgPool2d, AdaptiveAvgPool2d):
        for sample in operator.samples():
            outputs = sample.op.infer(*sample.inputs)
            for target in (GENERIC_CPU, GENERIC_GPU):
                (launch,) = sample.op.lowerings[0].offer(sample.op, sample.inputs, outputs, target).launches
                _, text = render(launch.kernel)
                assert text.count("{") == text.count("}")
                assert not any(builtin in text for builtin in ("fmax", "fmin", "min(", "max("))


def test_a_tail_fuses_into_the_first_output():
    from clnn.codegen.expr import arg, call
    from clnn.codegen.lowering import Tail, attach_tails
    from clnn.codegen.template import render
    from clnn.target import GENERIC_CPU

    op, x, bias = MaxPool2d((3, 3), (2, 2), (1, 1)), TensorSpec((2, 4, 9, 9)), TensorSpec((4, 1, 1))
    outputs = op.infer(x)
    tail = Tail((call("relu", arg(0) + arg(1)),), (bias,), outputs[:1])
    offer = attach_tails(op.lowerings[0].offer(op, (x,), outputs, GENERIC_CPU), {0: tail}, 1, 2)
    _, text = render(offer.launches[0].kernel)
    assert "y_in0[" in text and "index_out0[" in text
