"""Operators that compute little and move much. The yardstick is a copy of a tensor of the same size."""

from __future__ import annotations

import math

import numpy as np

from bench.cases import Case, copies_for
from bench.measure import Competition
from bench.options import Options
from bench.roofline import cache_bytes

Shape = tuple[int, ...]


def _case(name: str, inputs: dict[str, Shape], outputs: tuple[Shape, ...], cache: int) -> Case:
    elements = sum(math.prod(shape) for shape in (*inputs.values(), *outputs))
    shape = "×".join(map(str, max(inputs.values(), key=math.prod)))
    return Case(f"{name.replace('_', ' ')} {shape}", name, {}, inputs, 0, 4 * elements, "memory",
                copies_for(4 * elements, cache), outputs)


def cases(image: Shape, large: Shape, rows: Shape, matrix: Shape, cache: int) -> list[Case]:
    """All operators on images (N, C, H, W), on rows of scores and on a matrix; batch norm, whose work is cut by channels, on
    images with ``large`` ones, too."""
    return [_case(name, inputs, outputs, cache) for name, inputs, outputs in
            (*_on_images(image), *(row for row in _on_images(large) if row[0].startswith("batch_norm")),
             ("softmax", {"x": rows}, (rows,)),
             ("sum_rows", {"x": rows}, (rows[:1],)),
             ("transpose", {"x": matrix}, (matrix[::-1],)))]


def _on_images(image: Shape) -> tuple[tuple[str, dict[str, Shape], tuple[Shape, ...]], ...]:
    n, channels, height, width = image
    vector, pooled = (channels,), (n, channels, (height + 1) // 2, (width + 1) // 2)
    affine = {"weight": vector, "bias": vector}
    return (
        ("scale", {"x": image}, (image,)),
        ("add", {"x": image, "y": image}, (image,)),
        ("relu", {"x": image}, (image,)),
        ("bias_relu", {"x": image, "bias": vector}, (image,)),
        ("batch_norm", {"x": image, **affine}, (image,)),
        ("batch_norm_backward", {"dy": image, "x": image, **affine}, (image, vector, vector)),
        ("max_pool", {"x": image}, (pooled,)),
        ("sum_channels", {"x": image}, (vector,)),
        ("dropout", {"x": image}, (image,)),
    )


# -- references ---------------------------------------------------------------------------------------------------------

def reference(case: Case, output: int, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What the sampled elements should be, in float64."""
    a = {name: array.astype(np.float64) if array.ndim < 4 else array for name, array in case.arrays().items()}
    if case.kind == "dropout":          # what is kept must be doubled, and about half must be kept
        kept = values != 0
        fair = abs(kept.mean() - 0.5) < 0.1
        return np.where(kept, 2 * a["x"].reshape(-1)[indices], 0.0) if fair else np.full(len(indices), np.inf)
    if case.kind in ("scale", "add", "relu", "bias_relu"):
        return _pointwise(case.kind, a, indices)
    return FULL[case.kind](a)[output].reshape(-1)[indices]


def _pointwise(kind: str, a: dict[str, np.ndarray], indices: np.ndarray) -> np.ndarray:
    x = a["x"].reshape(-1)[indices].astype(np.float64)
    if kind == "scale":
        return 2 * x
    if kind == "add":
        return x + a["y"].reshape(-1)[indices]
    if kind == "bias_relu":
        x = x + a["bias"][np.unravel_index(indices, a["x"].shape)[1]]
    return np.maximum(x, 0)


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = (-1, *(1,) * (x.ndim - 2))
    return x.mean((0, 2, 3), dtype=np.float64).reshape(shape), x.var((0, 2, 3), dtype=np.float64).reshape(shape)


def _batch_norm(a: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    mean, var = _statistics(a["x"])
    weight, bias = (a[name].reshape(-1, 1, 1) for name in ("weight", "bias"))
    return ((a["x"] - mean) / np.sqrt(var + 1e-5) * weight + bias,)


def _batch_norm_backward(a: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    mean, var = _statistics(a["x"])
    slope = 1 / np.sqrt(var + 1e-5)
    normed, dy = (a["x"] - mean) * slope, a["dy"].astype(np.float64)
    count = dy.size // dy.shape[1]
    dbias, dweight = dy.sum((0, 2, 3)), (dy * normed).sum((0, 2, 3))
    dx = a["weight"].reshape(-1, 1, 1) * slope * (dy - (dbias.reshape(-1, 1, 1) + normed * dweight.reshape(-1, 1, 1)) / count)
    return dx, dweight, dbias


def _max_pool(a: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    x = a["x"]
    padded = np.full((*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2), -np.inf, np.float32)
    padded[:, :, 1:-1, 1:-1] = x
    height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    parts = (padded[:, :, r:r + 2 * height - 1:2, s:s + 2 * width - 1:2] for r in range(3) for s in range(3))
    result = next(parts).copy()
    for part in parts:
        np.maximum(result, part, out=result)
    return (result,)


def _softmax(a: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    e = np.exp(a["x"] - a["x"].max(1, keepdims=True))
    return (e / e.sum(1, keepdims=True),)


FULL = {"batch_norm": _batch_norm, "batch_norm_backward": _batch_norm_backward, "max_pool": _max_pool, "softmax": _softmax,
        "sum_rows": lambda a: (a["x"].sum(1),), "sum_channels": lambda a: (a["x"].sum((0, 2, 3), dtype=np.float64),),
        "transpose": lambda a: (a["x"].T,)}


def sizes(cpu: bool, batch: int) -> tuple[Shape, ...]:
    """Images, those with large channels, rows and a matrix; on GPUs far larger than their caches."""
    if cpu:
        return (batch, 64, 56, 56), (batch, 32, 112, 112), (4096, 1000), (2048, 2048)
    return (batch, 256, 56, 56), (batch, 64, 112, 112), (65536, 1000), (8192, 8192)


def run(options: Options) -> dict:
    usual = (4 if options.quick else 16) if options.is_cpu else (16 if options.quick else 96)
    found = cases(*sizes(options.is_cpu, options.batch or usual), cache_bytes(options.session))
    return Competition("memory", options, reference).run(found)
