"""What the user sees while training: a bar on a terminal, a line per epoch elsewhere, or nothing."""

from __future__ import annotations

import sys


class Silent:
    """Shows nothing; the base of the others."""

    def building(self, device: str) -> None:
        """Kernels are about to be built."""

    def start(self, epochs: int, done: int, images: int) -> None:
        """A run of ``epochs`` epochs of ``images`` images begins with ``done`` images behind it."""

    def update(self, epoch: int, done: int, point: dict, speed: float) -> None:
        """``done`` images of the run are behind it; ``point`` is what was logged last, ``speed`` the images per second."""

    def epoch(self, record: dict) -> None:
        """An epoch is over."""

    def message(self, text: str) -> None:
        """Something the user should know."""

    def stop(self) -> None:
        """The run is over."""


def epoch_line(record: dict, epochs: int) -> str:
    """One line about a finished epoch."""
    width = len(str(epochs))
    text = f"epoch {record['epoch']:{width}d}/{epochs}  loss {record['loss']:.4f}  accuracy {record['accuracy']:7.2%}"
    if record.get("validation_loss") is not None:
        text += f"  validation loss {record['validation_loss']:.4f}  accuracy {record['validation_accuracy']:7.2%}"
    return f"{text}  {record['images_per_second']:,.0f} images/s  {record['seconds']:.1f} s"


class Lines(Silent):
    """One plain line per epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def building(self, device):
        self.message(f"building kernels for {device} …")

    def start(self, epochs, done, images):
        self.epochs = epochs

    def epoch(self, record):
        self.message(epoch_line(record, self.epochs))

    def message(self, text):
        print(text, flush=True)


class Bar(Lines):
    """A live bar over the whole run, and a line above it per epoch."""

    def __init__(self, console):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        super().__init__()
        self.console = console
        self._progress = Progress(TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
                                  TextColumn("{task.fields[measured]}"), TimeRemainingColumn(), console=console, transient=True)
        self._task = None

    def start(self, epochs, done, images):
        super().start(epochs, done, images)
        self._task = self._progress.add_task("", total=epochs * images, completed=done,
                                             epoch=f"{done // images + 1}/{epochs}", measured="")

    def update(self, epoch, done, point, speed):
        self._progress.start()          # not before: while kernels are built, the terminal shows how far that is
        measured = f"loss {point['loss']:.4f}  accuracy {point['accuracy']:.2%}  {speed:,.0f} images/s"
        self._progress.update(self._task, completed=done, epoch=f"{epoch}/{self.epochs}", measured=measured)

    def message(self, text):
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self):
        self._progress.stop()


def make_progress(wanted: bool) -> Silent:
    """The form of progress that suits the output."""
    if not wanted:
        return Silent()
    if not sys.stdout.isatty():
        return Lines()
    from rich.console import Console
    return Bar(Console())
