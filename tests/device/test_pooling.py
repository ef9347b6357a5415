"""Pooling and its gradients on the device, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import clnn
from clnn import ops


def configurations(count: int) -> list:
    found = []
    rng = np.random.default_rng(7)
    for number in range(count):
        kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
        found.append(pytest.param({
            "shape": (int(rng.integers(1, 4)), int(rng.integers(1, 5)), *(int(n) for n in rng.integers(5, 13, 2))),
            "kernel": kernel,
            "stride": tuple(int(s) for s in rng.integers(1, 5, 2)),
            "padding": tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel),
            "ceil_mode": bool(rng.random() < 0.5),
            "dilation": 1 if number % 3 else 2,
            "include": bool(rng.random() < 0.5),
            "override": [None, None, 3][number % 3],
            "output": tuple(int(n) for n in rng.integers(1, 9, 2)),
        }, id=str(number)))
    return found


def compare(ours, theirs, shape, device):
    """Results and gradients of two functions of one image."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x = rng.permutation(np.arange(np.prod(shape))).reshape(shape).astype(np.float32) / 16
    given = torch.from_numpy(x).requires_grad_()
    expected = theirs(torch.nn.functional, given)
    cotangent = rng.standard_normal(tuple(expected.shape)).astype(np.float32)
    expected.backward(torch.from_numpy(cotangent))
    got, (gradient,) = clnn.vjp(ours, x, cotangent=cotangent, device=device)
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, given.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("c", configurations(8))
def test_max_pool_agrees_with_torch(c, device):
    arguments = (c["kernel"], c["stride"], c["padding"], c["dilation"], c["ceil_mode"])
    compare(lambda x: ops.max_pool2d(x, *arguments), lambda f, x: f.max_pool2d(x, *arguments), c["shape"], device)


@pytest.mark.parametrize("c", configurations(8))
def test_avg_pool_agrees_with_torch(c, device):
    arguments = (c["kernel"], c["stride"], c["padding"], c["ceil_mode"], c["include"], c["override"])
    compare(lambda x: ops.avg_pool2d(x, *arguments), lambda f, x: f.avg_pool2d(x, *arguments), c["shape"], device)


@pytest.mark.parametrize("c", configurations(6))
def test_adaptive_pool_agrees_with_torch(c, device):
    size = c["output"]
    compare(lambda x: ops.adaptive_avg_pool2d(x, size), lambda f, x: f.adaptive_avg_pool2d(x, size), c["shape"], device)


def test_global_average_agrees_with_numpy(device):
    x = np.random.default_rng(0).standard_normal((3, 5, 7, 6)).astype(np.float32)
    y, (dx,) = clnn.vjp(ops.global_avg_pool2d, x, device=device)
    np.testing.assert_allclose(y, x.mean((2, 3), keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, np.full(x.shape, 1 / 42), rtol=1e-6)


def test_window_beside_the_image_gives_minus_infinity(device):
    """Dilation can put all taps of a window into the padding."""
    x = np.ones((1, 1, 1, 1), np.float32)
    y, (dx,) = clnn.vjp(lambda v: ops.max_pool2d(v, 2, padding=1, dilation=2), x, device=device)
    assert y.item() == -np.inf and dx.item() == 0


def test_nan_and_equal_elements(device):
    x = np.array([[2, 2, np.nan, 1, -np.inf, -np.inf], [2, 2, 7, 8, -np.inf, -np.inf]], np.float32).reshape(1, 1, 2, 6)
    y, (dx,) = clnn.vjp(lambda v: ops.max_pool2d(v, 2), x, device=device)
    np.testing.assert_array_equal(y.reshape(-1), [2, np.nan, -np.inf])
    np.testing.assert_array_equal(dx.reshape(2, 6), [[1, 0, 1, 0, 1, 0], [0] * 6])


def test_first_of_equal_elements_behind_padding(device):
    """Taps in the padding repeat their neighbours; the gradient must still reach real pixels, each window's first."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(5).integers(0, 3, (2, 3, 9, 10)).astype(np.float32)
    given = torch.from_numpy(x).requires_grad_()
    torch.nn.functional.max_pool2d(given, (5, 4), (2, 3), (2, 2), ceil_mode=True).sum().backward()
    _, (gradient,) = clnn.vjp(lambda v: ops.max_pool2d(v, (5, 4), (2, 3), (2, 2), ceil_mode=True), x, device=device)
    np.testing.assert_array_equal(gradient, given.grad.numpy())
