"""What a training run measured: a table, JSON and curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import ArgumentError, FileError

#: column, title, how a value is written
_COLUMNS: tuple[tuple[str, str, Callable], ...] = (
    ("epoch", "epoch", str), ("loss", "loss", "{:.4f}".format), ("accuracy", "accuracy", "{:.2%}".format),
    ("validation_loss", "val. loss", "{:.4f}".format), ("validation_accuracy", "val. accuracy", "{:.2%}".format),
    ("images_per_second", "images/s", "{:,.0f}".format), ("seconds", "seconds", "{:.1f}".format))


@dataclass
class History:
    """The course of a training run.

    Attributes:
        epochs: one dict per finished epoch: epoch (from 1), loss, accuracy, validation_loss, validation_accuracy (None without a
            validation set), images_per_second, seconds (of training alone: no compiling, validation or saving).
        steps: one dict per logged point: step, epoch (with a fraction), loss, accuracy (means since the point before), lr.
        interrupted: whether Ctrl-C ended the run.
        checkpoint: the file that was written last, if any.
    """

    epochs: list[dict] = field(default_factory=list)
    steps: list[dict] = field(default_factory=list)
    interrupted: bool = False
    checkpoint: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> History:
        """The inverse of :meth:`to_json`.

        Raises:
            FileError: the text is not a history.
        """
        try:
            fields = json.loads(text)
            return cls(list(fields["epochs"]), list(fields["steps"]), bool(fields.get("interrupted", False)),
                       fields.get("checkpoint"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError("this is not a training history", where="History.from_json", got=repr(error),
                            expected="what History.to_json wrote") from error

    def __str__(self) -> str:
        """A table, one line per epoch."""
        columns = [c for c in _COLUMNS if any(record.get(c[0]) is not None for record in self.epochs)] or list(_COLUMNS[:3])
        rows = [[title for _, title, _ in columns]]
        rows += [["" if record.get(key) is None else form(record[key]) for key, _, form in columns] for record in self.epochs]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*lines, *(["interrupted"] if self.interrupted else [])])

    def plot(self, path: str | Path) -> None:
        """Draw loss and accuracy of training and validation over the epochs into an image file (PNG by its suffix).

        Raises:
            ArgumentError: nothing was recorded yet, or matplotlib is not installed.
            FileError: the file cannot be written.
        """
        if not self.epochs and not self.steps:
            raise ArgumentError("there is nothing to plot yet", where="History.plot", hint="train first")
        from .curves import draw
        draw(self, Path(path))
