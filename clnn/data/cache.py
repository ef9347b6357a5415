"""Arrays that were costly to make, kept in one .npz file between runs."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..files import replacing

Arrays = dict[str, np.ndarray]


def _read(file: Path, names: Sequence[str]) -> Arrays | None:
    """The stored arrays; None when the file is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None


def _write(file: Path, arrays: Arrays) -> None:
    with replacing(file, "wb") as target:
        np.savez(target, allow_pickle=False, **arrays)


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
