"""Activations and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from clnn import ops

from .draw import POINTWISE, Case, normal, one_of, operator, positive, shape_of


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
