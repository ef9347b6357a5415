"""``clnn predict``: what a trained model sees in image files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, FileError
from . import console
from .data import load_trained
from .parser import add_device, add_json, count

if TYPE_CHECKING:
    import numpy as np


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("predict", help="classify image files with a trained model",
                                 description="Classify image files. They are scaled to the size, and turned to the channels, "
                                             "that the model was trained on. A file that cannot be read is reported; the others "
                                             "are classified, and the exit status is 1.")
    parser.add_argument("model", metavar="MODEL_FILE", help="file that `clnn train` or Trainer.save has written")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files, such as PNG and JPEG")
    parser.add_argument("--top", type=count, default=5, metavar="N",
                        help="classes to show per image, likeliest first (default 5)")
    parser.add_argument("--invert", action="store_true",
                        help="swap light and dark: MNIST and the digits are light on dark, a photo of ink on paper is not")
    parser.add_argument("--batch-size", type=count, default=256, metavar="N", help="images per step, at most (default 256)")
    add_device(parser)
    add_json(parser)
    return parser


def run(given: argparse.Namespace) -> int:
    """Classify files."""
    import numpy as np
    trained = load_trained(given.model, given.device)
    shape = trained.sample_shape
    if len(shape) != 3:
        raise ArgumentError("the model does not take images", where=given.model, got=shape, expected="a shape (C, H, W)")
    images, failures = read_images(given.images, shape)
    if given.invert:
        images = {path: 255 - image for path, image in images.items()}
    probabilities = np.zeros((0, len(trained.classes)))
    if images:
        stacked = np.stack(list(images.values()))
        probabilities = trained.trainer.predict(stacked, batch_size=min(given.batch_size, len(stacked)))
    found = {path: ranking(row, trained.classes, given.top) for path, row in zip(images, probabilities, strict=True)}
    if given.json:
        console.print_json([{"file": str(path), "predictions": found[path]} if path in found
                            else {"file": str(path), "error": str(failures[path])} for path in given.images])
    else:
        _print(found)
    for error in failures.values():
        console.errors().print(str(error), style="red")
    return 1 if failures else 0


def read_images(paths: list[Path], shape: tuple[int, ...]) -> tuple[dict[Path, np.ndarray], dict[Path, FileError]]:
    """The images by path as uint8 of ``shape``, and the errors of those that cannot be read."""
    from ..data import load_image
    images, failures = {}, {}
    for path in paths:
        try:
            images[path] = load_image(path, shape)
        except FileError as error:
            failures[path] = error
    return images, failures


def ranking(probabilities: np.ndarray, classes, top: int) -> list[dict]:
    """The likeliest classes, at most ``top``."""
    order = (-probabilities).argsort(kind="stable")[:top]
    return [{"class": classes[i], "probability": float(probabilities[i])} for i in order]


def _print(found: dict[Path, list[dict]]) -> None:
    console_out = console.output()
    for path, entries in found.items():
        console_out.print(str(path), style="bold")
        width = max(len(entry["class"]) for entry in entries)
        for place, entry in enumerate(entries):
            console_out.print(f"  {entry['class']:{width}}  {console.percent(entry['probability']):>8}",
                              style="green" if place == 0 else None)
