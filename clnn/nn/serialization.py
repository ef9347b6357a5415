"""Named arrays in safetensors files: no code inside, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import ArgumentError, FileError


def save_state(state: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays and a text dictionary to ``path``.

    The file appears under its name when it is complete and on the disk; until then what was there before stays.

    Raises:
        ArgumentError: for keys or metadata that are not text, or values that are not arrays of numbers.
        FileError: the folder does not exist, is not writable or is full.
    """
    path = Path(path)
    metadata = dict(metadata or {})
    wrong = [key for key, value in metadata.items() if not isinstance(key, str) or not isinstance(value, str)]
    if wrong:
        raise ArgumentError("metadata must be text", where=f"save_state, key {wrong[0]!r}", got=type(metadata[wrong[0]]).__name__,
                            hint="json.dumps(value)")
    arrays = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, (np.ndarray, np.number)) or value.dtype.kind not in "fiub":
            raise ArgumentError("a state holds arrays of numbers by name", where=f"save_state, entry {key!r}",
                                got=getattr(value, "dtype", type(value).__name__))
        arrays[key] = np.asarray(value, order="C")
    if path.is_dir():
        raise FileError("cannot write the file: it is a folder", where=path, hint="give a file name inside it")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        save_file(arrays, temporary, metadata or None)
        os.chmod(temporary, _mode(path))
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        hint = "create the folder" if not path.parent.is_dir() else "check permissions and free space"
        raise FileError("cannot write the file", where=path, got=str(error), hint=hint) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _mode(path: Path) -> int:
    """Permissions for the new file: those of the file that it replaces, or the process's default."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync(path: str | Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    if os.name == "nt" and Path(path).is_dir():
        return                                              # Windows has no handle on a folder's entries
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_state(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays by name, metadata) of a file that :func:`save_state`, or any other safetensors writer, has written.

    Raises:
        FileError: the file is missing, truncated or malformed; says what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("it is a folder, not a file" if path.is_dir() else "there is no such file", where=path,
                        expected="a .safetensors file", hint="check the path")
    try:
        with safe_open(str(path), framework="np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise FileError("the file is truncated or not a safetensors file", where=path,
                        got=f"{path.stat().st_size} bytes, {error}",
                        hint="copy or save it again; what torch.save wrote, safetensors.torch.save_file can write") from error
    except (OSError, TypeError, AttributeError, ValueError) as error:
        raise FileError("the file cannot be read", where=path, got=str(error),
                        hint="check its permissions, and that its arrays have types that numpy knows") from error
