"""Pooling."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from clnn import ops

from .draw import POINTWISE, Case, distinct, extent, normal, one_of, operator


def pooling(rng) -> dict:
    kernel = tuple(extent(rng, 1, 4) for _ in range(2))
    return {"kernel_size": kernel if rng.random() < 0.7 else kernel[0],
            "stride": None if rng.random() < 0.2 else tuple(extent(rng, 1, 4) for _ in range(2)),
            "padding": tuple(extent(rng, 0, k // 2) for k in ((min(kernel),) * 2)),
            "ceil_mode": bool(rng.random() < 0.5)}


def images(rng, make) -> np.ndarray:
    return make(rng, extent(rng, 1, 3), extent(rng, 1, 5), extent(rng, 8, 13), extent(rng, 8, 13))


@operator(POINTWISE, 3)
def max_pool2d(rng) -> Case:
    options = pooling(rng) | {"dilation": one_of(rng, 1, 1, 2, (1, 2))}
    return Case(lambda x: ops.max_pool2d(x, **options), lambda x: F.max_pool2d(x, **options), [images(rng, distinct)],
                text=str(options))


@operator(POINTWISE, 3)
def avg_pool2d(rng) -> Case:
    options = pooling(rng) | {"count_include_pad": bool(rng.random() < 0.5), "divisor_override": one_of(rng, None, None, 3)}
    return Case(lambda x: ops.avg_pool2d(x, **options), lambda x: F.avg_pool2d(x, **options), [images(rng, normal)], floor=1.0,
                text=str(options))


@operator(POINTWISE, 2)
def adaptive_avg_pool2d(rng) -> Case:
    size = one_of(rng, 1, 7, None, (extent(rng, 1, 9), extent(rng, 1, 15)), (None, extent(rng)))
    return Case(lambda x: ops.adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size if size else (None, None)),
                [images(rng, normal)], floor=0.1, text=str(size))


@operator(POINTWISE)
def global_avg_pool2d(rng) -> Case:
    return Case(ops.global_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 1), [images(rng, normal)], floor=0.1)
