"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ..errors import ArgumentError
from ..nn import ELU, GELU, Flatten, Identity, LeakyReLU, Linear, Module, ReLU, ReLU6, Sequential, Sigmoid, SiLU, Tanh
from .recipe import model

ACTIVATIONS: dict[str, type[Module]] = {
    "relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh, "leaky_relu": LeakyReLU, "relu6": ReLU6, "elu": ELU, "gelu": GELU,
    "silu": SiLU, "none": Identity}


def _activation(name: str) -> Module:
    if name not in ACTIVATIONS:
        raise ArgumentError("unknown activation", where="models.mlp", got=f"activation={name!r}", expected=", ".join(ACTIVATIONS))
    return ACTIVATIONS[name]()


def _network(sizes: Sequence[int], activation: str | Sequence[str]) -> Sequential:
    """Flatten, then Linear layers with an activation after each but the last."""
    if len(sizes) < 2:
        raise ArgumentError("needs at least an input and an output size", where="models.mlp", got=tuple(sizes),
                            expected="mlp(784, 10)")
    hidden = len(sizes) - 2
    activations = [activation] * hidden if isinstance(activation, str) else list(activation)
    if len(activations) != hidden:
        raise ArgumentError("needs one activation per hidden layer", where="models.mlp", got=f"{len(activations)} activations",
                            expected=f"{hidden}, or one name for all")
    layers: list[Module] = [Flatten()]
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(Linear(inputs, outputs))
        if number < hidden:
            layers.append(_activation(activations[number]))
    return Sequential(*layers)


def _inputs(shape: Sequence[int]) -> int:
    return math.prod(shape)


@model(lambda classes, shape, hidden=(512, 256): {"sizes": (_inputs(shape), *hidden, classes)})
def mlp(*sizes: int, activation: str | Sequence[str] = "relu") -> Sequential:
    """A multi-layer perceptron: (N, …) with sizes[0] elements per sample → (N, sizes[-1]) scores.

    Args:
        sizes: inputs, the width of each hidden layer, classes: ``mlp(784, 512, 256, 10)``.
        activation: one name for all hidden layers, or a list with one per hidden layer.
    """
    return _network(sizes, activation)


@model(lambda classes, shape: {"inputs": _inputs(shape), "classes": classes})
def one_hidden(inputs: int = 784, hidden: int = 300, classes: int = 10, activation: str = "sigmoid") -> Sequential:
    """One hidden layer; 300 units as in LeCun et al., "Gradient-based learning applied to document recognition", 1998."""
    return _network((inputs, hidden, classes), activation)


@model(lambda classes, shape: {"inputs": _inputs(shape), "classes": classes})
def two_hidden(inputs: int = 784, hidden: Sequence[int] = (512, 256), classes: int = 10,
               activation: str | Sequence[str] = "relu") -> Sequential:
    """Two hidden layers."""
    if not isinstance(hidden, Sequence) or len(hidden) != 2:
        raise ArgumentError("hidden must be a pair of widths", where="models.two_hidden", got=f"hidden={hidden!r}",
                            expected="(512, 256)")
    return _network((inputs, *hidden, classes), activation)
