"""``clnn evaluate``: loss and accuracy of a trained model on a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import console
from .data import load_for_trained, load_trained
from .defaults import DATA
from .parser import add_data_root, add_device, add_json, count

if TYPE_CHECKING:
    import numpy as np

#: how many confused pairs of classes are listed
PAIRS = 10


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("evaluate", help="loss and accuracy of a trained model",
                                 description="Run a trained model over a data set and report loss and accuracy.")
    parser.add_argument("model", metavar="MODEL_FILE", help="file that `clnn train` or Trainer.save has written")
    parser.add_argument("--data", required=True, metavar="NAME", help=DATA)
    parser.add_argument("--split", choices=("test", "train", "all"), default="test",
                        help="which part of the data (default test; all: digits and folders only)")
    parser.add_argument("--detailed", action="store_true", help="also the accuracy of each class, and the worst confusions")
    parser.add_argument("--batch-size", type=count, default=256, metavar="N", help="images per step (default 256)")
    add_data_root(parser)
    add_device(parser)
    add_json(parser)
    return parser


def run(given: argparse.Namespace) -> int:
    """Evaluate one model."""
    trained = load_trained(given.model, given.device)
    trainer, classes = trained.trainer, trained.classes
    data = load_for_trained(given.data, trained, given.data_root, given.split)
    found = {key: float(value) for key, value in trainer.evaluate(data, batch_size=given.batch_size).items()}
    found["count"] = int(found["count"])
    report: dict = {"model": given.model, "data": given.data, "split": given.split, **found}
    if given.detailed:
        confusion = confusion_matrix(trainer.predict(data.images, batch_size=given.batch_size).argmax(1), data.labels,
                                     len(classes))
        report |= {"classes": by_class(confusion, classes), "confused": confused_pairs(confusion, classes)}
    if given.json:
        console.print_json(report)
        return 0
    right = round(found["accuracy"] * found["count"])
    console.fields([("device", trainer.device), ("data", f"{given.data} {given.split}, {found['count']:,} images"),
                    ("loss", f"{found['loss']:.4f}"),
                    ("accuracy", f"{console.percent(found['accuracy'])} ({right:,} of {found['count']:,})")])
    if given.detailed:
        _print_details(report)
    return 0


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How often each class (row) was taken for each class (column)."""
    import numpy as np
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def by_class(confusion: np.ndarray, names) -> list[dict]:
    """Accuracy of each class; None for a class without images."""
    totals = confusion.sum(1)
    return [{"class": name, "count": int(total), "accuracy": float(confusion[i, i] / total) if total else None}
            for i, (name, total) in enumerate(zip(names, totals, strict=True))]


def confused_pairs(confusion: np.ndarray, names) -> list[dict]:
    """The mistakes made most often, at most :data:`PAIRS` of them."""
    pairs = [(int(confusion[i, j]), i, j) for i in range(len(names)) for j in range(len(names)) if i != j and confusion[i, j]]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [{"class": names[i], "taken_for": names[j], "count": n} for n, i, j in pairs[:PAIRS]]


def _print_details(report: dict) -> None:
    console.heading("by class")
    rows = [(entry["class"], entry["count"], "-" if entry["accuracy"] is None else console.percent(entry["accuracy"]))
            for entry in report["classes"]]
    console.table(("class", "images", "accuracy"), rows, right=("images", "accuracy"))
    console.heading("most often confused")
    if not report["confused"]:
        print("none")
        return
    console.table(("class", "taken for", "times"), [tuple(entry.values()) for entry in report["confused"]], right=("times",))
