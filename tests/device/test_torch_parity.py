"""Every public operator beside PyTorch in float64, on random configurations: results and gradients.

Each operator has a function that draws a configuration from a random generator. ``CLNN_PARITY`` sets how many are drawn for an
operator of weight 1; the operators with many options have a larger weight.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

import clnn
from clnn import ops

torch = pytest.importorskip("torch", reason="parity is judged by PyTorch, which is not installed")
F = torch.nn.functional

COUNT = int(os.environ.get("CLNN_PARITY", "6"))
#: largest error on the scale of the reference tensor
POINTWISE, CONTRACTION, MOVE = 2e-6, 5e-6, 0.0


@dataclass
class Case:
    """One configuration. ``arrays`` are differentiated, ``labels`` are not.

    ``floor`` is the least scale on which errors are judged: the size of the terms where they can cancel.
    """

    ours: Callable
    theirs: Callable
    arrays: Sequence[np.ndarray]
    labels: Sequence[np.ndarray] = ()
    floor: float = 1e-6
    text: str = ""


@dataclass
class Record:
    draw: Callable
    tolerance: float
    weight: int


RECORDS: dict[str, Record] = {}


def operator(tolerance: float = POINTWISE, weight: int = 1, name: str | None = None):
    """Register a function (generator) → Case under the operator's name."""
    def register(draw):
        RECORDS[name or draw.__name__] = Record(draw, tolerance, weight)
        return draw
    return register


# -- drawing ------------------------------------------------------------------------------------------------------------

def normal(rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def positive(rng, *shape: int) -> np.ndarray:
    return rng.uniform(0.2, 3.0, shape).astype(np.float32)


def distinct(rng, *shape: int) -> np.ndarray:
    """Numbers that are all different, so that a maximum is clear."""
    return (rng.permutation(math.prod(shape)).reshape(shape) / 16 - 3).astype(np.float32)


def one_of(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def extent(rng, low: int = 1, high: int = 12) -> int:
    return int(rng.integers(low, high + 1))


def shape_of(rng, low: int = 1, high: int = 4) -> tuple[int, ...]:
    """Between ``low`` and ``high`` axes of 1 … 12 elements, a quarter of them of one."""
    rank = extent(rng, low, high)
    return tuple(1 if rng.random() < 0.2 else extent(rng, 2, 12 if rank < 4 else 7) for _ in range(rank))


def broadcast_pair(rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast together: some axes of 1, some leading ones missing."""
    full = shape_of(rng, 1, 4)
    a = tuple(1 if rng.random() < 0.2 else n for n in full)
    b = tuple(1 if rng.random() < 0.4 else n for n in full)[extent(rng, 0, len(full)):]
    return (a, b) if rng.random() < 0.5 else (b, a)


def factors(rng, size: int) -> tuple[int, ...]:
    """Extents whose product is ``size``."""
    found = []
    while size > 1 and len(found) < 4:
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        found.append(one_of(rng, *divisors))
        size //= found[-1]
    return (*found, size)


# -- contractions -------------------------------------------------------------------------------------------------------

@operator(CONTRACTION, 3)
def matmul(rng) -> Case:
    m, n, k = (extent(rng, 1, one_of(rng, 12, 70)) for _ in range(3))
    kind = one_of(rng, "matrices", "stacks", "stack and matrix", "matrix and stack", "row", "column", "dot")
    lead_a, lead_b = broadcast_pair(rng) if "stack" in kind else ((), ())
    lead_a, lead_b = lead_a[-2:] if kind != "matrix and stack" else (), lead_b[-2:] if kind != "stack and matrix" else ()
    a, b = (*lead_a, m, k), (*lead_b, k, n)
    a, b = (k,) if kind in ("row", "dot") else a, (k,) if kind in ("column", "dot") else b
    return Case(ops.matmul, torch.matmul, [normal(rng, *a), normal(rng, *b)], floor=1.0, text=f"{a} {b}")


@operator(CONTRACTION, 2)
def linear(rng) -> Case:
    lead, inputs, outputs = shape_of(rng, 0, 3), extent(rng, 1, 40), extent(rng, 1, 40)
    arrays = [normal(rng, *lead, inputs), normal(rng, outputs, inputs)] + ([normal(rng, outputs)] if rng.random() < 0.7 else [])
    return Case(ops.linear, F.linear, arrays, floor=1.0, text=f"{lead} {inputs} -> {outputs}")


def same(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's rule, which for stride 1 is PyTorch's."""
    total = max((math.ceil(size / stride) - 1) * stride + dilation * (window - 1) + 1 - size, 0)
    return total // 2, total - total // 2


@operator(CONTRACTION, 6)
def conv2d(rng) -> Case:
    groups = one_of(rng, 1, 1, 2, 3)
    channels, filters = groups * extent(rng, 1, one_of(rng, 4, 4, 20)), groups * extent(rng, 1, one_of(rng, 5, 20))
    if rng.random() < 0.15:
        groups, filters = channels, channels * one_of(rng, 1, 2)
    window, stride, dilation = (tuple(extent(rng, 1, high) for _ in range(2)) for high in (5, 3, 2))
    reach = [d * (w - 1) + 1 for w, d in zip(window, dilation, strict=True)]
    height, width = (r + extent(rng, 0, 8) for r in reach)
    padding = one_of(rng, 1, (2, 0), (0, 1), tuple(extent(rng, 0, 3) for _ in range(4)), "same", "valid")
    if padding == "same":
        top, bottom = same(height, window[0], stride[0], dilation[0])
        left, right = same(width, window[1], stride[1], dilation[1])
    elif isinstance(padding, tuple):
        top, bottom, left, right = padding if len(padding) == 4 else np.repeat(padding, 2).tolist()
    else:
        top = bottom = left = right = 0 if padding == "valid" else padding
    arrays = [normal(rng, extent(rng, 1, 4), channels, height, width), normal(rng, filters, channels // groups, *window)]
    if rng.random() < 0.6:
        arrays.append(normal(rng, filters))

    def theirs(x, w, bias=None):
        return F.conv2d(F.pad(x, (left, right, top, bottom)), w, bias, stride, 0, dilation, groups)

    return Case(lambda x, w, bias=None: ops.conv2d(x, w, bias, stride, padding, dilation, groups), theirs, arrays, floor=1.0,
                text=f"{arrays[0].shape} {arrays[1].shape} stride={stride} padding={padding} dilation={dilation} groups={groups}")


# -- pooling ------------------------------------------------------------------------------------------------------------

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


# -- normalisation ------------------------------------------------------------------------------------------------------

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


# -- activations --------------------------------------------------------------------------------------------------------

def activation(name: str, ours: Callable, theirs: Callable, special: Sequence[float] = (0, -3, 3, 6),
               tolerance: float = POINTWISE) -> None:
    """Register a function of one tensor; ``special`` are points where its definition changes or overflow threatens."""
    def draw(rng) -> Case:
        x = normal(rng, *shape_of(rng), scale=3)
        for value in special:
            if rng.random() < 0.5:
                x.reshape(-1)[int(rng.integers(x.size))] = value
        return Case(ours, theirs, [x], text=str(x.shape))
    operator(tolerance, name=name)(draw)


activation("relu", ops.relu, F.relu)
activation("leaky_relu", lambda x: ops.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2))
activation("relu6", ops.relu6, F.relu6)
activation("elu", lambda x: ops.elu(x, 1.3), lambda x: F.elu(x, 1.3), (0, -30, 30))
activation("sigmoid", ops.sigmoid, torch.sigmoid, (0, -80, 80))
activation("tanh", ops.tanh, torch.tanh, (0, -80, 80), 1e-5)       # 1 − tanh² cancels
activation("gelu", ops.gelu, F.gelu, (0, -20, 20))
activation("gelu_tanh", lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), (0, -20, 20), 1e-5)
activation("silu", ops.silu, F.silu, (0, -80, 80))
activation("hardsigmoid", ops.hardsigmoid, F.hardsigmoid)
activation("hardswish", ops.hardswish, F.hardswish, (0, 6))
activation("neg", ops.neg, torch.neg)
activation("exp", ops.exp, torch.exp, (0, -80))
activation("abs", ops.abs, torch.abs)


@operator()
def clip(rng) -> Case:
    low, high = one_of(rng, (None, 0.5), (-1.0, None), (-1.0, 0.5), (0.0, 0.0))
    x = normal(rng, *shape_of(rng))
    x.reshape(-1)[0] = one_of(rng, -1.0, 0.5, 0.0)
    return Case(lambda x: ops.clip(x, low, high), lambda x: torch.clamp(x, low, high), [x], text=f"{low} {high}")


def of_positive(name: str, ours: Callable, theirs: Callable) -> None:
    operator(name=name)(lambda rng: Case(ours, theirs, [positive(rng, *shape_of(rng))]))


of_positive("log", ops.log, torch.log)
of_positive("sqrt", ops.sqrt, torch.sqrt)


@operator(POINTWISE, 2)
def softmax(rng) -> Case:
    x = normal(rng, *shape_of(rng), scale=2) + np.float32(one_of(rng, 0, 0, 100))
    dim = int(rng.integers(-x.ndim, x.ndim))
    return Case(lambda x: ops.softmax(x, dim), lambda x: F.softmax(x, dim), [x], floor=0.1, text=f"{x.shape} {dim}")


@operator(POINTWISE, 2)
def log_softmax(rng) -> Case:
    x = normal(rng, *shape_of(rng), scale=2) * np.float32(one_of(rng, 1, 1, 30))
    dim = int(rng.integers(-x.ndim, x.ndim))
    return Case(lambda x: ops.log_softmax(x, dim), lambda x: F.log_softmax(x, dim), [x], floor=1.0, text=f"{x.shape} {dim}")


# -- arithmetic ---------------------------------------------------------------------------------------------------------

def arithmetic(name: str, ours: Callable, theirs: Callable, make: Callable = normal) -> None:
    """Register a function of two broadcast tensors, or of a tensor and a number."""
    def draw(rng) -> Case:
        a, b = broadcast_pair(rng)
        if rng.random() < 0.2:
            value, left = float(one_of(rng, 0.75, 2.0)), rng.random() < 0.5
            return Case(lambda x: ours(value, x) if left else ours(x, value),
                        lambda x: theirs(*(torch.as_tensor(v, dtype=x.dtype) for v in ((value, x) if left else (x, value)))),
                        [make(rng, *a)], floor=1.0, text=f"{a} and {value}")
        return Case(ours, theirs, [make(rng, *a), make(rng, *b)], floor=1.0, text=f"{a} {b}")
    operator(CONTRACTION, name=name)(draw)


arithmetic("add", ops.add, torch.add)
arithmetic("sub", ops.sub, torch.sub)
arithmetic("mul", ops.mul, torch.mul)
arithmetic("div", ops.div, torch.div, positive)
arithmetic("pow", ops.pow, torch.pow, positive)
arithmetic("maximum", ops.maximum, torch.maximum)
arithmetic("minimum", ops.minimum, torch.minimum)


@operator()
def pow_of_whole_exponents(rng) -> Case:
    exponent = one_of(rng, 0, 1, 2, 3, 4, -1, -2)
    x = positive(rng, *shape_of(rng)) * one_of(rng, -1, 1)
    return Case(lambda x: ops.pow(x, exponent), lambda x: x ** exponent, [x.astype(np.float32)], text=f"{x.shape} {exponent}")


@operator()
def maximum_of_equals(rng) -> Case:
    a, b = broadcast_pair(rng)
    pair = [rng.integers(-1, 2, shape).astype(np.float32) for shape in (a, b)]
    ours, theirs = one_of(rng, (ops.maximum, torch.maximum), (ops.minimum, torch.minimum))
    return Case(ours, theirs, pair, floor=1.0, text=f"{a} {b}")


# -- reductions ---------------------------------------------------------------------------------------------------------

def reduction(name: str, ours: Callable, theirs: Callable, make: Callable = normal) -> None:
    def draw(rng) -> Case:
        x = make(rng, *shape_of(rng))
        axes = tuple(int(a) - (x.ndim if rng.random() < 0.3 else 0) for a in range(x.ndim) if rng.random() < 0.6)
        axis = one_of(rng, axes or None, None, int(rng.integers(-x.ndim, x.ndim)))
        keep = bool(rng.random() < 0.5)
        every = tuple(range(x.ndim)) if axis is None else axis
        return Case(lambda x: ours(x, axis, keep), lambda x: theirs(x, every, keep), [x], floor=1.0,
                    text=f"{x.shape} {axis} {keep}")
    operator(CONTRACTION, 2, name)(draw)


reduction("sum", ops.sum, torch.sum)
reduction("mean", ops.mean, torch.mean)
reduction("max", ops.max, torch.amax)
reduction("max_of_equals", ops.max, torch.amax, lambda rng, *shape: rng.integers(-1, 2, shape).astype(np.float32))


# -- moving elements ----------------------------------------------------------------------------------------------------

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


# -- losses -------------------------------------------------------------------------------------------------------------

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


# -- comparing ----------------------------------------------------------------------------------------------------------

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
