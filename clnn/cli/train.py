"""``clnn train``: from a model's name and a data set to a trained model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ClnnError, FileError
from . import console
from .data import data_name, load_for_model, split_training
from .defaults import DATA, MODELS, VALIDATION
from .files import make_folder, writing
from .model import add_model_options, build_model, parameter_count
from .parser import add_data_root, add_device, count, fraction
from .settings import add_settings, choose, make_optimizer

if TYPE_CHECKING:
    from ..data import ArrayDataset
    from ..train import History, Trainer

MODEL_FILE, CHECKPOINT_FILE, PLOT_FILE, HISTORY_FILE = "model.safetensors", "checkpoint.safetensors", "curves.png", "history.json"
INTERRUPTED = 130


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a model on a data set and save it",
                                 description="Train a model, test it, and leave model.safetensors, curves.png and history.json "
                                             "in a folder. Ctrl-C stops the training; --resume goes on.")
    parser.add_argument("--model", required=True, metavar="NAME", help=MODELS)
    parser.add_argument("--data", required=True, metavar="NAME", help=DATA)
    add_model_options(parser)
    add_settings(parser)
    group = parser.add_argument_group("data")
    group.add_argument("--validation", type=fraction, default=VALIDATION, metavar="FRACTION",
                       help=f"part of the training images held out to watch the training (default {VALIDATION}; 0: none)")
    group.add_argument("--limit", type=count, metavar="N", help="use only the first N training images")
    group.add_argument("--size", type=count, metavar="N", help="scale the images to N x N; digits and folders only")
    group.add_argument("--grey", action="store_true", help="turn the images of a folder grey")
    add_data_root(group)
    group = parser.add_argument_group("files and device")
    group.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default runs/MODEL-DATA)")
    group.add_argument("--checkpoint-every", type=count, metavar="N",
                       help="steps between checkpoints (default: one after each epoch)")
    group.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    add_device(group)
    return parser


def run(given: argparse.Namespace) -> int:
    """Train one model."""
    train = load_for_model(given.data, given.model, given.data_root, "train", given.size, given.grey)
    test = load_for_model(given.data, given.model, given.data_root, "test", given.size, given.grey)
    train, validation = split_training(train, given.limit, given.validation)
    chosen = choose(given, given.model, given.data)
    s = chosen.settings
    batch = min(s.batch_size, len(train))
    model = build_model(given.model, train.num_classes, train.sample_shape, given, given.seed)
    folder = make_folder(given.out or Path("runs") / f"{given.model}-{data_name(given.data)}")
    checkpoint = folder / CHECKPOINT_FILE
    if given.resume and not checkpoint.is_file():
        raise FileError("there is no checkpoint to resume from", where=checkpoint,
                        hint="leave --resume out, or name the folder of the interrupted run with --out")

    from ..train import Trainer
    trainer = Trainer(model, optimizer=make_optimizer(chosen, -(-len(train) // batch)), device=given.device, seed=given.seed)
    console.fields([
        ("device", trainer.device),
        ("data", _sizes(given.data, train, validation, test)),
        ("model", f"{given.model}: {parameter_count(model):,} parameters"),
        ("training", chosen),
        ("folder", folder)])
    history = trainer.fit(train, validation, epochs=s.epochs, batch_size=batch, augment=s.augment, checkpoint=checkpoint,
                          checkpoint_every=given.checkpoint_every, resume=given.resume)
    _write_history(history, folder)
    if history.interrupted:
        console.errors().print("interrupted; the same command with --resume goes on", style="yellow")
        return INTERRUPTED
    _finish(trainer, test, folder)
    return 0


def _sizes(name: str, train: ArrayDataset, validation: ArrayDataset | None, test: ArrayDataset) -> str:
    held_out = f", {len(validation):,} to watch it" if validation is not None else ""
    shape = "x".join(map(str, train.sample_shape))
    return f"{name}: {len(train):,} images to train with{held_out}, {len(test):,} to test; {shape}, {train.num_classes} classes"


def _write_history(history: History, folder: Path) -> None:
    with writing(folder / HISTORY_FILE):
        (folder / HISTORY_FILE).write_text(history.to_json())
    try:
        with writing(folder / PLOT_FILE):
            history.plot(folder / PLOT_FILE)
    except FileError:
        raise
    except ClnnError as error:              # the model matters more than its picture
        console.errors().print(f"no plot: {error}", style="yellow")


def _finish(trainer: Trainer, test: ArrayDataset, folder: Path) -> None:
    """Save the model, test it, say where everything is."""
    trainer.save(folder / MODEL_FILE)
    found = trainer.evaluate(test)
    right = round(found["accuracy"] * found["count"])
    console.fields([
        ("step", trainer.plan_summary()),
        ("test", f"accuracy {console.percent(found['accuracy'])} ({right:,} of {found['count']:,}), loss {found['loss']:.4f}"),
        ("model", folder / MODEL_FILE),
        ("curves", folder / PLOT_FILE if (folder / PLOT_FILE).is_file() else "none"),
        ("history", folder / HISTORY_FILE)])
