"""Augmentation on the host, for batches streamed by a DataLoader.

A transform is called as ``transform(images, generator)`` with images (N, C, H, W) and gives images of the same shape and type;
all its randomness comes from the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import ArgumentError, ShapeError


def _require_images(images: np.ndarray, where: str) -> None:
    if images.ndim != 4:
        raise ShapeError("needs a batch of images", where=where, got=f"shape {images.shape}", expected="(N, C, H, W)")


class RandomCrop:
    """Surround each image with ``padding`` zero pixels and cut a window of its own size out at a random place."""

    def __init__(self, padding: int):
        if isinstance(padding, bool) or not isinstance(padding, (int, np.integer)) or padding < 1:
            raise ArgumentError("not a padding", where="RandomCrop", got=repr(padding),
                                expected="a whole number of pixels above 0")
        self.padding = padding

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        _require_images(images, "RandomCrop")
        n, _, height, width = images.shape
        margin = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), (0, 0), margin, margin))
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))  # (N, C, offset, offset, H, W), a view
        down, right = generator.integers(0, 2 * self.padding + 1, size=(2, n))
        return windows[np.arange(n), :, down, right]


class RandomHorizontalFlip:
    """Mirror each image left to right with probability ``p``."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ArgumentError("not a probability", where="RandomHorizontalFlip", got=repr(p), expected="0 to 1")
        self.p = p

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        _require_images(images, "RandomHorizontalFlip")
        flipped = generator.random(len(images)) < self.p
        return np.where(flipped[:, None, None, None], images[..., ::-1], images)


class Compose:
    """Apply transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]]):
        self.transforms = list(transforms)

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, generator)
        return images
