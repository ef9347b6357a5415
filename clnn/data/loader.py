"""Batches of a data set, epoch after epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import ArgumentError, DataError
from .dataset import Dataset
from .order import batch_generator, epoch_permutation
from .prefetch import prefetch


class DataLoader:
    """Iterates over a data set in batches; each ``for`` loop over it is one epoch.

    Yields (images float32 (N, ...) normalised, labels int32 (N,)), prepared by a background thread. Order and augmentation depend
    only on (seed, epoch, batch): ``set_epoch(n)`` resumes exactly.

    Args:
        dataset: an :class:`~clnn.data.ArrayDataset`, or what has the methods of :class:`~clnn.data.Dataset`.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        shuffle: visit the samples in the order of ``epoch_permutation(len(dataset), seed, epoch)``, else as they lie.
        drop_last: leave out a smaller last batch.
        transform: called as ``transform(images, generator)`` on the images as stored, before they are normalised.

    Raises:
        ArgumentError: a batch size below 1, a seed that is not a whole number from 0 to 2**64 - 1.
        DataError: a batch size above the size of the data set.
    """

    def __init__(self, dataset: Dataset, batch_size: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False,
                 transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None):
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ArgumentError("not a batch size", where="batch_size", got=repr(batch_size), expected="a whole number above 0")
        if batch_size > len(dataset):
            raise DataError("the batch is larger than the data set", where="batch_size", got=batch_size,
                            expected=f"at most {len(dataset)}, the size of the data set",
                            hint=f"batch_size={len(dataset)} takes all data as one batch; or use more data")
        epoch_permutation(0, seed, 0)
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, int(batch_size), shuffle, seed
        self.drop_last, self.transform = drop_last, transform
        self.epoch = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``for`` loop epoch number ``epoch``, counted from 0."""
        epoch_permutation(0, self.seed, epoch)
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return prefetch(self._batches(epoch), depth=2)

    def _batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        n = len(self.dataset)
        order = epoch_permutation(n, self.seed, epoch) if self.shuffle else np.arange(n)
        for batch in range(len(self)):
            images, labels = self.dataset[order[batch * self.batch_size:(batch + 1) * self.batch_size]]
            if self.transform is not None:
                images = self.transform(images, batch_generator(self.seed, epoch, batch))
            yield self.dataset.normalise(images), np.asarray(labels, np.int32)
