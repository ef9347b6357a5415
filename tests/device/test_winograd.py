"""Winograd and depthwise convolutions: their error beside that of a direct sum, other configurations, refusals, fused tails."""

from __future__ import annotations

import numpy as np
import pytest
from builds import quick_builds
from harness import run_offer

import clnn
from clnn import ops
from clnn.config import config
from clnn.errors import LoweringError
from clnn.ir import NHWC, ROW, TensorSpec
from clnn.ops.conv import Conv2d, Conv2dDgrad, Conv2dWgrad
from clnn.ops.winograd import transforms

DIRECTIONS = (Conv2d, Conv2dDgrad, Conv2dWgrad)
#: root mean square errors may be this many times those of implicit_gemm, or of rounding the result if that is more, by the filter
FACTOR, FLOOR = {3: {"f2": 1.5, "f4": 4.0}, 5: {"f2": 4.0, "f4": 12.0}}, 1.2e-7
#: what a device with another work distribution than this one's may choose
OTHER = {"VECTOR": 1, "ACROSS": 1, "GROUP": 64, "CHUNK": 1, "LANES": 64, "CHANNELS": 2, "ROWS": 2}


def case(direction, x, w, **attributes):
    """(op, input specs, output specs) of one direction of a convolution."""
    forward = Conv2d(**attributes)
    x, w = TensorSpec(x), TensorSpec(w)
    y = forward.infer(x, w)[0]
    if direction is Conv2d:
        op, inputs = forward, (x, w)
    elif direction is Conv2dDgrad:
        op, inputs = Conv2dDgrad(**attributes, size=x.shape[2:]), (y, w)
    else:
        op, inputs = Conv2dWgrad(**attributes, window=w.shape[2:], row_sum=True), (x, y)
    return op, inputs, op.infer(*inputs)


def in_layout(op, inputs, outputs, layout):
    """The specs with all images in ``layout``."""
    if isinstance(op, Conv2dWgrad):
        return tuple(s.with_layout(layout) for s in inputs), outputs
    return (inputs[0].with_layout(layout), inputs[1]), (outputs[0].with_layout(layout),)


def offered(op, name, inputs, outputs, target, **more):
    lowering = next(lowering for lowering in op.lowerings if lowering.name == name)
    return lowering.offer(op, inputs, outputs, target, **more)


def compute(op, name, inputs, outputs, arrays, session, conf=None):
    offer = offered(op, name, inputs, outputs, session.target, config=conf, forced=True)
    return run_offer(op, offer, arrays, inputs, outputs, session)


def normal(specs, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(spec.shape).astype(np.float32) for spec in specs]


def rms(got, expected) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2)) / np.sqrt(np.mean(expected ** 2)))


@pytest.mark.parametrize(("results", "taps"), [(2, 3), (4, 3), (3, 2), (3, 4), (2, 5), (4, 5), (5, 2), (5, 4)])
def test_transforms_are_a_convolution(results, taps):
    at, g, bt = (np.array(m) for m in transforms(results, taps))
    rng = np.random.default_rng(1)
    image, taps_of = rng.standard_normal(results + taps - 1), rng.standard_normal(taps)
    expected = [np.dot(image[i:i + taps], taps_of) for i in range(results)]
    np.testing.assert_allclose(at @ ((g @ taps_of) * (bt @ image)), expected, rtol=0, atol=1e-6)
    for exact in (at, bt):
        assert np.array_equal(exact, exact.astype(np.float32))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("side", "channels"), [(3, 16), (3, 64), (3, 256), (5, 64)])
def test_error_beside_a_direct_sum(direction, side, channels, device_session):
    op, inputs, outputs = case(direction, (2, channels, 14, 14), (32, channels, side, side), padding=(side // 2,) * 4)
    arrays = normal(inputs)
    expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
    plain = max(rms(compute(op, "implicit_gemm", inputs, outputs, arrays, device_session)[0], expected), FLOOR)
    for knob, factor in FACTOR[side].items():
        with config.override(winograd=knob):
            error = rms(compute(op, "winograd", inputs, outputs, arrays, device_session)[0], expected)
        assert error <= factor * plain, f"{knob}: {error:.2e}, a direct sum {plain:.2e}"


@pytest.mark.parametrize("layout", [ROW, NHWC], ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [((2, 64, 28, 28), (64, 64, 3, 3), (1, 1, 1, 1)), ((2, 48, 7, 9), (40, 48, 3, 3), (1, 1, 1, 1)),
                                   ((1, 33, 10, 6), (18, 33, 3, 3), (0, 2, 3, 1)),
                                   ((1, 20, 11, 14), (33, 20, 5, 5), (0, 3, 4, 1))])
def test_against_torch(shape, direction, layout, device_session):
    torch = pytest.importorskip("torch")
    x, w, padding = shape
    op, inputs, outputs = case(direction, x, w, padding=padding)
    arrays = normal(inputs, seed=3)
    a, b = (torch.from_numpy(v).double() for v in arrays)
    top, bottom, left, right = padding
    crop = (slice(None), slice(None), slice(top, top + x[2]), slice(left, left + x[3]))
    padded = (x[0], x[1], x[2] + top + bottom, x[3] + left + right)
    if direction is Conv2d:
        expected = torch.nn.functional.conv2d(torch.nn.functional.pad(a, (left, right, top, bottom)), b)
    elif direction is Conv2dDgrad:
        expected = torch.nn.grad.conv2d_input(padded, b, a)[crop]
    else:
        expected = torch.nn.grad.conv2d_weight(torch.nn.functional.pad(a, (left, right, top, bottom)), w, b)
    inputs, outputs = in_layout(op, inputs, outputs, layout)
    for conf in (None, OTHER, {"tile": 2}):
        got = compute(op, "winograd", inputs, outputs, arrays, device_session, conf)[0]
        assert rms(got, expected.numpy()) < (3e-6 if w[2] == 3 else 6e-6)


@pytest.mark.parametrize("layout", [ROW, NHWC], ids=str)
@pytest.mark.parametrize("direction", [Conv2d, Conv2dDgrad])
@pytest.mark.parametrize("shape", [((2, 64, 28, 28), (64, 64, 3, 3), (1, 1, 1, 1)),
                                   ((1, 16, 11, 5), (48, 16, 3, 3), (0, 2, 3, 1)),
                                   ((3, 80, 7, 9), (32, 80, 3, 3), (1, 1, 1, 1)),
                                   ((2, 32, 11, 14), (16, 32, 5, 5), (2, 2, 2, 2))])
def test_blocks_agree_with_three_kernels(shape, direction, layout, device_session):
    """What an item makes of its tiles is added up in the same order, however many tiles it takes."""
    if not device_session.target.is_cpu:
        pytest.skip("is made for the second cache of CPUs")
    x, w, padding = shape
    op, inputs, outputs = case(direction, x, w, padding=padding)
    arrays = normal(inputs, seed=7)
    expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
    inputs, outputs = in_layout(op, inputs, outputs, layout)
    for tile in (4, 2):
        apart = compute(op, "winograd", inputs, outputs, arrays, device_session, {"tile": tile})[0]
        for conf in ({}, {"MR": 4, "TILES": 12}, {"MR": 6, "TILES": 6, "panel": 16}):
            got = compute(op, "winograd_blocks", inputs, outputs, arrays, device_session, conf | {"tile": tile})[0]
            assert rms(got, expected) < (3e-6 if w[2] == 3 else 6e-6)
            assert rms(got, apart) < 1e-7


@pytest.mark.parametrize("direction", [Conv2d, Conv2dDgrad])
@pytest.mark.parametrize("shape", [((2, 64, 28, 28), (64, 64, 3, 3), (1, 1, 1, 1)),
                                   ((1, 32, 11, 5), (96, 32, 3, 3), (0, 2, 3, 1)),
                                   ((3, 96, 7, 9), (32, 96, 3, 3), (1, 1, 1, 1)),
                                   ((1, 64, 12, 12), (64, 64, 3, 3), (0, 0, 0, 0))])
def test_fused_tiles(shape, direction, device_session):
    """One kernel for GPUs, however it is shared out; edges that no tile fits, channels that fill half a work-group's."""
    x, w, padding = shape
    op, inputs, outputs = case(direction, x, w, padding=padding)
    arrays = normal(inputs, seed=8)
    expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
    with config.override(winograd="f2"):
        apart = compute(op, "winograd", inputs, outputs, arrays, device_session)[0]
    for conf in (None, {"OUTS": 32, "STAGES": 1, "DEPTH": 8}, {"SHARE": 1, "TK": 16, "UNROLL": 1}, {"OUTS": 32, "TT": 4},
                 {"SHARE": 4, "OUTS": 32, "TILES": 16, "DEPTH": 4, "STAGES": 1, "TK": 4, "TT": 4}):
        got = compute(op, "winograd_fused", inputs, outputs, arrays, device_session, conf)[0]
        assert rms(got, expected) <= 1.5 * max(rms(apart, expected), FLOOR)


@pytest.mark.parametrize("layout", [ROW, NHWC], ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [((2, 32, 28, 30), (32, 1, 3, 3), 1, 1), ((3, 16, 15, 40), (16, 1, 3, 3), 2, 1),
                                   ((2, 5, 13, 19), (10, 1, 5, 4), 2, 2), ((1, 3, 9, 9), (3, 1, 7, 7), 1, 3)])
def test_depthwise_in_other_configurations(shape, direction, layout, device_session):
    x, w, stride, pad = shape
    op, inputs, outputs = case(direction, x, w, stride=(stride, stride), padding=(pad,) * 4, groups=x[1])
    arrays = normal(inputs, seed=5)
    expected = op.reference(*(a.astype(np.float64) for a in arrays))
    inputs, outputs = in_layout(op, inputs, outputs, layout)
    fits = layout == NHWC and x[1] == w[0] and x[1] % 4 == 0 and direction is not Conv2dWgrad
    for conf in (None, OTHER, {"parts": 2}, *([{"ACROSS": 4, "ROWS": 3, "COLS": 3, "GROUP": 1, "CHUNK": 3}] if fits else [])):
        with quick_builds(device_session.target, conf):
            computed = compute(op, "depthwise", inputs, outputs, arrays, device_session, conf)
        for got, wanted in zip(computed, expected, strict=True):
            assert rms(got, wanted) < 1e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_runs_give_the_same_bits(direction, device_session):
    cases = [("winograd", (24, 20, 3, 3), 1), ("depthwise", (20, 1, 3, 3), 20)]
    if device_session.target.is_cpu and direction is not Conv2dWgrad:
        cases.append(("winograd_blocks", (32, 16, 3, 3), 1))
    if direction is not Conv2dWgrad:
        cases.append(("winograd_fused", (32, 32, 3, 3), 1))
    for name, w, groups in cases:
        op, inputs, outputs = case(direction, (2, w[1] * groups, 12, 12), w, padding=(1, 1, 1, 1), groups=groups)
        arrays = normal(inputs)
        first, second = (compute(op, name, inputs, outputs, arrays, device_session) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def refusal(op, name, inputs, outputs, target, **more) -> str:
    with pytest.raises(LoweringError) as error:
        offered(op, name, inputs, outputs, target, **more)
    return error.value.what


def test_refusals_say_why(device_session):
    target = device_session.target
    assert "stride" in refusal(*_named("winograd", (1, 32, 16, 16), (32, 32, 3, 3), stride=(2, 2)), target, forced=True)
    assert "5×5" in refusal(*_named("winograd", (1, 32, 16, 16), (32, 32, 7, 7)), target, forced=True)
    assert "channels" in refusal(*_named("winograd", (1, 3, 32, 32), (64, 3, 3, 3), padding=(1, 1, 1, 1)), target)
    assert "tiles do not pay" in refusal(*_named("winograd", (1, 64, 8, 8), (64, 64, 3, 3), padding=(1, 1, 1, 1)), target)
    assert "hang too far" in refusal(*_named("winograd", (512, 64, 1, 4), (64, 64, 3, 3), padding=(1, 1, 1, 1)), target)
    assert "one channel" in refusal(*_named("depthwise", (1, 4, 8, 8), (4, 2, 3, 3), groups=2), target, forced=True)
    assert "16 channels" in refusal(*_named("winograd_blocks", (1, 24, 16, 16), (32, 24, 3, 3)), target, forced=True)
    assert "second cache" in refusal(*_named("winograd_blocks", (4, 8192, 16, 16), (32, 8192, 3, 3)), target, forced=True)
    assert "for 3×3" in refusal(*_named("winograd_fused", (1, 32, 16, 16), (32, 32, 5, 5)), target, forced=True)
    assert "makes them by 32" in refusal(*_named("winograd_fused", (1, 32, 16, 16), (48, 32, 3, 3)), target, forced=True)
    with config.override(winograd="f4"):
        assert "larger tiles" in refusal(*_named("winograd_fused", (1, 32, 16, 16), (32, 32, 3, 3)), target, forced=True)
    large = _named("winograd", (16, 64, 32, 32), (64, 64, 3, 3), padding=(1, 1, 1, 1))
    with config.override(winograd="off"):
        assert "CLNN_WINOGRAD" in refusal(*large, target, forced=True)
    with config.override(workspace=1):
        assert "CLNN_WORKSPACE_MB" in refusal(*large, target, forced=True)


def _named(name, x, w, **attributes):
    op, inputs, outputs = case(Conv2d, x, w, **attributes)
    return op, name, inputs, outputs


@pytest.mark.parametrize(("name", "w", "groups"), [("winograd", (24, 20, 3, 3), 1), ("winograd_blocks", (32, 16, 3, 3), 1),
                                                   ("winograd_fused", (32, 32, 3, 3), 1), ("depthwise", (20, 1, 3, 3), 20)])
def test_tails_are_fused(name, w, groups, device):
    x, weights, bias, residual = normal([TensorSpec(s) for s in ((2, w[1] * groups, 11, 13), w, w[:1], (2, w[0], 11, 13))])

    def network(x, weights, bias, residual):
        return ops.relu(ops.add(ops.conv2d(x, weights, bias, padding=1, groups=groups), residual))

    def by(lowering):
        with config.override(lowering={"Conv2d": lowering, "Conv2dDgrad": lowering, "Conv2dWgrad": lowering}):
            output, gradients = clnn.vjp(network, x, weights, bias, residual, device=device)
        return [output, *gradients]

    for got, expected in zip(by(name), by("direct"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("side", [1, 3])
def test_tails_follow_gradients_of_several_products(side, device):
    x, weights = normal([TensorSpec((2, 12, 11, 13)), TensorSpec((16, 12, side, side))])

    def network(x, weights):
        return ops.conv2d(ops.relu(x), weights, stride=2, padding=side // 2)

    def by(lowering):
        with config.override(lowering={"Conv2dDgrad": lowering}):
            return clnn.vjp(network, x, weights, device=device)[1]

    for got, expected in zip(by("implicit_gemm"), by("direct"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
