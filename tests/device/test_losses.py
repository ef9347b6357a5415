"""Losses and softmax beside PyTorch, forward and gradients, and what must fail loudly."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_close, run_offer

import clnn
from clnn import ops
from clnn.errors import ArgumentError, DTypeError, ShapeError
from clnn.target import GENERIC_GPU

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def distribution(*shape: int) -> np.ndarray:
    e = np.exp(normal(*shape))
    return e / e.sum(1, keepdims=True)


def same_as_torch(ours, theirs, arrays, device, fixed=()) -> None:
    """Output and gradients of ``ours(*arrays, *fixed)`` agree with PyTorch's."""
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    expected = theirs(*tensors, *(torch.tensor(f.astype(np.int64)) for f in fixed))
    cotangent = RNG.standard_normal(tuple(expected.shape)).astype(np.float32)
    expected.backward(torch.tensor(cotangent, dtype=torch.float64))
    got, gradients = clnn.vjp(ours, *arrays, *fixed, cotangent=cotangent, device=device)
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=2e-5, atol=2e-5)
    for gradient, tensor in zip(gradients, tensors, strict=False):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(7, 10), (3, 5, 4, 2)])
def test_cross_entropy_of_class_numbers(shape, smoothing, reduction, device):
    labels = RNG.integers(0, shape[1], (shape[0], *shape[2:])).astype(np.int32)
    same_as_torch(lambda x, t: ops.cross_entropy(x, t, reduction=reduction, label_smoothing=smoothing),
                  lambda x, t: F.cross_entropy(x, t, reduction=reduction, label_smoothing=smoothing),
                 [normal(*shape)], device, [labels])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_ignored_labels(ignored, reduction, device):
    labels = RNG.integers(0, 4, (9,)).astype(np.int32)
    labels[[1, 4]] = ignored
    same_as_torch(lambda x, t: ops.cross_entropy(x, t, ignored, reduction, 0.1),
                  lambda x, t: F.cross_entropy(x, t, ignore_index=ignored, reduction=reduction, label_smoothing=0.1),
                  [normal(9, 4)], device, [labels])


def test_nothing_but_ignored_labels_is_nan(device):
    labels = np.full(3, -100, np.int32)
    loss, (gradient, _) = clnn.vjp(lambda x, t: ops.cross_entropy(x, t, -100), normal(3, 4), labels, device=device)
    assert np.isnan(loss)
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shape", [(6, 10), (2, 3, 4)])
def test_cross_entropy_of_soft_labels(shape, reduction, device):
    same_as_torch(lambda x, t: ops.cross_entropy(x, t, reduction=reduction, label_smoothing=0.2),
                  lambda x, t: F.cross_entropy(x, t, reduction=reduction, label_smoothing=0.2),
                  [normal(*shape), distribution(*shape)], device)


@pytest.mark.parametrize("lanes", [1, 8])
def test_a_label_that_is_no_class_is_loud(lanes, device_session):
    op = ops.SoftmaxCrossEntropy(False, 0.0, None, ("rows", "grad", "hits"))
    logits, labels, g = normal(4, 5), np.array([0, 5, -1, 2], np.int32), np.ones(4, np.float32)
    inputs = tuple(clnn.ir.TensorSpec(a.shape, str(a.dtype)) for a in (logits, labels, g))
    outputs = op.infer(*inputs)
    offer = op.lowerings[-1].offer(op, inputs, outputs, device_session.target, config={"LANES": lanes})
    rows, grad, hits = run_offer(op, offer, (logits, labels, g), inputs, outputs, device_session)
    assert np.isnan(rows).tolist() == [False, True, True, False]
    assert np.isnan(grad).all(1).tolist() == [False, True, True, False]
    assert not hits[1:3].any()


@pytest.mark.parametrize("shape", [(3, 256), (2, 1100), (2, 300, 3), (70, 10)])
@pytest.mark.parametrize("soft", [False, True])
def test_kernels_for_a_gpu(shape, soft, device_session):
    fused = ops.SoftmaxCrossEntropy(soft, 0.1, None, ("rows", "grad", "hits"))
    row = (shape[0], *shape[2:])
    labels = distribution(*shape) if soft else RNG.integers(0, shape[1], row).astype(np.int32)
    arrays = (normal(*shape), labels, normal(*row))
    inputs = tuple(clnn.ir.TensorSpec(a.shape, str(a.dtype)) for a in arrays)
    for op, given in ((fused, inputs), (ops.Softmax(1), inputs[:1]), (ops.LogSoftmax(1), inputs[:1])):
        outputs = op.infer(*given)
        offer = op.lowerings[-1].offer(op, given, outputs, GENERIC_GPU)
        got = run_offer(op, offer, arrays[:len(given)], given, outputs, device_session)
        for number, (g, e) in enumerate(zip(got, op.reference(*arrays[:len(given)]), strict=True)):
            check_close(g, e, 2e-5, f"{op}, output {number}")


def test_large_logits_do_not_overflow(device):
    x = np.array([[1e4, -1e4, 0], [-3e4, -3e4 + 1, -3e4]], np.float32)
    same_as_torch(lambda x, t: ops.cross_entropy(x, t, reduction="none"), lambda x, t: F.cross_entropy(x, t, reduction="none"),
                  [x], device, [np.array([1, 0], np.int32)])


def test_hits_count_the_first_of_equals(device):
    logits = np.array([[1, 3, 3], [5, 5, 1], [0, 1, 2]], np.float32)
    got = clnn.evaluate(ops.accuracy_hits, logits, np.array([2, 0, 2], np.int32), device=device)
    assert got.tolist() == [0, 1, 1]
    weights = np.array([[0, 0.6, 0.4], [0.2, 0.8, 0], [0, 0.5, 0.5]], np.float32)
    assert clnn.evaluate(ops.accuracy_hits, logits, weights, device=device).tolist() == [1, 0, 0]


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim, device):
    x = normal(4, 5, 3)
    same_as_torch(lambda v: ops.softmax(v, dim), lambda v: F.softmax(v, dim), [x], device)
    same_as_torch(lambda v: ops.log_softmax(v, dim), lambda v: F.log_softmax(v, dim), [x], device)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy(reduction, device):
    x, t = normal(4, 6) * 20, RNG.uniform(0, 1, (4, 6)).astype(np.float32)
    weight = np.array([0.5, 1, 2, 3, 1, 4], np.float32)
    x[0, 0] = 0
    same_as_torch(lambda a, b: ops.binary_cross_entropy_with_logits(a, b, reduction),
                  lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction=reduction), [x, t], device)
    same_as_torch(lambda a: ops.binary_cross_entropy_with_logits(a, t, reduction, pos_weight=weight),
                  lambda a: F.binary_cross_entropy_with_logits(a, torch.tensor(t), reduction=reduction,
                                                                  pos_weight=torch.tensor(weight)),
                  [x], device)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse(reduction, device):
    same_as_torch(lambda a, b: ops.mse_loss(a, b, reduction), lambda a, b: F.mse_loss(a, b, reduction=reduction),
                  [normal(3, 7), normal(3, 7)], device)


def test_errors_speak(device):
    def attempt(fn, *arrays):
        clnn.evaluate(fn, *arrays, device=device)

    labels = np.zeros(4, np.int32)
    with pytest.raises(ShapeError, match="labels do not fit"):
        attempt(ops.cross_entropy, normal(3, 5), labels)
    with pytest.raises(ShapeError, match="labels do not fit"):
        attempt(ops.cross_entropy, normal(4, 5), labels.astype(np.float32))
    with pytest.raises(ShapeError, match="class axis"):
        attempt(ops.cross_entropy, normal(4), labels)
    with pytest.raises(DTypeError, match="floating-point"):
        attempt(ops.cross_entropy, labels[:, None], labels)
    with pytest.raises(ArgumentError, match="unknown reduction"):
        attempt(lambda x, t: ops.cross_entropy(x, t, reduction="average"), normal(4, 5), labels)
    with pytest.raises(ArgumentError, match="label_smoothing"):
        attempt(lambda x, t: ops.cross_entropy(x, t, label_smoothing=1.5), normal(4, 5), labels)
    with pytest.raises(ShapeError, match="differ in shape"):
        attempt(ops.mse_loss, normal(3, 2), normal(3, 1))
    with pytest.raises(ShapeError, match="weight does not broadcast"):
        attempt(lambda x, t: ops.binary_cross_entropy_with_logits(x, t, pos_weight=np.ones((5, 1, 1), np.float32)),
                normal(3, 2), normal(3, 2))
