"""VGG networks; Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ArgumentError
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from .recipe import image_shape, model

#: widths of the 3×3 convolutions; a 0 is a pooling layer
_SMALL = (64, 64, 0, 128, 128, 0, 256, 256, 0)
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def _features(widths: Sequence[int], channels: int, norm: bool) -> Sequential:
    layers: list[Module] = []
    for width in widths:
        if not width:
            layers.append(MaxPool2d(2))
            continue
        layers.append(Conv2d(channels, width, 3, padding=1, bias=not norm))
        layers += [BatchNorm2d(width), ReLU()] if norm else [ReLU()]
        channels = width
    return Sequential(*layers)


def _check_size(name: str, size: int, lowest: int) -> None:
    if size < lowest:
        raise ArgumentError("the images are too small", where=f"models.{name}", got=f"size={size}", expected=f"at least {lowest}")


@model(lambda classes, shape: {"classes": classes, **image_shape("vgg_small", shape)})
def vgg_small(classes: int = 10, channels: int = 3, size: int = 32) -> Sequential:
    """Six 3×3 convolutions with batch normalisation in three stages: (N, channels, size, size) → (N, classes) scores."""
    _check_size("vgg_small", size, 8)
    classifier = Sequential(Linear(256 * (size // 8) ** 2, 256), ReLU(), Dropout(0.5), Linear(256, classes))
    return Sequential({"features": _features(_SMALL, channels, norm=True), "flatten": Flatten(), "classifier": classifier})


def _vgg16_for(classes: int, shape: Sequence[int]) -> dict:
    found = image_shape("vgg16", shape)
    _check_size("vgg16", found.pop("size"), 32)
    return {"classes": classes, **found}


@model(_vgg16_for)
def vgg16(classes: int = 1000, channels: int = 3, dropout: float = 0.5) -> Sequential:
    """VGG-16, configuration D: (N, channels, H, W) → (N, classes) scores; H and W at least 32, 224 in the paper.

    Parameters have torchvision's names and shapes (138 million of them for 1000 classes).
    """
    classifier = Sequential(Linear(512 * 7 * 7, 4096), ReLU(), Dropout(dropout), Linear(4096, 4096), ReLU(), Dropout(dropout),
                            Linear(4096, classes))
    return Sequential({"features": _features(_VGG16, channels, norm=False), "avgpool": AdaptiveAvgPool2d(7), "flatten": Flatten(),
                       "classifier": classifier})
