"""Where data sets are looked for."""

from __future__ import annotations

from pathlib import Path

from ..config import config
from ..errors import ArgumentError, FileError


def search_folders(root: str | Path | None, name: str) -> list[Path]:
    """Folders that may hold data set ``name``: root, CLNN_DATA and the download cache, each with its subfolder."""
    bases = [Path(base).expanduser() for base in (root, config.data) if base is not None]
    folders = [folder for base in bases for folder in (base, base / name)] + [download_folder(name)]
    return list(dict.fromkeys(folders))


def download_folder(name: str) -> Path:
    """Where downloads of data set ``name`` go: CLNN_CACHE/name."""
    return Path(config.cache) / name


def checked_split(split: str, *names: str) -> str:
    """``split`` if it is one of ``names``, else ArgumentError."""
    if split not in names:
        raise ArgumentError("unknown split", where="split", got=repr(split), expected=", ".join(map(repr, names)))
    return split


def not_found(data_set: str, folders: list[Path], files: list[str], pages: str) -> FileError:
    """The error for a data set that is nowhere, and may not be downloaded."""
    return FileError(f"{data_set} was not found", where=data_set, got="looked in " + ", ".join(map(str, folders)),
                     expected=" or ".join(files),
                     hint=f"set CLNN_DATA to the folder that holds it, pass root=, or download=True fetches it from {pages}")
