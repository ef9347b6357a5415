"""Writing what commands leave behind, with errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import FileError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors while writing ``path`` into a FileError."""
    try:
        yield
    except OSError as error:
        raise FileError("cannot be written", where=path, got=error.strerror or error,
                        hint="check the folder, its permissions and the free space") from error


def make_folder(path: Path) -> Path:
    """The folder, made with its parents if it is not there.

    Raises:
        FileError: if it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path
