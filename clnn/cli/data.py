"""Data sets as commands load them: scaled and coloured as the model wants them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, DataError, FileError
from .defaults import IMAGES, SHAPES

if TYPE_CHECKING:
    from ..data import ArrayDataset
    from ..train import Trainer


def data_name(data: str) -> str:
    """A short name for folders and messages: that of the data set, or of the last part of the path without its suffixes."""
    return data.lower() if data.lower() in SHAPES else Path(data).expanduser().resolve().name.split(".")[0] or "images"


def default_size(model: str, data: str) -> int | None:
    """The extent to which images are scaled for a model; None for sets of fixed size and for models of the user's own."""
    if model not in IMAGES:
        return None
    if data.lower() in SHAPES:
        return IMAGES[model].digits if data.lower() == "digits" else None
    return IMAGES[model].folder


def load_for_model(data: str, model: str, root: str | None, split: str, size: int | tuple[int, int] | None = None,
                   grey: bool = False) -> ArrayDataset:
    """One split of a data set, with images of ``size`` or of the extent that suits the model."""
    from ..data import load
    return load(data, root, split, default_size(model, data) if size is None else size, "L" if grey else "RGB")


@dataclass(frozen=True)
class Trained:
    """A model from a file: with the shape of its images and the names of its classes."""

    trainer: Trainer
    sample_shape: tuple[int, ...]
    classes: list[str]


def load_trained(path: str, device: str) -> Trained:
    """A trained model from its file.

    Raises:
        FileError: if there is no such file, or it holds a model that was never trained.
    """
    if not Path(path).is_file():
        raise FileError("there is no such model file", where=path, expected="a file that `clnn train` or Trainer.save wrote",
                        hint="clnn train --model lenet5 --data digits writes runs/lenet5-digits/model.safetensors")
    from ..train import Trainer
    trainer = Trainer.load(path, device=device)
    if trainer.sample_shape is None or trainer.classes is None:
        raise FileError("the file does not say for which images and classes the model is", where=path,
                        expected="a model that was trained before it was saved", hint="train it, and save it again")
    return Trained(trainer, tuple(trainer.sample_shape), list(trainer.classes))


def load_for_trained(data: str, trained: Trained, root: str | None, split: str) -> ArrayDataset:
    """One split of a data set, with images of the size and channels of a trained model, and its classes.

    Raises:
        DataError: if images or classes are not those of the model.
    """
    from ..data import load
    shape = trained.sample_shape
    free = data.lower() == "digits" or data.lower() not in SHAPES
    found = load(data, root, split, shape[1:] if free and len(shape) == 3 else None, "L" if shape[0] == 1 else "RGB")
    if tuple(found.sample_shape) != shape:
        raise DataError("the images do not fit the model", where=data, got="x".join(map(str, found.sample_shape)),
                        expected="x".join(map(str, shape)), hint="use the data set that the model was trained on, or one like it")
    if list(found.classes) != trained.classes:
        raise DataError("the classes are not those of the model", where=data, got=", ".join(found.classes),
                        expected=", ".join(trained.classes), hint="name the class folders as the model's training data does")
    return found


def split_training(train: ArrayDataset, limit: int | None, validation: float) -> tuple[ArrayDataset, ArrayDataset | None]:
    """(images to train with, images to watch the training with): the first ``limit`` images, less a part that is held out.

    Raises:
        ArgumentError: if the part is so small that it is empty.
    """
    if limit is not None and limit < len(train):
        train = train.subset(range(limit))
    if not validation:
        return train, None
    if not 0 < round(validation * len(train)) < len(train):
        raise ArgumentError("both the images to train with and those held out must be some", where="--validation",
                            got=f"{validation:g} of {len(train)} images", hint="--validation 0 holds out none")
    return train.split(float(validation))
