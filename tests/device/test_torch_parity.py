"""Every public operator beside PyTorch in float64, on random configurations: results and gradients.

Each operator has a function in ``parity`` that draws a configuration from a random generator. ``CLNN_PARITY`` sets how many are
drawn for an operator of weight 1; the operators with many options have a larger weight.
"""

from __future__ import annotations

import math
import os
import zlib

import numpy as np
import pytest

import clnn
from clnn import ops

torch = pytest.importorskip("torch", reason="parity is judged by PyTorch, which is not installed")
from parity import RECORDS, Case  # noqa: E402
from parity.draw import normal, positive  # noqa: E402

COUNT = int(os.environ.get("CLNN_PARITY", "6"))


def draw(name: str, seed: int) -> tuple[Case, np.random.Generator]:
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    return RECORDS[name].draw(rng), rng


def errors(case: Case, rng, device) -> list[tuple[str, float]]:
    """(what, largest error on the scale of the reference) for the result and each gradient."""
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in case.arrays]
    expected = case.theirs(*tensors, *(torch.tensor(label.astype(np.int64)) for label in case.labels))
    cotangent = rng.standard_normal(tuple(expected.shape)).astype(np.float32)
    gradients = torch.autograd.grad(expected, tensors, torch.tensor(cotangent, dtype=torch.float64), allow_unused=True)
    got, found = clnn.vjp(case.ours, *case.arrays, *case.labels, cotangent=cotangent, device=device)
    result = [("the result", distance(got, expected.detach().numpy(), case.floor))]
    for number, (gradient, reference, array) in enumerate(zip(found, gradients, case.arrays, strict=False)):
        wanted = np.zeros(array.shape) if reference is None else reference.numpy()
        result.append((f"gradient {number}", distance(gradient, wanted, case.floor)))
    return result


def distance(got: np.ndarray, expected: np.ndarray, floor: float) -> float:
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    return float(np.abs(got.astype(np.float64) - expected).max()) / max(float(np.abs(expected).max()), floor)


@pytest.mark.parametrize("name, seed", [pytest.param(name, seed, id=f"{name}-{seed}") for name, record in RECORDS.items()
                                        for seed in range(COUNT * record.weight)])
def test_results_and_gradients_agree(name, seed, device):
    case, rng = draw(name, seed)
    for what, error in errors(case, rng, device):
        assert error <= RECORDS[name].tolerance, f"{name} {case.text}: {what} is off by {error:.3g} of the largest element"


def test_every_public_function_has_a_record():
    functions = {name for name, value in vars(ops).items() if callable(value) and not isinstance(value, type)}
    covered = {name for name in functions if any(record.startswith(name) for record in RECORDS)}
    assert functions - covered == {"dropout", "accuracy_hits"}, "below, and in test_losses"


# -- dropout: statistics instead of parity --------------------------------------------------------------------------------

@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout(p, device):
    """The kept share is binomial, what is kept is scaled, gradient and result have one mask, and the mask repeats."""
    rng = np.random.default_rng(3)
    x, cotangent = positive(rng, 64, 500), normal(rng, 64, 500)
    y, (dx,) = clnn.vjp(lambda v: ops.dropout(v, p), x, cotangent=cotangent, device=device)
    kept = y != 0
    deviation = math.sqrt(p * (1 - p) / x.size)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    for axis in (0, 1):
        assert np.abs(kept.mean(axis) - (1 - p)).max() < 5 * deviation * math.sqrt(x.size / x.shape[axis])
    np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(kept, cotangent / (1 - p), 0), rtol=1e-6)
    again, _ = clnn.vjp(lambda v: ops.dropout(v, p), x, cotangent=cotangent, device=device)
    np.testing.assert_array_equal(again, y)


def test_dropout_layers_have_masks_of_their_own(device):
    ones = np.ones((50, 80), np.float32)
    first, second = clnn.evaluate(lambda v: (ops.dropout(v, 0.5), ops.dropout(v, 0.5)), ones, device=device)
    agree = ((first != 0) == (second != 0)).mean()
    assert abs(agree - 0.5) < 0.04


def test_dropout_does_nothing_where_it_should_not(device):
    x = normal(np.random.default_rng(0), 4, 5)
    for options in ({"p": 0.0}, {"p": 0.5, "training": False}):
        np.testing.assert_array_equal(clnn.evaluate(lambda v, options=options: ops.dropout(v, **options), x, device=device), x)
