"""The networks of clnn.models in PyTorch, with the same parameter names, so that one state fits both."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def _dropout(p: float) -> nn.Module:
    """Nothing where p is 0: PyTorch's module would still make a mask."""
    return nn.Dropout(p) if p else nn.Identity()


def mlp(sizes) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if number < len(sizes) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _named(**parts: nn.Module) -> nn.Sequential:
    made = nn.Sequential()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def lenet5() -> nn.Sequential:
    features = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
    classifier = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    return _named(features=features, flatten=nn.Flatten(), classifier=classifier)


def vgg16(classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(nn.Linear(512 * 49, 4096), nn.ReLU(inplace=True), _dropout(dropout), nn.Linear(4096, 4096),
                               nn.ReLU(inplace=True), _dropout(dropout), nn.Linear(4096, classes))
    return _named(features=nn.Sequential(*layers), avgpool=nn.AdaptiveAvgPool2d(7), flatten=nn.Flatten(), classifier=classifier)


class Block(nn.Module):
    """A residual block: convolutions of (width, kernel, stride), named conv1, bn1, conv2 …"""

    def __init__(self, channels: int, convolutions, stride: int):
        super().__init__()
        inputs, self.count = channels, len(convolutions)
        for number, (width, kernel, step) in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, width, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
            inputs = width
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != inputs:
            self.downsample = nn.Sequential(nn.Conv2d(channels, inputs, 1, stride, bias=False), nn.BatchNorm2d(inputs))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = self.relu(y)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _resnet(counts, bottleneck: bool, classes: int, size: int) -> nn.Sequential:
    large = size >= 96
    parts: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False) if large else nn.Conv2d(3, 64, 3, 1, 1, bias=False),
        "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU(inplace=True), "maxpool": nn.MaxPool2d(3, 2, 1) if large else nn.Identity()}
    channels = 64
    for stage, count in enumerate(counts):
        width, blocks = 64 << stage, []
        for number in range(count):
            stride = 2 if stage and not number else 1
            shape = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)] if bottleneck else [(width, 3, stride), (width, 3, 1)]
            blocks.append(Block(channels, shape, stride))
            channels = shape[-1][0]
        parts[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return _named(**parts, avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, classes))


def resnet18(classes: int, size: int) -> nn.Sequential:
    return _resnet((2, 2, 2, 2), False, classes, size)


def resnet50(classes: int, size: int) -> nn.Sequential:
    return _resnet((3, 4, 6, 3), True, classes, size)


def _normed(channels: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, made, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(made),
                         nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow."""

    def __init__(self, channels: int, made: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        layers = [] if expansion == 1 else [_normed(channels, wide, 1)]
        self.conv = nn.Sequential(*layers, _normed(wide, wide, 3, stride, wide), nn.Conv2d(wide, made, 1, bias=False),
                                  nn.BatchNorm2d(made))
        self.residual = stride == 1 and channels == made

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_v2(classes: int, dropout: float) -> nn.Sequential:
    layers, channels = [_normed(3, 32, 3, 2)], 32
    stages = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    for expansion, made, count, stride in stages:
        for number in range(count):
            layers.append(InvertedResidual(channels, made, 1 if number else stride, expansion))
            channels = made
    layers.append(_normed(channels, 1280, 1))
    return _named(features=nn.Sequential(*layers), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
                  classifier=nn.Sequential(_dropout(dropout), nn.Linear(1280, classes)))


def build(name: str, options: dict) -> nn.Module:
    """The network that ``clnn.models`` builds from the same options."""
    return {"mlp": mlp, "lenet5": lenet5, "resnet18": resnet18, "vgg16": vgg16, "resnet50": resnet50,
            "mobilenet_v2": mobilenet_v2}[name](**options)
