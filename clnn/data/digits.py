"""The digits that scikit-learn carries: a data set without a download."""

from __future__ import annotations

import numpy as np

from .dataset import ArrayDataset
from .extras import require
from .images import checked_size
from .places import checked_split


def _resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale images (D, H, W) bilinearly."""
    pillow = require("PIL.Image", "Pillow", "to resize images")
    return np.stack([np.asarray(pillow.fromarray(image).resize(size[::-1], pillow.Resampling.BILINEAR)) for image in images])


def digits(split: str = "all", test_fraction: float = 0.2, seed: int = 0,
           size: int | tuple[int, int] | None = None) -> ArrayDataset:
    """Handwritten digits: 1,797 grey images, uint8 (1, 8, 8), 10 classes.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998, as scikit-learn carries them; their 17 grey levels
    are spread over 0 to 255. All splits are normalised with the mean and std of the whole.

    Args:
        split: "all", "train" or "test"; train and test do not overlap, and depend only on ``test_fraction`` and ``seed``.
        test_fraction: the part that is the test set, between 0 and 1.
        size: scale to this, a number or (H, W): 28 or 32 for LeNet-5.

    Raises:
        ClnnError: scikit-learn (or, with ``size``, Pillow) is not installed.
        ArgumentError: an unknown split, or a fraction or size out of range.
    """
    checked_split(split, "all", "train", "test")
    checked = checked_size(size)
    carried = require("sklearn.datasets", "scikit-learn", "for its digits").load_digits()
    images = np.rint(carried.images * (255 / 16)).astype(np.uint8)
    if checked is not None and checked != images.shape[1:]:
        images = _resize(images, checked)
    whole = ArrayDataset(images[:, None], carried.target, [str(digit) for digit in range(10)], "digits")
    if split == "all":
        return whole
    train, test = whole.split(float(test_fraction), seed)
    chosen = train if split == "train" else test
    chosen.name = f"digits/{split}"
    return chosen
