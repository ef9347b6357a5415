"""Images in class folders: on disk, in a zip or in a tar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError
from .archive import list_members, read_members
from .dataset import ArrayDataset
from .images import EXTENSIONS, MODES, checked_size, decode_image, is_image

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test",
          "val": "val", "valid": "val", "validation": "val"}


@dataclass(frozen=True)
class _Entry:
    """One image file: its path in the source, its split ("" without split folders) and its class."""

    name: str
    split: str
    label: str


def _entries(names: Iterable[str]) -> list[_Entry]:
    """Read splits and classes off the paths, past one folder that wraps everything."""
    paths = [(name, name.split("/")) for name in sorted(names) if is_image(name)]
    tops = {parts[0] for _, parts in paths}
    deepest = max((len(parts) for _, parts in paths), default=0)
    wrapped = len(tops) == 1 and deepest >= 3 and next(iter(tops)).lower() not in SPLITS
    paths = [(name, parts[1:] if wrapped else parts) for name, parts in paths]
    split_up = [_Entry(name, SPLITS[parts[0].lower()], parts[1]) for name, parts in paths
                if len(parts) > 2 and parts[0].lower() in SPLITS]
    if split_up:  # a class may be called "train" too, but then it holds images and not folders
        return split_up
    return [_Entry(name, "", parts[0]) for name, parts in paths if len(parts) > 1]


def _select(entries: list[_Entry], path: Path, split: str | None) -> list[_Entry]:
    """The entries of one split, or all where there are no split folders and none was asked for."""
    if split is not None and split.lower() not in SPLITS:
        raise ArgumentError("unknown split", where="split", got=repr(split), expected="train, test or val")
    if not entries:
        raise DataError("no images in class folders", where=path, expected="<class>/<image>, or <split>/<class>/<image>",
                        hint=f"images end in {' '.join(sorted(EXTENSIONS))}")
    found = sorted({entry.split for entry in entries})
    if split is None:
        if found != [""]:
            raise DataError(f"holds the splits {', '.join(found)}, and none was chosen", where=path,
                            hint=f"pass split={found[-1]!r}")
        return entries
    chosen = [entry for entry in entries if entry.split == SPLITS[split.lower()]]
    if not chosen:
        raise DataError(f"has no folder for the split {split!r}", where=path,
                        got="no split folders" if found == [""] else f"the splits {', '.join(found)}",
                        hint="leave split out and cut the set with .split()" if found == [""] else None)
    return chosen


def list_splits(path: str | Path) -> tuple[str, ...]:
    """The splits that a folder or archive of images holds: of "test", "train", "val"; empty when it starts with the classes."""
    return tuple(sorted({entry.split for entry in _entries(list_members(path))} - {""}))


def read_image_folder(path: str | Path, size: tuple[int, int] | None, mode: str,
                      split: str | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8 (D, C, H, W), labels int32 (D,) and class names; samples in the order of their sorted paths."""
    path = Path(path)
    entries = _entries(list_members(path))
    chosen = _select(entries, path, split)
    classes = sorted({entry.label for entry in entries})  # over all splits, so that each numbers them alike
    position = {entry.name: index for index, entry in enumerate(chosen)}
    labels = np.array([classes.index(entry.label) for entry in chosen], np.int32)
    images, first = None, ""
    for name, data in read_members(path, position.keys()):
        image = decode_image(data, mode, size, where=f"{path}: {name}")
        if images is None:
            images, first = np.empty((len(chosen), *image.shape), np.uint8), name
        if image.shape != images.shape[1:]:
            raise DataError("images of different sizes", where=path, got=f"{name} is {image.shape[2]}x{image.shape[1]}",
                            expected=f"{images.shape[3]}x{images.shape[2]}, as {first}",
                            hint=f"pass size=, e.g. size={images.shape[2]}, to scale all of them")
        images[position[name]] = image
    assert images is not None
    return images, labels, classes


class ImageFolder(ArrayDataset):
    """A data set from image files in class folders, decoded into memory.

    ``path`` is a directory, .zip, .tar, .tar.gz, .tar.xz or .tar.bz2 that holds ``<class>/<image>`` or
    ``<split>/<class>/<image>``, below one wrapping folder or none. Classes are numbered by sorted name, over all splits. Files
    that are no images by their extension are ignored. Archives are read in place, never extracted.

    Args:
        path: the folder or archive.
        size: scale every image to this, a number or (H, W), without keeping its proportions; default: all must be of one size.
        mode: "RGB" (C = 3) or "L" (grey, C = 1).
        split: "train", "test" or "val" where the folder has splits.
        mean, std: as for :class:`~clnn.data.ArrayDataset`; give the test set those of the training set.

    Raises:
        FileError: missing, truncated, unsafe or undecodable; names the file.
        DataError: no images, images of different sizes, or a split that is missing or was not chosen.
        ArgumentError: an unknown mode or split, or a size that is none.
    """

    def __init__(self, path: str | Path, size: int | tuple[int, int] | None = None, mode: str = "RGB", split: str | None = None,
                 *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
        if mode not in MODES:
            raise ArgumentError("unknown image mode", where="mode", got=repr(mode), expected="'RGB' or 'L'")
        images, labels, classes = read_image_folder(path, checked_size(size), mode, split)
        name = Path(path).name or str(path)
        super().__init__(images, labels, classes, f"{name}/{split}" if split else name, mean=mean, std=std)
