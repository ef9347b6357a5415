"""Residual networks; He et al., "Deep residual learning for image recognition", 2016. Names are torchvision's."""

from __future__ import annotations

from .. import ops
from ..ir import Value
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Identity, Linear, MaxPool2d, Module, ReLU, Sequential
from .recipe import image_shape, model

# From this size on, the images are halved twice before the first block, as in the paper; smaller ones have no pixels to spare.
_LARGE = 96


class BasicBlock(Module):
    """relu(x + f(x)) with two 3×3 convolutions: (N, C, H, W) → (N, width, H / stride, W / stride)."""

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        same = stride == 1 and channels == width
        self.downsample = None if same else Sequential(Conv2d(channels, width, 1, stride, bias=False), BatchNorm2d(width))

    def forward(self, x: Value) -> Value:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(ops.add(self.bn2(self.conv2(y)), shortcut))


class ResNet(Module):
    """A stem, four stages of two blocks, the mean over each channel, one fully connected layer."""

    def __init__(self, classes: int, channels: int, large: bool):
        super().__init__()
        self.conv1 = Conv2d(channels, 64, 7, 2, 3, bias=False) if large else Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, 1) if large else Identity()
        self.layer1 = Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128))
        self.layer3 = Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256))
        self.layer4 = Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(512, classes)

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
    return ResNet(classes, channels, size >= _LARGE)
