"""What ``clnn tune`` can be told to tune besides a model: suites of models, layers and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..tune.problem import Problem

#: suite → what it stands for
SUITES: dict[str, tuple[str, ...]] = {
    "small": ("mlp@64", "lenet5@64"),
    "cifar": ("vgg_small@128", "resnet18@128"),
    "imagenet": ("resnet50@64", "mobilenet_v2@64", "resnet18@64@3,224,224"),
}
#: suites of single operators, by the number of images that they are tuned for unless told otherwise
OPERATORS = {"conv": 64, "gemm": 1}
#: networks whose convolutions make up ``conv``, with the shape of an image
NETWORKS = {"resnet50": (3, 224, 224), "vgg16": (3, 224, 224), "mobilenet_v2": (3, 224, 224), "resnet18": (3, 32, 32),
            "lenet5": (1, 28, 28)}
#: channels, filters, image, filter size, stride, padding. Source: Krizhevsky, "One weird trick for parallelizing convolutional
#: neural networks", 2014
ALEXNET = ((3, 64, 224, 11, 4, 2), (64, 192, 27, 5, 1, 2), (192, 384, 13, 3, 1, 1), (384, 256, 13, 3, 1, 1),
           (256, 256, 13, 3, 1, 1))
SQUARES = {"cpu": (512, 1024, 2048), "gpu": (512, 1024, 2048, 4096, 8192)}
#: M, N, K of layers, a tall and a flat product, a long sum, and matrix times vector
ODD = ((128, 512, 784), (128, 10, 256), (64, 4096, 4096), (4096, 64, 1024), (64, 64, 16384), (1, 4096, 4096), (4096, 1, 4096))


class Named(NamedTuple):
    """A problem and what it is called."""

    name: str
    problem: Problem


def operators(suite: str, batch: int | None, kind: str) -> Iterator[Named]:
    """The problems of a suite of :data:`OPERATORS`."""
    return _convolutions(batch or OPERATORS[suite]) if suite == "conv" else _products(kind)


def _products(kind: str) -> Iterator[Named]:
    from ..ir import TensorSpec
    from ..ops import Matmul
    for m, n, k in (*((n, n, n) for n in SQUARES["cpu" if kind == "cpu" else "gpu"]), *ODD):
        for form in ("NN", "NT", "TN"):
            op = Matmul(form[0] == "T", form[1] == "T")
            inputs = (TensorSpec((k, m) if op.transpose_a else (m, k)), TensorSpec((n, k) if op.transpose_b else (k, n)))
            yield Named(f"{m}x{n}x{k} {form}", Problem(op, inputs, op.infer(*inputs)))


def _convolutions(batch: int) -> Iterator[Named]:
    from ..ir import TensorSpec
    from ..ops import Conv2d, Conv2dDgrad, Conv2dWgrad
    layers = {layer: None for name, shape in NETWORKS.items() for layer in _layers(name, shape)}
    layers |= dict.fromkeys((*layer, 1) for layer in ALEXNET)
    for channels, made, size, window, stride, padding, groups in layers:
        options = {"stride": (stride, stride), "padding": (padding,) * 4, "groups": groups}
        x, w = TensorSpec((batch, channels, size, size)), TensorSpec((made, channels // groups, window, window))
        y = Conv2d(**options).infer(x, w)[0]
        name = f"{channels}-{made} {size} {window}x{window}" + (f"/{stride}" if stride > 1 else "")
        yield Named(f"{name} fprop", Problem(Conv2d(**options), (x, w), (y,)))
        yield Named(f"{name} dgrad", Problem(Conv2dDgrad(**options, size=x.shape[2:]), (y, w), (x,)))
        wgrad = Conv2dWgrad(**options, window=w.shape[2:])
        yield Named(f"{name} wgrad", Problem(wgrad, (x, y), wgrad.infer(x, y)))


def _layers(name: str, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The convolutions of a model: channels, filters, image, filter size, stride, padding, groups."""
    from .. import models
    from ..compiler import trace
    from ..ir import TensorSpec
    from ..ops import Conv2d
    graph, _ = trace(models.build(name, 10, shape), [TensorSpec((2, *shape))])
    found = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2d):
            x, w = (value.shape for value in node.inputs)
            found.append((x[1], w[0], x[2], w[2], node.op.stride[0], node.op.padding[0], node.op.groups))
    return found
