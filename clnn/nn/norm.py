"""Batch normalisation layers."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from .. import ops
from ..codegen.expr import Expr, arg
from ..errors import ArgumentError, ShapeError
from ..ir import Graph, Value, Variable
from ..ops import Map
from .checks import number, whole
from .module import Module
from .parameter import Parameter

# A kernel takes at most 1024 bytes of arguments on the smallest devices, and each counter is read and written.
_MOST_COUNTERS = 32
_COUNTERS = "num_batches_tracked"


class _BatchNorm(Module):
    """y = (x − E[x]) / √(Var[x] + eps) · weight + bias per channel; Ioffe and Szegedy, "Batch normalization", 2015.

    In training mode the statistics are those of the batch, and the graph's updates contain
    running_x ← (1 − momentum) · running_x + momentum · x (with the unbiased variance, as in torch). In evaluation mode the
    running statistics are used.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        affine: whether ``weight`` (ones) and ``bias`` (zeros), each (C,), are trained.
        track_running_stats: False keeps no running statistics; those of the batch are used in both modes.
    """

    ranks: tuple[int, ...] = ()
    form = ""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True,
                 track_running_stats: bool = True):
        super().__init__()
        layer = type(self).__name__
        self.num_features = whole(layer, "num_features", num_features)
        self.eps = number(layer, "eps", eps, 0, open_low=True)
        if momentum is None:
            raise ArgumentError("cumulative averages (momentum=None) are not supported", where=layer,
                                expected="0 <= momentum <= 1")
        self.momentum = number(layer, "momentum", momentum, 0, math.nextafter(1, 2))
        self.affine = bool(affine)
        self.register_parameter("weight", Parameter(np.ones(self.num_features, np.float32)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(self.num_features, np.float32)) if affine else None)
        self.track_running_stats = tracked = bool(track_running_stats)
        self.register_buffer("running_mean", np.zeros(self.num_features, np.float32) if tracked else None)
        self.register_buffer("running_var", np.ones(self.num_features, np.float32) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def forward(self, x: Value) -> Value:
        if len(x.shape) not in self.ranks:
            raise ShapeError(f"the input has {len(x.shape)} axes", got=f"shape {x.shape}", expected=self._expected())
        if x.shape[1] != self.num_features:
            raise ShapeError(f"num_features (={self.num_features}) does not fit the input, which has {x.shape[1]} channels",
                             got=f"shape {x.shape}", expected=self._expected())
        y = ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps)
        if self.training and self.num_batches_tracked is not None:
            count_batch(x.graph, self.num_batches_tracked)
        return y

    def _expected(self) -> str:
        return self.form.format(C=self.num_features)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L). See :class:`BatchNorm2d` for the arguments."""

    ranks, form = (2, 3), "(N, {C}) or (N, {C}, L)"


class BatchNorm2d(_BatchNorm):
    __doc__ = f"Batch normalisation of (N, C, H, W).\n\n    {_BatchNorm.__doc__}"

    ranks, form = (4,), "(N, {C}, H, W)"


def count_batch(graph: Graph, counter: Variable) -> None:
    """Register counter ← counter + 1, in one node for all counters of a graph, so that 20 layers do not cost 20 launches."""
    value = graph.variable(counter)
    present = [node for node in graph.nodes if node.path == _COUNTERS]
    joined = [node for node in present if value in node.inputs] or [n for n in present if len(n.inputs) < _MOST_COUNTERS]
    steps: dict[Value, Expr] = {}
    for node in joined[:1]:
        steps.update(zip(node.inputs, cast(Map, node.op).exprs, strict=True))
        graph.remove({node})
    steps[value] = steps.get(value, arg(len(steps))) + 1.0
    op = Map(tuple(steps.values()), (counter.spec.dtype,) * len(steps))
    graph.updates.update(zip(steps, graph.add(op, list(steps), _COUNTERS), strict=True))
