"""Checkpoint files: arrays by name, and a JSON description in the metadata."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import FileError
from ..nn import load_state, save_state
from ..version import __version__
from .state import Position

FORMAT = 1
_KEY = "clnn.checkpoint"


def write_checkpoint(path: str | Path, arrays: Mapping[str, np.ndarray], description: dict) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        FileError: the folder is missing, not writable or full.
    """
    text = json.dumps({"format": FORMAT, "clnn": __version__, **description})
    save_state(arrays, path, {_KEY: text})


def read_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays by name, description).

    Raises:
        FileError: missing, truncated, not a checkpoint, or of a newer format.
    """
    arrays, metadata = load_state(path)
    if _KEY not in metadata:
        raise FileError("this is not a checkpoint of clnn", where=path,
                        expected="a file that Trainer.save or a checkpoint of fit wrote",
                        hint="plain weights are loaded by model.load_state_dict(clnn.nn.load_state(path)[0])")
    try:
        description = json.loads(metadata[_KEY])
        version = int(description["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileError("the description in the checkpoint cannot be read", where=path, got=repr(error)) from error
    if version > FORMAT:
        raise FileError("the checkpoint has a newer format than this clnn knows", where=path,
                        got=f"format {version}, written by clnn {description.get('clnn', 'unknown')}",
                        expected=f"at most {FORMAT}", hint="update clnn")
    missing = {"position", "optimizer", "seed", "history", "model", "loss"} - set(description)
    if missing:
        raise FileError("the description in the checkpoint is incomplete", where=path, got=f"no {', '.join(sorted(missing))}")
    return arrays, description


def read_position(description: Mapping) -> Position:
    """The position that a checkpoint describes."""
    return Position(**description["position"])


def clear_leftovers(path: str | Path) -> None:
    """Remove what a writer that was killed has left beside the checkpoint."""
    path = Path(path)
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError):
            leftover.unlink()
