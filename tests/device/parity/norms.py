"""Normalisation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from clnn import ops

from .draw import POINTWISE, Case, extent, normal, one_of, operator, positive, shape_of


def normalised(rng) -> tuple[np.ndarray, list[np.ndarray]]:
    """(N, C, …) with a mean, and weight and bias or neither."""
    shape = (extent(rng, 3, 9), extent(rng, 1, 20), *shape_of(rng, 0, 2))
    x = normal(rng, *shape) * one_of(rng, 0.5, 3) + normal(rng, shape[1]).reshape(-1, *(1,) * (len(shape) - 2))
    return x.astype(np.float32), [positive(rng, shape[1]), normal(rng, shape[1])] if rng.random() < 0.8 else []


@operator(2e-5, 3)
def batch_norm_training(rng) -> Case:
    x, affine = normalised(rng)
    eps = one_of(rng, 1e-5, 1e-3)
    return Case(lambda x, *affine: ops.batch_norm(x, None, None, *affine, training=True, eps=eps),
                lambda x, *affine: F.batch_norm(x, None, None, *affine, training=True, eps=eps), [x, *affine], floor=1.0,
                text=f"{x.shape} eps={eps}")


@operator(POINTWISE, 2)
def batch_norm_inference(rng) -> Case:
    x, affine = normalised(rng)
    mean, var = normal(rng, x.shape[1]), positive(rng, x.shape[1])
    return Case(lambda x, *affine: ops.batch_norm(x, mean, var, *affine),
                lambda x, *affine: F.batch_norm(x, torch.tensor(mean, dtype=x.dtype), torch.tensor(var, dtype=x.dtype), *affine),
                [x, *affine], floor=1.0, text=str(x.shape))
