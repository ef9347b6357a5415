"""Networks with images in NHWC, or in blocks of channels, give what they give in NCHW, forward, backward and in inference."""

from __future__ import annotations

import numpy as np
import pytest
from networks import gradients_of

import clnn
from clnn.config import config
from clnn.ir import NHWC
from clnn.models import lenet5
from clnn.models.resnet import BasicBlock
from clnn.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from clnn.ops.relayout import Relayout

TOLERANCE = 2e-5


def small_resnet() -> Module:
    return Sequential(Conv2d(3, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2), BasicBlock(8, 8),
                      BasicBlock(8, 16, 2), AdaptiveAvgPool2d(1), Flatten(), Linear(16, 10))


def grouped() -> Module:
    return Sequential(Conv2d(6, 12, 3, groups=3, stride=2), ReLU(), Conv2d(12, 12, 3, groups=12, padding=1), MaxPool2d(3, 2, 1),
                      Flatten(), Linear(12 * 9, 10))


NETWORKS = {"lenet5": (lambda: lenet5(seed=1), (4, 1, 28, 28)), "small resnet": (small_resnet, (4, 3, 16, 16)),
            "grouped": (grouped, (4, 6, 13, 13))}


def same(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    scale = max(float(np.abs(expected).max()), 1e-6)
    assert np.abs(got - expected).max() <= TOLERANCE * scale, what


def batch(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0]).astype(np.int32)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_in_nhwc_gives_the_same_numbers(name, device_session):
    make, shape = NETWORKS[name]
    x, labels = batch(shape)
    clnn.nn.manual_seed(5)
    model = make()
    model.name_variables()
    state = model.state_dict()
    found = {}
    for layout in ("NCHW", "NHWC"):
        model.load_state_dict(state)
        with config.override(layout=layout):
            graph, loss, logits, gradients = gradients_of(model, x, labels, device_session)
        found[layout] = {"loss": loss, "logits": logits, **gradients, **{key: b.array.copy() for key, b in model.named_buffers()}}
        inside = {node.op.name for node in graph.nodes for value in node.outputs if value.spec.layout == NHWC}
        assert inside >= {"Conv2d", "MaxPool2d"} if layout == "NHWC" else not inside
        assert any(isinstance(node.op, Relayout) for node in graph.nodes) == (layout == "NHWC")
    for what, expected in found["NCHW"].items():
        same(found["NHWC"][what], expected, what)


def mobile() -> Module:
    """Thin and wide layers in turn, some by channel, from an image into blocks of channels and back."""
    return Sequential(Conv2d(3, 16, 3, stride=2, padding=1), ReLU(), Conv2d(16, 48, 1), ReLU(),
                      Conv2d(48, 48, 3, groups=48, stride=2, padding=1), ReLU(), Conv2d(48, 32, 1),
                      Conv2d(32, 32, 3, padding=1), ReLU(), Conv2d(32, 32, 3, stride=2, groups=2), AdaptiveAvgPool2d(1),
                      Flatten(), Linear(32, 10))


@pytest.mark.parametrize("layout", ["NHWC", "NCHWc"])
@pytest.mark.parametrize("name", [*NETWORKS, "mobile"])
def test_inference_in_another_layout_gives_the_same_numbers(name, layout, device, device_session):
    make, shape = (NETWORKS | {"mobile": (mobile, (4, 3, 30, 26))})[name]
    x, _ = batch(shape)
    clnn.nn.manual_seed(5)
    model = make().eval()
    results = []
    for preferred in ("NCHW", layout):
        with config.override(layout=preferred):
            step = clnn.compile(model, shape, device=device, freeze=layout == "NCHWc")
            results.append(step.run(x))
    same(results[1], results[0], "the scores")
    if name == "mobile" and layout == "NCHWc" and device_session.target.is_cpu:
        in_blocks = {node.op.name for node in step.graph.nodes for value in node.outputs if value.spec.layout.block}
        assert "Conv2d" in in_blocks
        assert {"direct_channels", "depthwise", "direct_blocks"} <= {node.lowering for node in step.graph.nodes}
