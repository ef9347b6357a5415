"""Which program a trainer needs, compiled once per setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data import ArrayDataset, DataLoader
from ..ir import TensorSpec
from ..runtime import Session
from .programs import EpochProgram, PredictionProgram
from .sources import Loaded, Resident, Source, Streamed, augmentation, fits_on_device

if TYPE_CHECKING:
    from .trainer import Trainer

Data = ArrayDataset | DataLoader


def _model_key(trainer: Trainer) -> tuple:
    """What a traced graph depends on besides data and batch."""
    model = trainer.model
    modes, trained = tuple(m.training for m in model.modules()), tuple(p.trainable for p in model.parameters())
    return model, trainer.objective, trainer.resident, trainer.mean, trainer.std, modes, trained


def _source(trainer: Trainer, data: Data, batch: int, shuffle: bool, crop_flip: dict, session: Session) -> Source:
    if isinstance(data, DataLoader):
        return Loaded(data)
    options = {"mean": tuple(trainer.mean or data.mean), "std": tuple(trainer.std or data.std), **crop_flip}
    wanted = fits_on_device(data, session) if trainer.resident is None else trainer.resident
    if not wanted:
        return Streamed(data, batch, shuffle, trainer.seed, options)
    return Resident(data, batch, shuffle, trainer.seed, options, trainer.shelf.shared(data))


def training(trainer: Trainer, data: Data, batch: int, shuffle: bool, crop_flip: dict, session: Session) -> EpochProgram:
    """The program that trains on ``data``, run once already."""
    optimizer = trainer.optimizer
    settings = {key: value for key, value in optimizer.config().items() if key != "lr"}
    key = ("train", data, batch, shuffle, str(crop_flip), optimizer, str(settings), trainer.seed, _model_key(trainer))

    def make() -> EpochProgram:
        source = _source(trainer, data, batch, shuffle, crop_flip, session)
        program = EpochProgram(trainer.model, trainer.objective, source, session, optimizer, trainer.seed)
        program.rehearse()
        return program

    return trainer.shelf.get(key, make)


def evaluation(trainer: Trainer, data: Data, batch: int, session: Session) -> EpochProgram:
    """The program that measures loss and accuracy on ``data``."""
    def make() -> EpochProgram:
        source = _source(trainer, data, min(batch, len(data)), False, augmentation(None), session)
        return EpochProgram(trainer.model, trainer.objective, source, session)

    return trainer.shelf.get(("evaluate", data, batch, _model_key(trainer)), make)


def prediction(trainer: Trainer, spec: TensorSpec, session: Session) -> PredictionProgram:
    """The program that gives probabilities for raw images of ``spec``."""
    mean, std = tuple(trainer.mean or (0.0,)), tuple(trainer.std or (1.0,))
    return trainer.shelf.get(("predict", spec, _model_key(trainer)),
                             lambda: PredictionProgram(trainer.model, trainer.objective, spec, mean, std, session))
