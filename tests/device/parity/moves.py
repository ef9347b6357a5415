"""Operators that only move elements."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from clnn import ops

from .draw import CONTRACTION, MOVE, Case, extent, factors, normal, one_of, operator, shape_of


@operator(MOVE)
def reshape(rng) -> Case:
    x = normal(rng, *shape_of(rng))
    shape = list(factors(rng, x.size))
    if rng.random() < 0.5:
        shape[int(rng.integers(len(shape)))] = -1
    return Case(lambda x: ops.reshape(x, shape), lambda x: x.reshape(shape), [x], text=f"{x.shape} {shape}")


@operator(MOVE)
def flatten(rng) -> Case:
    x = normal(rng, *shape_of(rng))
    first, last = sorted(int(i) for i in rng.integers(0, x.ndim, 2))
    last -= x.ndim if rng.random() < 0.5 else 0
    return Case(lambda x: ops.flatten(x, first, last), lambda x: torch.flatten(x, first, last), [x],
                text=f"{x.shape} {first} {last}")


@operator(MOVE)
def transpose(rng) -> Case:
    x = normal(rng, *shape_of(rng))
    perm = [int(i) - (x.ndim if rng.random() < 0.2 else 0) for i in rng.permutation(x.ndim)]
    return Case(lambda x: ops.transpose(x, perm), lambda x: x.permute(perm), [x], text=f"{x.shape} {perm}")


@operator(MOVE)
def concat(rng) -> Case:
    shape = shape_of(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    arrays = []
    for _ in range(extent(rng, 1, 4)):
        part = list(shape)
        part[axis] = extent(rng, 1, 6)
        arrays.append(normal(rng, *part))
    return Case(lambda *x: ops.concat(x, axis), lambda *x: torch.cat(x, axis), arrays, text=f"{[a.shape for a in arrays]} {axis}")


@operator(MOVE)
def slice(rng) -> Case:
    x = normal(rng, *shape_of(rng))
    starts = [int(rng.integers(0, n)) for n in x.shape]
    stops = [int(rng.integers(start + 1, n + 4)) for start, n in zip(starts, x.shape, strict=True)]
    stops = [stop - n if stop < n and rng.random() < 0.3 else stop for stop, n in zip(stops, x.shape, strict=True)]
    starts = [start - n if rng.random() < 0.3 else start for start, n in zip(starts, x.shape, strict=True)]
    steps = [extent(rng, 1, 3) for _ in x.shape]
    index = tuple(np.s_[a:b:s] for a, b, s in zip(starts, stops, steps, strict=True))
    return Case(lambda x: ops.slice(x, starts, stops, steps), lambda x: x[index], [x], text=f"{x.shape} {index}")


@operator(MOVE, 2)
def pad(rng) -> Case:
    x = normal(rng, *shape_of(rng))
    axes, widths = extent(rng, 1, x.ndim), []
    for axis in range(axes):
        n = x.shape[-1 - axis]
        before = int(rng.integers(-(n // 3), 4))
        widths += [before, int(rng.integers(-((n + min(before, 0)) // 3), 4))]
    value = one_of(rng, 0.0, 1.5)
    return Case(lambda x: ops.pad(x, widths, value), lambda x: F.pad(x, widths, value=value), [x], text=f"{x.shape} {widths}")


@operator(CONTRACTION)
def expand(rng) -> Case:
    full = shape_of(rng, 1, 4)
    x = normal(rng, *tuple(1 if rng.random() < 0.5 else n for n in full)[extent(rng, 0, len(full)):])
    return Case(lambda x: ops.expand(x, full), lambda x: x.expand(full), [x], floor=1.0, text=f"{x.shape} {full}")
