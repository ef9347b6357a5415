"""Where batches come from: a set on the device, a set on the host streamed batch by batch, or a DataLoader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..data import ArrayDataset, DataLoader, epoch_permutation
from ..data.prefetch import prefetch
from ..errors import ArgumentError, DataError
from ..ir import Graph, TensorSpec, Value, Variable
from ..ops.step import GatherBatch, StepState, gather_batch
from ..ops.tracing import apply
from ..runtime import Executable, Session


class Source:
    """One pass over the data per epoch, in batches of ``batch`` and a smaller last one.

    Attributes:
        count: images per epoch.
        variables: what lies on the device for this source alone.
    """

    def __init__(self, count: int, batch: int):
        self.count, self.batch = count, batch
        self.variables: list[Variable] = []

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-self.count // self.batch)

    @property
    def remainder(self) -> int:
        """Images in the smaller last batch; 0 without one."""
        return self.count % self.batch

    def append(self, graph: Graph, state: StepState, batch: int) -> tuple[Value, Value]:
        """Append what takes the next batch: (images, labels)."""
        raise NotImplementedError

    def check_labels(self, classes: int) -> None:
        """Refuse labels that a model with ``classes`` outputs cannot have."""

    def refresh(self) -> None:
        """Notice changes of the user to the data: it is sent to the device anew."""
        for variable in self.variables:
            variable.touch()

    def begin(self, epoch: int, cursor: int) -> None:
        """Make the next batch that of ``epoch`` at image ``cursor``."""

    def feed(self, executable: Executable) -> None:
        """Give the next batch to the run that follows."""

    def close(self) -> None:
        """Stop what runs in the background."""


def check_labels(labels: np.ndarray, classes: int, where: object) -> None:
    """Raise DataError for the first label outside 0 … classes − 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        label = int(labels[wrong[0]])
        raise DataError(f"label {label} at position {int(wrong[0])}, but the model has {classes} outputs",
                        where=where or "labels", got=label, expected=f"0 to {classes - 1}",
                        hint=f"build the model for {max(int(labels.max()), 0) + 1} classes, or correct the labels")


class _Arrays(Source):
    """A data set held in memory; the device normalises and augments."""

    def __init__(self, dataset: ArrayDataset, batch: int, shuffle: bool, seed: int, options: dict):
        super().__init__(len(dataset), batch)
        self.dataset, self.shuffle, self.seed, self.options = dataset, shuffle, seed, options

    def order(self, epoch: int) -> np.ndarray:
        return epoch_permutation(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)

    def check_labels(self, classes):
        check_labels(self.dataset.labels, classes, self.dataset.name)


class Resident(_Arrays):
    """The whole set lies on the device; nothing is moved inside an epoch.

    Args:
        shared: the variables (images, labels) of this set, if another source has them already.
    """

    def __init__(self, dataset, batch, shuffle, seed, options, shared: tuple[Variable, Variable] | None = None):
        super().__init__(dataset, batch, shuffle, seed, options)
        self.data = shared or (Variable(dataset.images, "images"), Variable(dataset.labels, "labels"))
        self._order = Variable(np.zeros(self.count, np.int32), "order")
        self.variables = [*self.data, self._order]

    def append(self, graph, state, batch):
        images, labels, order = (graph.variable(v) for v in self.variables)
        return gather_batch(graph, images, labels, order, state, batch, **self.options)

    def begin(self, epoch, cursor):
        self._order.array[...] = self.order(epoch)


class _Streamed(Source):
    """Batches (images, labels) from an iterator, uploaded while the step before runs."""

    def __init__(self, count: int, batch: int, name: str):
        super().__init__(count, batch)
        self._name, self._classes, self._batches = name, 0, iter(())

    def check_labels(self, classes):
        self._classes = classes

    def feed(self, executable):
        try:
            images, labels = next(self._batches)
        except StopIteration as error:
            raise DataError("the data ended before the epoch did", where=self._name,
                            expected=f"{self.count} images per epoch") from error
        check_labels(labels, self._classes, self._name)
        executable.stage("images", images)
        executable.stage("labels", labels)

    def close(self):
        if hasattr(self._batches, "close"):
            self._batches.close()
        self._batches = iter(())


class Streamed(_Streamed, _Arrays):
    """A set that stays on the host: raw images travel, and are normalised and augmented on the device as in :class:`Resident`."""

    def __init__(self, dataset, batch, shuffle, seed, options):
        _Arrays.__init__(self, dataset, batch, shuffle, seed, options)
        self._name, self._classes, self._batches = dataset.name, 0, iter(())

    def append(self, graph, state, batch):
        images = graph.input(TensorSpec((batch, *self.dataset.sample_shape), str(self.dataset.images.dtype)), "images")
        labels = graph.input(TensorSpec((batch,), "int32"), "labels")
        order, cursor = graph.constant(np.arange(batch), "int32"), graph.constant(0, "int32")
        keys = graph.variable(state.seed), graph.variable(state.step)
        return apply(GatherBatch(batch, **self.options), images, labels, order, cursor, *keys)

    def check_labels(self, classes):
        _Streamed.check_labels(self, classes)
        _Arrays.check_labels(self, classes)

    def begin(self, epoch, cursor):
        self.close()
        order = self.order(epoch)
        starts = range(cursor, self.count, self.batch)
        self._batches = prefetch((self.dataset[order[start:start + self.batch]] for start in starts), depth=2)


class Loaded(_Streamed):
    """The batches of a DataLoader, normalised (and augmented) by it."""

    def __init__(self, loader: DataLoader):
        count = len(loader.dataset)
        super().__init__(count - count % loader.batch_size if loader.drop_last else count, loader.batch_size,
                         getattr(loader.dataset, "name", "") or "DataLoader")
        self.loader = loader

    def append(self, graph, state, batch):
        return (graph.input(TensorSpec((batch, *self.loader.dataset.sample_shape)), "images"),
                graph.input(TensorSpec((batch,), "int32"), "labels"))

    def begin(self, epoch, cursor):
        self.close()
        self.loader.set_epoch(epoch)
        batches: Iterator = iter(self.loader)
        for _ in itertools.islice(batches, cursor // self.batch):
            pass                                            # what was trained on before is prepared and passed over
        self._batches = batches


# -- choosing -----------------------------------------------------------------------------------------------------------

def as_data(data, batch: int, shuffle: bool, seed: int) -> ArrayDataset | DataLoader:
    """A data set or loader from what the user gave; a pair (images, labels) becomes a set, another kind of set is loaded."""
    if isinstance(data, tuple) and len(data) == 2:
        data = ArrayDataset(*data)
    if isinstance(data, (ArrayDataset, DataLoader)):
        return data
    if all(hasattr(data, name) for name in ("__len__", "__getitem__", "normalise", "sample_shape")):
        return DataLoader(data, batch, shuffle, seed)
    raise ArgumentError("this is not a data set", where="data", got=type(data).__name__,
                        expected="an ArrayDataset, a DataLoader, or a pair (images, labels) of arrays")


def check_batch(batch: int, count: int) -> int:
    """A batch size that fits ``count`` samples."""
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ArgumentError("not a batch size", where="batch_size", got=repr(batch), expected="a whole number above 0")
    if batch > count:
        raise DataError("the batch is larger than the data set", where="batch_size", got=int(batch),
                        expected=f"at most {count}, the size of the data set", hint=f"batch_size={count}, or use more data")
    return int(batch)


def fits_on_device(dataset: ArrayDataset, session: Session) -> bool:
    """Whether the set takes at most a quarter of the device's memory, in pieces that can be allocated."""
    images = dataset.images.nbytes
    return images + 8 * len(dataset) <= session.target.global_memory // 4 and images <= session.target.max_allocation


def augmentation(augment: str | dict | None) -> dict:
    """``crop`` and ``flip`` of the user's choice."""
    if augment in (None, False):
        return {"crop": 0, "flip": False}
    if augment == "crop-flip":
        return {"crop": 4, "flip": True}
    if isinstance(augment, dict) and set(augment) <= {"crop", "flip"}:
        crop = augment.get("crop", 0)
        if isinstance(crop, int) and crop >= 0:
            return {"crop": int(crop), "flip": bool(augment.get("flip", False))}
    raise ArgumentError("unknown augmentation", where="augment", got=repr(augment),
                        expected="None, 'crop-flip', or {'crop': pixels, 'flip': True or False}")
