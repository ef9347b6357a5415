"""Frozen inference: batch norms vanish, and the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

import clnn
from clnn import models, nn
from clnn.errors import ArgumentError


def shaken(model):
    """The model in eval mode with running statistics that are not the initial ones."""
    rng = np.random.default_rng(3)
    for name, variable in model.state_variables().items():
        if name.endswith("running_mean") or name.endswith("bias"):
            variable.array[...] = rng.normal(0, 0.3, variable.shape)
        elif name.endswith("running_var"):
            variable.array[...] = rng.uniform(0.5, 2.0, variable.shape)
    return model.eval()


@pytest.mark.parametrize(
    "build, shape",
    [
        (lambda: models.vgg_small(), (2, 3, 32, 32)),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5), nn.BatchNorm1d(5)
            ),
            (3, 3, 8, 8),
        ),
    ],
)
def test_folding_keeps_the_numbers(build, shape, device):
    model = shaken(build())
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    plain = clnn.compile(model, shape, device=device)
    frozen = clnn.compile(model, shape, device=device, freeze=True)
    expected, got = plain.run(x), frozen.run(x)
    assert np.max(np.abs(got - expected)) <= 1e-4 * np.max(np.abs(expected))
    assert "sqrt" not in str(frozen.graph), "a batch norm is left"
    assert "sqrt" in str(plain.graph)


def test_frozen_weights_cannot_be_trained(device):
    with pytest.raises(ArgumentError, match="frozen weights cannot be trained"):
        clnn.compile(models.mlp(4, 3), (2, 4), loss="cross_entropy", freeze=True, device=device)
