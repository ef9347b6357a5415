"""What is measured, as plain data: every contestant, in whatever process, makes the same inputs from the same case."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

#: tolerated error on the scale of the reference; for fp32 between plain fp32 (about 1e-6) and TF32 (about 4e-4), so that a
#: contestant that computes in less than it claims is found out
TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 1e-2, "bf16": 5e-2}
#: for networks, where errors grow from layer to layer and from step to step
NETWORK_TOLERANCE = {"fp32": 1e-3, "tf32": 3e-2, "fp16": 5e-2, "bf16": 2e-1}
#: random numbers that are drawn for a large tensor; a prime, so that they do not repeat along with its axes
_DRAWN = 16_777_213
#: multiply-adds to spend on checking one output
_CHECKING = 200_000_000
#: how far what two updates did to the loss, in fp32, may be from what they do to the reference's
UPDATE_TOLERANCE = 0.1


def training_outputs(losses: list[float], scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """What is compared of three steps: the first loss, the first scores, and how the losses then fell.

    The fall is compared for itself and coarsely: it shows whether gradients and updates are right, but deep networks with batch
    norms amplify rounding from step to step, whoever computes them.
    """
    return np.array(losses[:1]), scores, np.array(losses[1:]) - losses[0]


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        kind: what is computed: matmul, fprop, dgrad, wgrad, one of the memory-bound operators, train or infer.
        params: its attributes.
        inputs: name → shape; all are uniform in [-0.5, 0.5).
        flops: of the definition; a multiply-add counts two.
        bytes: moved if every tensor is touched once.
        copies: sets of inputs that are used in turn, so that no cache holds them.
    """

    name: str
    kind: str
    params: dict
    inputs: dict[str, tuple[int, ...]]
    flops: int
    bytes: int
    group: str = ""
    copies: int = 1
    outputs: tuple[tuple[int, ...], ...] = field(default=())

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(found: dict) -> Case:
        shapes = {name: tuple(shape) for name, shape in found["inputs"].items()}
        return Case(**{**found, "inputs": shapes, "outputs": tuple(tuple(shape) for shape in found["outputs"])})

    def arrays(self, copy: int = 0) -> dict[str, np.ndarray]:
        """The inputs; do not write into them."""
        return {name: _array(name, shape, copy) for name, shape in self.inputs.items()}


@functools.lru_cache(maxsize=4)
def _array(name: str, shape: tuple[int, ...], copy: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(f"{name} {shape} {copy}".encode()))
    made = rng.random(min(math.prod(shape), _DRAWN), np.float32)
    made -= 0.5
    return np.resize(made, shape)


def copies_for(nbytes: int, cache: int) -> int:
    """Sets of inputs and outputs that together do not fit into ``cache`` bytes."""
    return max(1, min(64, -(-cache // max(nbytes, 1))))


# -- sampled checks -----------------------------------------------------------------------------------------------------

def sample(size: int, length: int = 1) -> np.ndarray:
    """Flat indices of elements to check: the corners and random ones; fewer where each costs ``length`` multiply-adds."""
    count = min(size, max(32, min(2048, _CHECKING // max(length, 1))))
    if count == size:
        return np.arange(size)
    chosen = np.random.default_rng(size).choice(size, count, replace=size > 10 * count)
    chosen[:2] = 0, size - 1
    return np.unique(chosen)


def _once(reference: Callable) -> Callable:
    """Remembers the last answer, which all contestants of a case are compared with."""
    known: dict[tuple, np.ndarray] = {}

    @functools.wraps(reference)
    def remembered(case: Case, indices: np.ndarray) -> np.ndarray:
        key = case.name, case.outputs, indices.tobytes()
        if key not in known:
            known.clear()
            known[key] = reference(case, indices)
        return known[key]
    return remembered


@_once
def matmul_reference(case: Case, indices: np.ndarray) -> np.ndarray:
    """float64 dot products."""
    a, b = case.arrays().values()
    a = a.T if case.params["a"] == "T" else a
    b = b.T if case.params["b"] == "T" else b
    rows, columns = np.unravel_index(indices, case.outputs[0])
    return np.array([a[i].astype(np.float64) @ b[:, j] for i, j in zip(rows, columns, strict=True)])


def _taps(position: int, stride: int, pad: int, window: int, count: int) -> list[tuple[int, int]]:
    """(filter position r, output position p) for which output p reads image position ``position`` with r."""
    found = ((r, position + pad - r) for r in range(window))
    return [(r, at // stride) for r, at in found if at % stride == 0 and 0 <= at // stride < count]


@_once
def convolution_reference(case: Case, indices: np.ndarray) -> np.ndarray:
    """float64, element by element, of any of the three directions."""
    p = case.params
    stride, pad, groups, window = p["stride"], p["padding"], p["groups"], p["window"]
    arrays = case.arrays()
    where = np.stack(np.unravel_index(indices, case.outputs[0]), -1)
    per_in, per_out = p["channels"] // groups, p["made"] // groups
    if case.kind == "fprop":
        x, w = arrays["x"], arrays["w"]
        return np.array([_window(x[n], w[k], k // per_out * per_in, y * stride - pad, z * stride - pad) for n, k, y, z in where])
    dy = arrays["dy"]
    size = dy.shape[2:]
    result = []
    if case.kind == "dgrad":
        w = arrays["w"]
        for n, c, h, z in where:
            group = slice(c // per_in * per_out, (c // per_in + 1) * per_out)
            total = 0.0
            for r, row in _taps(h, stride, pad, window, size[0]):
                for s, column in _taps(z, stride, pad, window, size[1]):
                    total += dy[n, group, row, column].astype(np.float64) @ w[group, c % per_in, r, s]
            result.append(total)
        return np.array(result)
    x = arrays["x"]
    for k, c, r, s in where:
        image = x[:, k // per_out * per_in + c]
        rows, inner_rows = _overlap(r, stride, pad, image.shape[1], size[0])
        columns, inner_columns = _overlap(s, stride, pad, image.shape[2], size[1])
        part, other = image[:, inner_rows, inner_columns], dy[:, k, rows, columns]
        result.append(np.einsum("nhw,nhw->", part, other, dtype=np.float64))
    return np.array(result)


def _window(image: np.ndarray, filters: np.ndarray, first: int, top: int, left: int) -> float:
    """One output element: the part of the filter that lies on the image."""
    count, window = filters.shape[0], filters.shape[1]
    h0, h1 = max(top, 0), min(top + window, image.shape[1])
    w0, w1 = max(left, 0), min(left + window, image.shape[2])
    part = image[first:first + count, h0:h1, w0:w1].astype(np.float64)
    return float((part * filters[:, h0 - top:h1 - top, w0 - left:w1 - left]).sum())


def _overlap(tap: int, stride: int, pad: int, extent: int, count: int) -> tuple[slice, slice]:
    """Outputs whose ``tap`` lies on the image, and the image positions that they read."""
    first = max(0, math.ceil((pad - tap) / stride))
    last = min(count, (extent - 1 + pad - tap) // stride + 1)
    start = first * stride + tap - pad
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)
