"""MobileNetV2; Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018. Names are torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops
from ..errors import ArgumentError
from ..ir import Value
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, Module, ReLU6, Sequential
from .recipe import image_shape, model

#: expansion, channels, blocks, stride of the first block
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM, _LAST = 32, 1280


def _normed(channels: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> Sequential:
    """Convolution, batch normalisation, ReLU6."""
    return Sequential(Conv2d(channels, made, kernel, stride, kernel // 2, groups=groups, bias=False), BatchNorm2d(made), ReLU6())


class InvertedResidual(Module):
    """Widen by 1×1, filter each channel by 3×3, narrow by 1×1 without activation; added to the input if the shapes agree."""

    def __init__(self, channels: int, made: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        layers: list[Module] = [] if expansion == 1 else [_normed(channels, wide, 1)]
        layers.append(_normed(wide, wide, 3, stride, wide))
        self.conv = Sequential(*layers, Conv2d(wide, made, 1, bias=False), BatchNorm2d(made))
        self.residual = stride == 1 and channels == made

    def forward(self, x: Value) -> Value:
        y = self.conv(x)
        return ops.add(x, y) if self.residual else y


def _mobilenet_v2_for(classes: int, shape: Sequence[int]) -> dict:
    found = image_shape("mobilenet_v2", shape)
    size = found.pop("size")
    if size < 32:
        raise ArgumentError("the images are too small", where="models.mobilenet_v2", got=f"size={size}", expected="at least 32")
    return {"classes": classes, **found}


@model(_mobilenet_v2_for)
def mobilenet_v2(classes: int = 1000, channels: int = 3, dropout: float = 0.2) -> Sequential:
    """MobileNetV2 of width 1: (N, channels, H, W) → (N, classes) scores; H and W at least 32, 224 in the paper.

    Parameters have torchvision's names and shapes.
    """
    layers: list[Module] = [_normed(channels, _STEM, 3, 2)]
    inputs = _STEM
    for expansion, made, blocks, stride in _STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(inputs, made, 1 if block else stride, expansion))
            inputs = made
    layers.append(_normed(inputs, _LAST, 1))
    return Sequential({"features": Sequential(*layers), "avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
                       "classifier": Sequential(Dropout(dropout), Linear(_LAST, classes))})
