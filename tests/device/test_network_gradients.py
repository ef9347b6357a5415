"""Whole networks beside torch twins in float64: loss, logits, every gradient, running statistics, and three optimiser steps.

Errors are judged on the scale of each reference tensor; the reference is double precision. Where an activation lies so near 0
that rounding decides its sign, a whole gradient element comes or goes, so batches are drawn until no activation of the reference
does. That is impossible for a ResNet-18 of 32×32 pixels (two million activations), which is compared with the smooth SiLU in
place of ReLU instead, and with ReLU on 16 images of 8×8. For the same reason networks with ReLU are compared with the smaller
Winograd tiles, whose rounding stays within that distance. In later steps signs may differ again, but there the learning rate
makes little of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from networks import gradients_of

from clnn import ops
from clnn.compiler import append_training, build
from clnn.config import config
from clnn.ir import Graph, TensorSpec
from clnn.models import lenet5, resnet18, vgg_small
from clnn.nn import Dropout, Module, SiLU
from clnn.ops.step import StepState
from clnn.optim import SGD
from clnn.passes import TRAINING

torch = pytest.importorskip("torch", reason="the networks are judged by PyTorch, which is not installed")
nn = torch.nn

pytestmark = pytest.mark.slow
RATE, MOMENTUM, DECAY, STEPS = 0.002, 0.9, 5e-4, 3
#: no activation of a batch lies nearer to 0
MARGIN = 2e-6


# -- the twins ----------------------------------------------------------------------------------------------------------

class Twin(nn.Module):
    """features, flatten, classifier."""

    def __init__(self, features: list, classifier: list):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

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
    def __init__(self, channels: int, width: int, stride: int, activation: type):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        same = stride == 1 and channels == width
        shortcut = nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.downsample = None if same else nn.Sequential(*shortcut)
        self.relu = activation()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, activation: type = nn.ReLU):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), activation()
        channels = 64
        for number, width in enumerate((64, 128, 256, 512)):
            blocks = Block(channels, width, 1 if number == 0 else 2, activation), Block(width, width, 1, activation)
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
            channels = width
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


def smooth_resnet18() -> Module:
    """Our ResNet-18 with SiLU in place of ReLU."""
    model = resnet18(seed=3)
    for module in model.modules():
        if "relu" in module._modules:
            module.relu = SiLU()
    return model


@dataclass
class Network:
    """``tolerance`` holds for one step, ``later`` for the parameters after several."""

    ours: Callable[[], Module]
    theirs: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tolerance: float
    later: float


NETWORKS = {
    "lenet5": Network(lambda: lenet5(seed=1), torch_lenet5, (8, 1, 28, 28), 1e-5, 1e-4),
    "vgg_small": Network(lambda: vgg_small(size=8, seed=2), torch_vgg_small, (6, 3, 8, 8), 2e-5, 1e-4),
    "resnet18": Network(lambda: resnet18(seed=3), ResNet, (16, 3, 8, 8), 5e-5, 5e-4),
    "resnet18 with SiLU": Network(smooth_resnet18, lambda: ResNet(nn.SiLU), (4, 3, 32, 32), 5e-5, 5e-4),
}


@pytest.fixture(autouse=True)
def winograd_tiles(name):
    """F(4×4) only where no sign can change."""
    with config.override(winograd="f4" if "SiLU" in name else "f2"):
        yield


# -- running ours -------------------------------------------------------------------------------------------------------

def without_dropout(model: Module) -> Module:
    """Masks differ between frameworks, so dropout is off on both sides."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    model.name_variables()
    return model


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
        self.network = network = NETWORKS[name]
        rng = np.random.default_rng(11)
        self.ours, self.theirs = without_dropout(network.ours()), network.theirs().double()
        # weights and offsets of the normalisations away from 1 and 0, so that they matter
        for _, parameter in self.ours.named_parameters():
            if parameter.array.ndim == 1:
                parameter.array[...] += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
        self.load()
        self.labels = rng.integers(0, 10, network.shape[0]).astype(np.int32)
        for _ in range(40):
            self.x = rng.standard_normal(network.shape).astype(np.float32)
            if self.margin() >= MARGIN:
                break
        else:
            pytest.fail("no batch keeps all activations away from 0")
        self.load()                         # the search moved the running statistics

    def load(self) -> None:
        state = {key: torch.tensor(array) for key, array in self.ours.state_dict().items()}
        missing, unexpected = self.theirs.load_state_dict(state, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)

    def margin(self) -> float:
        """The smallest distance of a ReLU's input from 0."""
        found = [np.inf]
        hooks = [module.register_forward_pre_hook(lambda _, x: found.append(x[0].abs().min().item()))
                 for module in self.theirs.modules() if isinstance(module, nn.ReLU)]
        with torch.no_grad():
            self.theirs(torch.tensor(self.x, dtype=torch.float64))
        for hook in hooks:
            hook.remove()
        return min(found)

    def loss(self):
        output = self.theirs(torch.tensor(self.x, dtype=torch.float64))
        return nn.functional.cross_entropy(output, torch.tensor(self.labels.astype(np.int64))), output

    def check(self, got: np.ndarray, expected, what: str, tolerance: float | None = None) -> None:
        wanted, allowed = expected.detach().numpy(), tolerance or self.network.tolerance
        assert got.shape == wanted.shape, f"{what}: shape {got.shape}, expected {wanted.shape}"
        error = float(np.abs(got - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)
        assert error <= allowed, f"{what} is off by {error:.3g} of the largest element, allowed {allowed:g}"


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_every_parameter(name, device_session):
    pair = Pair(name)
    _, loss, logits, gradients = gradients_of(pair.ours, pair.x, pair.labels, device_session)
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
        pair.check(np.float32(losses[number]), loss, f"the loss of step {number}", pair.network.later)
    assert losses[-1] < losses[0]
    expected = pair.theirs.state_dict()
    for path, array in pair.ours.state_dict().items():
        if not path.endswith("num_batches_tracked"):
            pair.check(array, expected[path], path, pair.network.later)
