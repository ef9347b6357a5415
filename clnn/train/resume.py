"""A trainer's description in a checkpoint, and going on from one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .checkpoint import clear_leftovers, read_checkpoint, read_position
from .history import History
from .progress import Silent
from .state import Tracked, load_arrays

if TYPE_CHECKING:
    from .trainer import Trainer


def describe(trainer: Trainer) -> dict:
    """Everything about a trainer that is not an array."""
    frozen = [name for name, parameter in trainer.model.named_parameters() if not parameter.trainable]
    return {"model": trainer.model.recipe, "optimizer": trainer.optimizer.config(), "loss": trainer.objective.name,
            "precision": trainer.precision, "seed": trainer.seed, "position": asdict(trainer.position), "fit": trainer.fitted,
            "mean": trainer.mean, "std": trainer.std, "classes": trainer.classes, "sample_shape": trainer.sample_shape,
            "frozen": frozen, "history": trainer.history.to_json()}


def take_over(trainer: Trainer, saved: dict) -> None:
    """Position and history of a checkpoint."""
    trainer.position, trainer.fitted = read_position(saved), saved["fit"]
    trainer.history = History.from_json(saved["history"])
    trainer.history.interrupted = False


def take_data_facts(trainer: Trainer, saved: dict) -> None:
    """What a checkpoint says about the training set."""
    trainer.classes = saved["classes"]
    trainer.mean, trainer.std, trainer.sample_shape = (
        None if saved[key] is None else tuple(saved[key]) for key in ("mean", "std", "sample_shape"))


def file_to_resume(resume: bool | str | Path, checkpoint: str | Path | None) -> str | Path | None:
    """The file that the arguments of fit ask to go on from; None to begin afresh."""
    if resume is False or resume is None:
        return None
    if resume is not True:
        return resume
    if checkpoint is None:
        raise ArgumentError("resume=True needs the checkpoint to resume from", where="fit",
                            hint="checkpoint=path, or resume=path")
    clear_leftovers(checkpoint)
    return checkpoint if Path(checkpoint).exists() else None


def resume_from(trainer: Trainer, path: str | Path, tracked: Tracked, progress: Silent) -> None:
    """Put the trainer where the run was that wrote a checkpoint.

    Raises:
        FileError: it does not fit the model and the optimiser.
        ArgumentError: the call differs from the one that wrote it in what an exact continuation needs.
    """
    arrays, saved = read_checkpoint(path)
    position = read_position(saved)
    here = {"seed": trainer.seed, "optimizer": type(trainer.optimizer).__name__, "loss": trainer.objective.name}
    there = {"seed": saved["seed"], "optimizer": saved["optimizer"]["name"], "loss": saved["loss"]}
    if position.cursor:                                     # inside an epoch the rest of it must be what it would have been
        here, there = here | trainer.fitted, there | saved["fit"]
    differing = [key for key in here if here[key] != there.get(key)]
    if differing:
        raise ArgumentError("the checkpoint was written under other settings, so the run cannot go on exactly", where=path,
                            got=", ".join(f"{key}={here[key]}" for key in differing),
                            expected=", ".join(f"{key}={there.get(key)}" for key in differing),
                            hint="use the same settings, or Trainer.load(path) and a new fit")
    if saved["optimizer"] != trainer.optimizer.config():
        progress.message(f"resuming with other options of the optimiser than {path} was written with")
    load_arrays(tracked.named, arrays, path)
    take_over(trainer, saved)
    progress.message(f"resuming from {path}: epoch {position.epoch + 1 - position.first_epoch}, step {position.step}")
