"""What only GPUs choose, run on whatever device there is: as if it were a GPU, kernels and their choices are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builds import quick_builds
from harness import cases, check_close, run_offer

import clnn
from clnn import nn, optim
from clnn.ir import Sample, TensorSpec
from clnn.ops import Conv2d, Conv2dDgrad, Conv2dWgrad, Matmul, MaxPool2d, MaxPool2dGrad

TOLERANCE = 2e-5
#: stride, padding, dilation, groups, image, filters
DEPTHWISE = [
    ((1, 1), (1, 1, 1, 1), (1, 1), 6, (3, 6, 12, 16), (6, 1, 3, 3)),
    ((2, 2), (1, 1, 1, 1), (1, 1), 6, (3, 6, 12, 16), (12, 1, 3, 3)),
    ((2, 2), (0, 1, 0, 1), (1, 1), 4, (2, 4, 28, 28), (8, 1, 3, 3)),
    ((1, 1), (2, 2, 2, 2), (2, 2), 3, (2, 3, 30, 14), (3, 1, 3, 3)),
    ((1, 1), (2, 2, 2, 2), (1, 1), 4, (2, 4, 28, 28), (4, 1, 5, 5)),
    ((3, 3), (1, 1, 1, 1), (1, 1), 4, (2, 4, 12, 12), (4, 1, 3, 3)),
    ((1, 1), (1, 1, 1, 1), (1, 1), 3, (2, 3, 7, 7), (3, 1, 3, 3)),
]
NARROW = [
    ((1, 1), (1, 1, 1, 1), (1, 1), 1, (2, 3, 40, 36), (20, 3, 3, 3)),
    ((2, 2), (3, 3, 3, 3), (1, 1), 1, (2, 3, 37, 40), (9, 3, 7, 7)),
    ((4, 4), (2, 2, 2, 2), (1, 1), 1, (1, 3, 43, 43), (8, 3, 11, 11)),
    ((1, 1), (1, 1, 1, 1), (1, 1), 1, (2, 17, 20, 24), (3, 17, 3, 3)),
    ((1, 1), (1, 1, 1, 1), (1, 1), 4, (2, 16, 14, 14), (32, 4, 3, 3)),
    ((2, 2), (1, 1, 1, 1), (1, 1), 2, (2, 10, 15, 16), (12, 5, 3, 3)),
]
PRODUCTS = [(64, 132, 40), (100, 36, 700), (1, 520, 2100), (3, 40, 1500), (700, 2, 1030), (1, 1, 5000)]


@pytest.fixture(scope="module")
def gpu(device_session):
    """A target that makes lowerings choose kernels for GPUs."""
    target = device_session.target
    return replace(target, kind="gpu", compute_units=16, local_memory=min(target.local_memory, 48 << 10))


@pytest.fixture(scope="module", autouse=True)
def built_quickly(device):
    """CPUs need not optimise what is made for GPUs."""
    with quick_builds(device.facts):
        yield


def directions(stride, padding, dilation, groups, image, filters):
    op, x, w = Conv2d(stride, padding, dilation, groups), TensorSpec(image), TensorSpec(filters)
    y = op.infer(x, w)[0]
    yield Sample(op, (x, w))
    yield Sample(Conv2dDgrad(**op.attributes(), size=image[2:]), (y, w))
    yield Sample(Conv2dWgrad(**op.attributes(), window=filters[2:], row_sum=True), (x, y))


def check(sample: Sample, lowering: str, gpu, session, config=None) -> None:
    arrays = sample.arrays()
    expected = sample.op.reference(*(a.astype(np.float64) for a in arrays))
    ran = 0
    for found, inputs, outputs in cases(sample):
        if found.name != lowering:
            continue
        offer = found.offer(sample.op, inputs, outputs, gpu, config=config, forced=True)
        got = run_offer(sample.op, offer, arrays, inputs, outputs, session)
        for number, (g, e) in enumerate(zip(got, expected, strict=True)):
            check_close(g, e, TOLERANCE, f"{sample} by {[launch.kernel.label for launch in offer.launches]}, output {number}")
        ran += 1
    assert ran


@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
@pytest.mark.parametrize("config", [{}, {"COLS": 2, "LANES": 8, "VECTOR": 2, "ROWS": 2, "CHANNELS": 1, "GROUP": 64}],
                         ids=["chosen", "other"])
def test_depthwise(case, config, gpu, device_session):
    for sample in directions(*case):
        layouts = config and [(inputs, outputs) for found, inputs, outputs in cases(sample) if found.name == "depthwise"]
        if layouts:     # columns lie side by side in the first layout only
            inputs, outputs = layouts[0]
            lowering = next(found for found in sample.op.lowerings if found.name == "depthwise")
            offer = lowering.offer(sample.op, inputs, outputs, gpu, config=config, forced=True)
            arrays = sample.arrays()
            expected = sample.op.reference(*(a.astype(np.float64) for a in arrays))
            for g, e in zip(run_offer(sample.op, offer, arrays, inputs, outputs, device_session), expected, strict=True):
                check_close(g, e, TOLERANCE, f"{sample} with {config}")
        else:
            check(sample, "depthwise", gpu, device_session)


@pytest.mark.parametrize("case", NARROW, ids=str)
def test_strips(case, gpu, device_session):
    for sample in directions(*case):
        check(sample, "strips", gpu, device_session)


@pytest.mark.parametrize("case", NARROW[:2] + NARROW[3:5], ids=str)
def test_tiled_products_of_windows(case, gpu, device_session):
    for sample in directions(*case):
        check(sample, "implicit_gemm", gpu, device_session)


@pytest.mark.parametrize("sizes", PRODUCTS, ids=str)
@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
def test_products(sizes, form, gpu, device_session):
    (m, n, k), ta, tb = sizes, form[0] == "T", form[1] == "T"
    sample = Sample(Matmul(ta, tb), (TensorSpec((k, m) if ta else (m, k)), TensorSpec((n, k) if tb else (k, n))))
    check(sample, "tiled", gpu, device_session)
    if min(m, n) <= 4:
        check(sample, "vector", gpu, device_session)
        check(sample, "vector", gpu, device_session, {"splits": 2, "SHARE": 4, "GROUP": 32})


def test_a_network_trains_as_on_a_cpu(gpu, device, device_session, monkeypatch):
    """Strips, depthwise, tiled products, vectors that leave with tails, and the weight gradients beside them."""
    def run() -> tuple[list[float], set[str]]:
        with nn.seeded(0):
            model = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
                nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=8), nn.ReLU(),
                nn.Flatten(), nn.Linear(32 * 8 * 8, 12),
            )
        rng = np.random.default_rng(3)
        x = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
        step = clnn.compile(model, x.shape, loss="cross_entropy", optimizer=optim.SGD(0.01, momentum=0.9), device=device)
        target = np.arange(4, dtype=np.int32)
        losses = [float(step.run(x, target)[0]) for _ in range(4)]
        return losses, {node.lowering for node in step.graph.nodes if node.lowering}

    monkeypatch.setattr(device_session, "target", gpu)
    ours, used = run()
    monkeypatch.undo()
    theirs, _ = run()
    if device_session.target.is_cpu:        # by estimate; real GPUs may know better for images this small
        assert {"strips", "depthwise", "tiled"} <= used
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 3, 9, 13)], ids=str)
@pytest.mark.parametrize("across", [2, 4])
def test_neighbouring_windows_of_max_pooling(shape, across, gpu, device_session):
    """An item that computes several finds what one for each window finds, to the bit, and the first of equal elements."""
    rng = np.random.default_rng(7)
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < 0.3] = -np.inf
    x[rng.random(shape) < 0.02] = np.nan
    op, spec = MaxPool2d((3, 3), (2, 2), (1, 1)), TensorSpec(shape)
    outputs = op.infer(spec)
    (lowering,) = op.lowerings

    def run(config):
        offer = lowering.offer(op, (spec,), outputs, gpu, config={"GROUP": 64, "CHUNK": 2} | config, forced=True)
        return run_offer(op, offer, [x], (spec,), outputs, device_session)

    for got, expected in zip(run({"ACROSS": across}), run({"ACROSS": 1}), strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(run({"ACROSS": across}), op.reference(x), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("case", [((3, 3), (2, 2), (1, 1), (2, 3, 16, 16)), ((3, 3), (2, 2), (0, 0), (2, 3, 15, 15)),
                                  ((3, 2), (2, 3), (1, 0), (2, 3, 9, 13)), ((2, 2), (2, 2), (0, 0), (2, 3, 8, 8)),
                                  ((3, 3), (1, 1), (1, 1), (2, 3, 6, 10))], ids=str)
@pytest.mark.parametrize("strides", [1, 2])
def test_blocks_of_the_gradient_of_max_pooling(case, strides, gpu, device_session):
    """An item that computes several pixels adds up what one for each pixel does, in the same order."""
    kernel, stride, padding, shape = case
    y, index = MaxPool2d(kernel, stride, padding).infer(TensorSpec(shape))
    op = MaxPool2dGrad(shape[2:], kernel, stride, padding)
    outputs = op.infer(y, index)
    rng = np.random.default_rng(8)
    given = [rng.standard_normal(y.shape, np.float32), rng.integers(0, kernel[0] * kernel[1], y.shape, np.uint8)]
    (lowering,) = op.lowerings

    def run(config):
        offer = lowering.offer(op, (y, index), outputs, gpu, config={"GROUP": 64, "CHUNK": 2} | config, forced=True)
        return run_offer(op, offer, given, (y, index), outputs, device_session)[0]

    together = run({"STRIDES": strides})
    np.testing.assert_array_equal(together, run({"STRIDES": 0}))
    check_close(together, op.reference(*given)[0], TOLERANCE, str(case))
