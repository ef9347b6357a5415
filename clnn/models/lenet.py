"""LeNet-5."""

from __future__ import annotations

from ..errors import ArgumentError
from ..nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from .recipe import image_shape, model


@model(lambda classes, shape: {"classes": classes, **image_shape("lenet5", shape)})
def lenet5(classes: int = 10, channels: int = 1, size: int = 28) -> Sequential:
    """LeNet-5 with ReLU and max pooling: (N, channels, size, size) → (N, classes) scores.

    Images smaller than the 32×32 of the original are padded by 2 at the first convolution, so 28 and 32 give the same weights.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    padding = 2 if size < 32 else 0
    left = ((size + 2 * padding - 4) // 2 - 4) // 2
    if left < 1:
        raise ArgumentError("the images are too small", where="models.lenet5", got=f"size={size}", expected="at least 12",
                            hint="use mlp, or enlarge the images")
    features = Sequential(Conv2d(channels, 6, 5, padding=padding), ReLU(), MaxPool2d(2),
                          Conv2d(6, 16, 5), ReLU(), MaxPool2d(2))
    classifier = Sequential(Linear(16 * left * left, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, classes))
    return Sequential({"features": features, "flatten": Flatten(), "classifier": classifier})
