"""Arrays that were costly to make, kept in one .npz file between runs."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


def _read(file: Path, names: Sequence[str]) -> Arrays | None:
    """The stored arrays; None when the file is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None


def _write(file: Path, arrays: Arrays) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as target:
            np.savez(target, allow_pickle=False, **arrays)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def load_or_build(file: Path, names: Sequence[str], build: Callable[[], Arrays]) -> Arrays:
    """The arrays ``names`` stored in ``file``, or those of ``build()``, which are then stored there for the next time.

    A damaged file is built again. A folder that cannot be written costs a warning, not the data.
    """
    stored = _read(file, names)
    if stored is not None:
        return stored
    arrays = build()
    try:
        _write(file, arrays)
    except OSError as error:
        warnings.warn(f"{file} cannot be written ({error}); the data will be decoded again next time; CLNN_CACHE chooses another "
                      "folder", stacklevel=2)
    return arrays
