"""Losses."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from clnn import ops

from .draw import POINTWISE, Case, extent, normal, one_of, operator, positive, shape_of


def logits(rng) -> np.ndarray:
    return normal(rng, extent(rng), extent(rng, 1, 20), *shape_of(rng, 0, 2), scale=one_of(rng, 1, 5))


def loss_options(rng) -> dict:
    return {"reduction": one_of(rng, "mean", "sum", "none"), "label_smoothing": one_of(rng, 0.0, 0.0, 0.1, 1.0)}


@operator(POINTWISE, 3)
def cross_entropy_of_classes(rng) -> Case:
    x, options = logits(rng), loss_options(rng)
    labels = rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:])).astype(np.int32)
    ignored = one_of(rng, None, -100, int(rng.integers(x.shape[1])))
    if ignored is not None:
        labels[rng.random(labels.shape) < 0.3] = ignored
        labels.reshape(-1)[0] = next((c for c in range(x.shape[1]) if c != ignored), 0)
        ignored = ignored if (labels != ignored).any() else None
    return Case(lambda x, t: ops.cross_entropy(x, t, ignored, **options),
                lambda x, t: F.cross_entropy(x, t, ignore_index=-100 if ignored is None else ignored, **options), [x], [labels],
                floor=0.1, text=f"{x.shape} ignored={ignored} {options}")


@operator(POINTWISE, 2)
def cross_entropy_of_soft_labels(rng) -> Case:
    x, options = logits(rng), loss_options(rng)
    weights = np.exp(normal(rng, *x.shape))
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return Case(lambda x: ops.cross_entropy(x, weights, **options),
                lambda x: F.cross_entropy(x, torch.tensor(weights, dtype=x.dtype), **options), [x], floor=0.1,
                text=f"{x.shape} {options}")


@operator(POINTWISE, 2)
def binary_cross_entropy_with_logits(rng) -> Case:
    x = normal(rng, *shape_of(rng), scale=one_of(rng, 1, 20))
    target, reduction = rng.random(x.shape).astype(np.float32), one_of(rng, "mean", "sum", "none")
    weight = positive(rng, *x.shape[-1:]) if rng.random() < 0.5 else None
    theirs = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    return Case(lambda x, t: ops.binary_cross_entropy_with_logits(x, t, reduction, weight),
                lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction, pos_weight=theirs), [x, target],
                floor=0.01, text=f"{x.shape} {reduction} {weight is not None}")


@operator()
def mse_loss(rng) -> Case:
    shape, reduction = shape_of(rng), one_of(rng, "mean", "sum", "none")
    return Case(lambda x, t: ops.mse_loss(x, t, reduction), lambda x, t: F.mse_loss(x, t, reduction=reduction),
                [normal(rng, *shape), normal(rng, *shape)], floor=0.01, text=f"{shape} {reduction}")
