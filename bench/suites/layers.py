"""Convolutions: every distinct layer of the networks, in the three directions. The shapes are read off clnn.models."""

from __future__ import annotations

import math

import numpy as np

from bench.cases import Case, convolution_reference
from bench.measure import Competition
from bench.options import Options
from clnn import models
from clnn.compiler import trace
from clnn.ir import TensorSpec
from clnn.nn import init, seeded
from clnn.ops import Conv2d

#: network → builder and shape of one image
NETWORKS = {
    "resnet50": (lambda: models.resnet50(), (3, 224, 224)),
    "vgg16": (lambda: models.vgg16(), (3, 224, 224)),
    "mobilenet_v2": (lambda: models.mobilenet_v2(), (3, 224, 224)),
    "resnet18-cifar": (lambda: models.resnet18(), (3, 32, 32)),
    "lenet5": (lambda: models.lenet5(), (1, 28, 28)),
}
#: channels, filters, image, filter size, stride, padding. Source: Krizhevsky, "One weird trick for parallelizing convolutional
#: neural networks", 2014
ALEXNET = ((3, 64, 224, 11, 4, 2), (64, 192, 27, 5, 1, 2), (192, 384, 13, 3, 1, 1), (384, 256, 13, 3, 1, 1),
           (256, 256, 13, 3, 1, 1))
#: what --quick takes: a stem, 3×3 of two sizes, 1×1 of two sizes, depthwise
QUICK = ("3→64 224² 7×7/2", "64→64 56² 3×3", "256→256 14² 3×3", "64→256 56² 1×1", "1024→256 14² 1×1", "144→144 56² 3×3 g144")
DIRECTIONS = ("fprop", "dgrad", "wgrad")

Layer = tuple[int, int, int, int, int, int, int]        # channels, filters, image, filter size, stride, padding, groups


def layers() -> dict[Layer, list[str]]:
    """Distinct layers and the networks that have them, in the order in which they are met."""
    found: dict[Layer, list[str]] = {}
    for name, (build, shape) in NETWORKS.items():
        for layer in _traced(build, shape):
            if name not in found.setdefault(layer, []):
                found[layer].append(name)
    for layer in ALEXNET:
        found.setdefault((*layer, 1), []).append("alexnet")
    return found


def _traced(build, shape: tuple[int, ...]) -> list[Layer]:
    """The convolutions of a model. Only shapes are wanted, so the initial values, which take seconds, are left out."""
    normal, init.he_normal = init.he_normal, _zeros
    try:
        with seeded(0):
            model = build()
    finally:
        init.he_normal = normal
    graph, _ = trace(model, [TensorSpec((2, *shape))])
    found = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2d):
            x, w = (value.shape for value in node.inputs)
            found.append((x[1], w[0], x[2], w[2], node.op.stride[0], node.op.padding[0], node.op.groups))
    return found


def _zeros(shape, generator=None):
    return np.zeros(shape, np.float32)


def name_of(layer: Layer) -> str:
    """Such as ``64→128 56² 3×3/2``."""
    channels, made, size, window, stride, _, groups = layer
    strided, grouped = f"/{stride}" if stride > 1 else "", f" g{groups}" if groups > 1 else ""
    return f"{channels}→{made} {size}² {window}×{window}{strided}{grouped}"


def case(layer: Layer, batch: int, direction: str, group: str) -> Case:
    channels, made, size, window, stride, padding, groups = layer
    out = (size + 2 * padding - window) // stride + 1
    shapes = {"x": (batch, channels, size, size), "w": (made, channels // groups, window, window), "dy": (batch, made, out, out)}
    result = {"fprop": "dy", "dgrad": "x", "wgrad": "w"}[direction]
    order = {"fprop": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}[direction]
    products = batch * made * out * out * channels // groups * window * window
    params = {"channels": channels, "made": made, "window": window, "stride": stride, "padding": padding, "groups": groups,
              "image": list(shapes["x"]), "batch": batch}
    moved = 4 * sum(map(math.prod, shapes.values()))
    return Case(f"{name_of(layer)} {direction}", direction, params, {name: shapes[name] for name in order}, 2 * products, moved,
                group, outputs=(shapes[result],))


def cases(batch: int, quick: bool) -> list[Case]:
    return [case(layer, batch, direction, ", ".join(networks)) for layer, networks in layers().items()
            if not quick or name_of(layer) in QUICK for direction in DIRECTIONS]


def run(options: Options) -> dict:
    batch = options.batch or ((4 if options.quick else 16) if options.is_cpu else 64)
    layouts = ("NCHW", "NHWC", "NCHWc") if options.is_cpu else ("NCHW", "NHWC")
    return Competition("layers", options, lambda made, _, indices, values: convolution_reference(made, indices),
                       own_variants=tuple({"layout": layout} for layout in layouts)).run(cases(batch, options.quick))
