"""Residual networks; He et al., "Deep residual learning for image recognition", 2016. Names are torchvision's."""

from __future__ import annotations

from .. import ops
from ..ir import Value
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Identity, Linear, MaxPool2d, Module, ReLU, Sequential
from .recipe import image_shape, model

# From this size on, the images are halved twice before the first block, as in the paper; smaller ones have no pixels to spare.
_LARGE = 96


def _shortcut(channels: int, made: int, stride: int) -> Sequential | None:
    """A 1×1 convolution where the block changes the shape, otherwise nothing."""
    if stride == 1 and channels == made:
        return None
    return Sequential(Conv2d(channels, made, 1, stride, bias=False), BatchNorm2d(made))


class BasicBlock(Module):
    """relu(x + f(x)) with two 3×3 convolutions: (N, C, H, W) → (N, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Value) -> Value:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(ops.add(self.bn2(self.conv2(y)), shortcut))


class Bottleneck(Module):
    """relu(x + f(x)) with a 3×3 convolution between two of 1×1: (N, C, H, W) → (N, 4 · width, H / stride, W / stride).

    The stride is in the 3×3 convolution, as in torchvision ("ResNet v1.5"); the paper has it in the first 1×1.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        made = width * self.expansion
        self.conv1 = Conv2d(channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = Conv2d(width, made, 1, bias=False)
        self.bn3 = BatchNorm2d(made)
        self.relu = ReLU()
        self.downsample = _shortcut(channels, made, stride)

    def forward(self, x: Value) -> Value:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(ops.add(self.bn3(self.conv3(y)), shortcut))


class ResNet(Module):
    """A stem, four stages of blocks, the mean over each channel, one fully connected layer.

    Args:
        block: the kind of block.
        counts: blocks in each stage; the first of all stages but the first halves the image.
        large: whether the stem halves the image twice.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], counts: tuple[int, int, int, int], classes: int, channels: int,
                 large: bool):
        super().__init__()
        self.conv1 = Conv2d(channels, 64, 7, 2, 3, bias=False) if large else Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, 1) if large else Identity()
        widths = [64 << stage for stage in range(4)]
        inputs = [64, *(width * block.expansion for width in widths)]
        stages = [Sequential(block(inputs[i], width, 1 if i == 0 else 2),
                             *(block(inputs[i + 1], width) for _ in range(counts[i] - 1))) for i, width in enumerate(widths)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(inputs[-1], classes)

    def forward(self, x: Value) -> Value:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.avgpool(x)))


@model(lambda classes, shape: {"classes": classes, **image_shape("resnet18", shape)})
def resnet18(classes: int = 10, channels: int = 3, size: int = 32) -> ResNet:
    """ResNet-18: (N, channels, H, W) → (N, classes) scores.

    Args:
        size: extent of the images. Below 96 the stem is a 3×3 convolution without pooling, the form for CIFAR's 32×32; from 96 on
            it is the paper's 7×7 convolution of stride 2 with max pooling, and torchvision's weights fit.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, channels, size >= _LARGE)


@model(lambda classes, shape: {"classes": classes, **image_shape("resnet50", shape)})
def resnet50(classes: int = 1000, channels: int = 3, size: int = 224) -> ResNet:
    """ResNet-50: (N, channels, H, W) → (N, classes) scores.

    Args:
        size: extent of the images, which chooses the stem as in :func:`resnet18`.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, channels, size >= _LARGE)
