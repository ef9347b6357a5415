"""Products of matrices and convolutions."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from clnn import ops

from .draw import CONTRACTION, Case, broadcast_pair, extent, normal, one_of, operator, shape_of


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
