"""A data set held in memory: images, labels, class names, and how to normalise them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from ..errors import ArgumentError
from .order import epoch_permutation
from .statistics import channel_statistics
from .validate import checked_classes, checked_images, checked_labels, checked_statistic

# Keys the permutation of split(), apart from that of any epoch of the same seed.
_SPLIT_EPOCH = 2**63


class Dataset(Protocol):
    """What :class:`~clnn.data.DataLoader` needs of a data set; :class:`ArrayDataset` has it, your own may have it too.

    ``dataset[indices]``, with an int64 array (N,), gives images (N, ...) and labels (N,).
    """

    @property
    def sample_shape(self) -> tuple[int, ...]: ...

    @property
    def num_classes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index): ...

    def normalise(self, images: np.ndarray) -> np.ndarray: ...


class ArrayDataset:
    """Images and labels as two arrays.

    Args:
        images: uint8 or floating (stored as float32), (D, C, H, W), or (D, F) for vectors. uint8 stays uint8: a fourth of the
            bytes to move; :meth:`normalise` or the device turns it into float32.
        labels: whole numbers (D,), from 0 to len(classes) - 1; stored as int32.
        classes: names of the classes; default "0", "1", ... up to the largest label.
        name: shown in messages.
        mean, std: one value per channel (or one for all), in units of the image scaled to [0, 1] when it is uint8; default: those
            of the data, computed when first asked for.

    Raises:
        ShapeError: wrong rank, or an axis of size 0.
        DTypeError: images neither uint8 nor floating, labels not whole numbers.
        DataError: no samples, unequal lengths, labels out of range, NaN or infinity.
        ArgumentError: class names that repeat; mean or std of the wrong length, or a std that is not positive.
    """

    def __init__(self, images, labels, classes: Sequence[str] | None = None, name: str = "", *,
                 mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
        self.name = name
        self.images = checked_images(images, name)
        self.labels, highest = checked_labels(labels, len(self.images), name)
        self.classes = checked_classes(classes, self.labels, highest, name)
        self._mean = None if mean is None else checked_statistic("mean", mean, self.images.shape[1])
        self._std = None if std is None else checked_statistic("std", std, self.images.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, or (F,) of one vector."""
        return self.images.shape[1:]

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel (one value for vectors), on the scale [0, 1] for uint8. Assign to override it."""
        return self._measured[0] if self._mean is None else self._mean

    @mean.setter
    def mean(self, values: Sequence[float]) -> None:
        self._mean = checked_statistic("mean", values, self.images.shape[1])

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, on the scale of :attr:`mean`; 1 where a channel is constant."""
        return self._measured[1] if self._std is None else self._std

    @std.setter
    def std(self, values: Sequence[float]) -> None:
        self._std = checked_statistic("std", values, self.images.shape[1])

    @cached_property
    def _measured(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        """One index gives (image, label as an int); a slice or an array of indices gives (images, labels)."""
        labels = self.labels[index]
        return self.images[index], int(labels) if np.ndim(labels) == 0 else labels

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.sample_shape))
        return f"{type(self).__name__}({self.name or 'unnamed'}: {len(self)} of {shape} {self.images.dtype}, " \
               f"{self.num_classes} classes)"

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """Normalise images (N, C, H, W), (C, H, W), (N, F) or (F,) of this set to float32.

        uint8: (x / 255 - mean) / std. float: (x - mean) / std. Folded into one multiply and one add per value.
        """
        batched = images if images.ndim == self.images.ndim else images[None]
        scale = 1 / np.asarray(self.std)
        shift = -np.asarray(self.mean) * scale
        if images.dtype == np.uint8:
            scale = scale / 255
        trailing = (-1,) + (1,) * (self.images.ndim - 2)
        result = np.multiply(batched, scale.astype(np.float32).reshape(trailing), dtype=np.float32)
        result += shift.astype(np.float32).reshape(trailing)
        return result if batched is images else result[0]

    def subset(self, indices) -> ArrayDataset:
        """The samples at ``indices`` (whole numbers, or a mask of length D), normalised like the whole.

        Raises:
            ArgumentError: indices that are not whole numbers, or out of range.
            DataError: no index.
        """
        picked = np.asarray(indices)
        if picked.dtype == bool and picked.shape == (len(self),):
            picked = np.flatnonzero(picked)
        if picked.size and (picked.ndim != 1 or not np.issubdtype(picked.dtype, np.integer)):
            raise ArgumentError("cannot pick samples", where="indices", got=f"{picked.dtype} of shape {picked.shape}",
                                expected=f"whole numbers (K,), or a mask ({len(self)},)")
        outside = picked[(picked < -len(self)) | (picked >= len(self))]
        if outside.size:
            raise ArgumentError("index outside the data set", where="indices", got=int(outside[0]),
                                expected=f"0 to {len(self) - 1}")
        picked = picked.astype(np.int64)
        return ArrayDataset(self.images[picked], self.labels[picked], self.classes, self.name, mean=self.mean, std=self.std)

    def split(self, validation: float = 0.2, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
        """Cut the set, shuffled by ``seed``, into (train, validation); both are normalised like the whole.

        Args:
            validation: the part that goes to validation: a fraction (float between 0 and 1) or a count of samples (int).

        Raises:
            ArgumentError: either part would be empty.
        """
        count = round(validation * len(self)) if isinstance(validation, float) and 0 < validation < 1 else validation
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 < count < len(self):
            raise ArgumentError("both parts of a split need samples", where="validation", got=repr(validation),
                                expected=f"a fraction between 0 and 1, or a count from 1 to {len(self) - 1}")
        order = epoch_permutation(len(self), seed, _SPLIT_EPOCH)
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))
