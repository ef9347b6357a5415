"""Data sets by name, for the command line."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import ArgumentError, FileError
from .archive import SUFFIXES
from .cifar10 import CIFAR10
from .dataset import ArrayDataset
from .digits import digits
from .folder import ImageFolder, list_splits
from .mnist import MNIST
from .places import checked_split

NAMES = ("digits", "mnist", "cifar10")

_HELD_OUT = 0.2


def _load_folder(path: Path, split: str, size: int | tuple[int, int] | None, mode: str) -> ArrayDataset:
    if splits := list_splits(path):
        chosen = "val" if split == "test" and "test" not in splits and "val" in splits else split
        return ImageFolder(path, size, mode, None if split == "all" else chosen)
    whole = ImageFolder(path, size, mode)
    if split == "all":
        return whole
    part = whole.split(_HELD_OUT)[0 if split == "train" else 1]
    part.name = f"{whole.name}/{split}"
    return part


def load(name: str, root: str | Path | None = None, split: str = "train", size: int | tuple[int, int] | None = None,
         mode: str = "RGB") -> ArrayDataset:
    """Load a data set by its name, or images from a folder or archive by its path.

    Args:
        name: "digits", "mnist", "cifar10", or the path of a folder or archive for :class:`~clnn.data.ImageFolder`; the path may
            be relative to ``root``.
        root: where to look first.
        split: "train", "test" or "all" ("all": digits, and folders that start with the classes). A folder that has no splits of
            its own is cut: a fixed fifth, shuffled, is "test". "test" takes ``val`` where there is no ``test``.
        size: scale images to this, a number or (H, W); digits and folders only.
        mode: "RGB" or "L", for folders.

    Raises:
        ArgumentError: an unknown name (suggests the nearest) or split, or a size for a set of fixed size.
        FileError, DataError, DownloadError: as the data set's own.
    """
    checked_split(split, "train", "test", "all")
    if name.lower() == "digits":
        return digits(split, size=size)
    if name.lower() in NAMES:
        if size is not None:
            raise ArgumentError(f"{name} has images of one fixed size", where="size", got=size, hint="leave the size out")
        return MNIST(root, split) if name.lower() == "mnist" else CIFAR10(root, split)
    for path in (Path(name).expanduser(), *([Path(root) / name] if root is not None else [])):
        if path.exists():
            return _load_folder(path, split, size, mode)
    known = f"{', '.join(NAMES)}, or the path of a folder or archive of images"
    if "/" in name or "\\" in name or name.lower().endswith(SUFFIXES):
        raise FileError("no such folder or archive", where=name, expected=known)
    nearest = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
    raise ArgumentError("unknown data set", where="data", got=repr(name), expected=known,
                        hint=f"did you mean {nearest[0]!r}?" if nearest else None)
