"""Whole networks beside torch twins in float64: loss, logits, every gradient, running statistics, and three optimiser steps.

Errors are judged on the scale of each reference tensor. The reference is double precision, so the tolerance is what single precision
loses on the way: 17 layers of batch normalisation over few images amplify roundings most, where they flip the sign of an activation
near 0 a whole gradient element moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from clnn import ops
from clnn.autodiff import differentiate
from clnn.compiler import append_training, build
from clnn.ir import Graph, TensorSpec
from clnn.models import lenet5, resnet18, vgg_small
from clnn.nn import Dropout, Module
from clnn.ops.step import StepState
from clnn.optim import SGD
from clnn.passes import TRAINING

torch = pytest.importorskip("torch", reason="the networks are judged by PyTorch, which is not installed")
nn = torch.nn

RATE, MOMENTUM, DECAY, STEPS = 0.01, 0.9, 5e-4, 3


# -- the twins ----------------------------------------------------------------------------------------------------------

def sequential(layers: list) -> nn.Sequential:
    return nn.Sequential(*layers)


class Twin(nn.Module):
    """features, flatten, classifier."""

    def __init__(self, features: list, classifier: list):
        super().__init__()
        self.features, self.classifier = sequential(features), sequential(classifier)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def torch_lenet5() -> nn.Module:
    return Twin([nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)],
                [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)])


def torch_vgg_small() -> nn.Module:
    layers, channels = [], 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return Twin(layers, [nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.0), nn.Linear(256, 10)])


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        same = stride == 1 and channels == width
        self.downsample = None if same else sequential([nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)])

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for number, width in enumerate((64, 128, 256, 512)):
            stride = 1 if number == 0 else 2
            setattr(self, f"layer{number + 1}", sequential([Block(channels, width, stride), Block(width, width, 1)]))
            channels = width
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


@dataclass
class Network:
    ours: Callable[[], Module]
    theirs: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tolerance: float


NETWORKS = {
    "lenet5": Network(lambda: lenet5(seed=1), torch_lenet5, (8, 1, 28, 28), 2e-5),
    "vgg_small": Network(lambda: vgg_small(size=8, seed=2), torch_vgg_small, (6, 3, 8, 8), 2e-4),
    "resnet18": Network(lambda: resnet18(seed=3), ResNet, (4, 3, 32, 32), 1e-3),
}


# -- running ours -------------------------------------------------------------------------------------------------------

def without_dropout(model: Module) -> Module:
    """Masks differ between frameworks, so dropout is off on both sides."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    model.name_variables()
    return model


def gradients_of(model: Module, x: np.ndarray, labels: np.ndarray, session) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(loss, logits, gradient by parameter name) of one training step; running statistics are updated and pulled."""
    graph = Graph()
    given, target = graph.input(TensorSpec(x.shape), "x"), graph.input(TensorSpec(labels.shape, "int32"), "labels")
    output = model(given)
    loss = ops.cross_entropy(output, target)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = differentiate(graph, [loss], [graph.constant(1.0)], [graph.variable(p) for p in parameters])
    graph.outputs = [loss, output, *gradients]
    _, executable = build(graph, session, TRAINING)
    executable.write("x", x)
    executable.write("labels", labels)
    executable.run()
    found = [executable.read(value) for value in executable.plan.outputs]
    for buffer in model.buffers():
        session.pull(buffer)
    session.release(model.state_variables().values())
    return found[0], found[1], dict(zip(names, found[2:], strict=True))


def train(model: Module, x: np.ndarray, labels: np.ndarray, session) -> list[float]:
    """The losses of a few steps of SGD with momentum on the same batch; the model's arrays are updated."""
    graph, state = Graph(), StepState()
    state.rate.array[...] = RATE
    given, target = graph.input(TensorSpec(x.shape), "x"), graph.input(TensorSpec(labels.shape, "int32"), "labels")
    loss = ops.cross_entropy(model(given), target)
    optimizer = SGD(RATE, MOMENTUM, weight_decay=DECAY)
    append_training(graph, loss, list(model.parameters()), optimizer, graph.variable(state.rate), graph.variable(state.step))
    graph.outputs = [loss]
    _, executable = build(graph, session, TRAINING)
    executable.write("x", x)
    executable.write("labels", labels)
    losses = []
    for _ in range(STEPS):
        executable.run()
        losses.append(float(executable.read(executable.plan.outputs[0])))
    variables = [value.source for value in graph.variables]
    for variable in variables:
        session.pull(variable)
    session.release(variables)
    return losses


# -- comparing ----------------------------------------------------------------------------------------------------------

class Pair:
    """A network of ours and its twin with the same weights, and a batch."""

    def __init__(self, name: str):
        network = NETWORKS[name]
        rng = np.random.default_rng(11)
        self.tolerance = network.tolerance
        self.x = rng.standard_normal(network.shape).astype(np.float32)
        self.labels = rng.integers(0, 10, network.shape[0]).astype(np.int32)
        self.ours, self.theirs = without_dropout(network.ours()), network.theirs().double()
        # weights and offsets of the normalisations away from 1 and 0, so that they matter
        for path, parameter in self.ours.named_parameters():
            if "bn" in path or parameter.array.ndim == 1:
                parameter.array[...] += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
        state = {key: torch.tensor(array) for key, array in self.ours.state_dict().items()}
        missing, unexpected = self.theirs.load_state_dict(state, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)

    def loss(self):
        output = self.theirs(torch.tensor(self.x, dtype=torch.float64))
        return nn.functional.cross_entropy(output, torch.tensor(self.labels.astype(np.int64))), output

    def check(self, got: np.ndarray, expected, what: str) -> float:
        wanted = expected.detach().numpy()
        assert got.shape == wanted.shape, f"{what}: shape {got.shape}, expected {wanted.shape}"
        error = float(np.abs(got - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)
        assert error <= self.tolerance, f"{what} is off by {error:.3g} of the largest element, allowed {self.tolerance:g}"
        return error


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_every_parameter(name, device_session):
    pair = Pair(name)
    loss, logits, gradients = gradients_of(pair.ours, pair.x, pair.labels, device_session)
    expected, output = pair.loss()
    expected.backward()
    pair.check(loss, expected, "the loss")
    pair.check(logits, output, "the logits")
    parameters = dict(pair.theirs.named_parameters())
    assert set(gradients) == set(parameters)
    for path, gradient in gradients.items():
        pair.check(gradient, parameters[path].grad, f"the gradient of {path}")
    statistics = {path: b for path, b in pair.theirs.named_buffers() if not path.endswith("num_batches_tracked")}
    for path, buffer in pair.ours.named_buffers():
        if path in statistics:
            pair.check(buffer.array, statistics.pop(path), path)
    assert not statistics


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_after_three_steps(name, device_session):
    pair = Pair(name)
    losses = train(pair.ours, pair.x, pair.labels, device_session)
    optimizer = torch.optim.SGD(pair.theirs.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    for number in range(STEPS):
        optimizer.zero_grad()
        loss, _ = pair.loss()
        loss.backward()
        optimizer.step()
        pair.check(np.float32(losses[number]), loss, f"the loss of step {number}")
    assert losses[-1] < losses[0]
    expected = pair.theirs.state_dict()
    for path, array in pair.ours.state_dict().items():
        if not path.endswith("num_batches_tracked"):
            pair.check(array, expected[path], path)
