"""Mean and standard deviation of a data set, channel by channel."""

from __future__ import annotations

import numpy as np

_CHUNK_BYTES = 1 << 24


def _chunks(images: np.ndarray):
    """Slices of the first axis small enough for the float64 and int64 temporaries to stay out of the way."""
    step = max(1, _CHUNK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def _by_channel(images: np.ndarray) -> np.ndarray:
    """View images as (D, C, pixels); vectors (D, F) have one channel of F values."""
    channels = images.shape[1] if images.ndim == 4 else 1
    return images.reshape(len(images), channels, -1)


def _moments_of_bytes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((images.shape[1], 256), np.int64)
    for part in _chunks(images):
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(images[part, channel].ravel(), minlength=256)
    weights = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255.0
    mean = weights @ levels
    return mean, (weights * (levels - mean[:, None]) ** 2).sum(axis=1)


def _moments_of_floats(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = images.shape[0] * images.shape[2]
    mean = sum(images[part].sum(axis=(0, 2), dtype=np.float64) for part in _chunks(images)) / count
    squares = (((images[part].astype(np.float64) - mean[:, None]) ** 2).sum(axis=(0, 2)) for part in _chunks(images))
    return mean, sum(squares) / count


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of images (D, C, H, W), or one of each for vectors (D, F).

    uint8 images count as scaled to [0, 1]; exact, from their histogram. A constant channel gets the deviation 1, so that
    normalising it gives zeros and not NaN.
    """
    view = _by_channel(images)
    mean, variance = _moments_of_bytes(view) if view.dtype == np.uint8 else _moments_of_floats(view)
    std = np.sqrt(variance)
    std[std < 1e-12] = 1.0
    return tuple(map(float, mean)), tuple(map(float, std))


def first_not_finite(images: np.ndarray) -> int | None:
    """Index of the first sample that holds NaN or an infinity."""
    flat = images.reshape(len(images), -1)
    for part in _chunks(flat):
        bad = ~np.isfinite(flat[part]).all(axis=1)
        if bad.any():
            return part.start + int(bad.argmax())
    return None
