"""CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, in any of the forms it is found in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import config
from ..errors import FileError
from .archive import read_members
from .cache import load_or_build
from .dataset import ArrayDataset
from .download import download as fetch
from .folder import read_image_folder
from .pickled_batch import read_pickled_batch
from .places import checked_split, download_folder, not_found, search_folders

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE, ARCHIVE_MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

# Of the 50,000 training images; the test images are normalised with the same.
MEAN, STD = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32

Samples = tuple[np.ndarray, np.ndarray]


def read_binary_batch(data: bytes, where: str | Path) -> Samples:
    """Rows uint8 (D, 3072) and labels uint8 (D,) of one file of the "binary version": records of a label and an image.

    Raises:
        FileError: names ``where``: empty, or not a whole number of records.
    """
    if not data or len(data) % _RECORD:
        raise FileError("not whole records of CIFAR-10, or truncated", where=where, got=f"{len(data)} bytes",
                        expected=f"a multiple of {_RECORD} bytes", hint="fetch it again")
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0]


def _read_batches(source: Path, names: list[str], read: Callable[[bytes, str | Path], Samples]) -> Samples:
    """Join the batch files ``names``, found in ``source``, a folder or an archive, at any depth."""
    found = {}
    for name, data in read_members(source):
        if (base := name.rpartition("/")[2]) in names:
            found[base] = read(data, f"{source}: {name}")
            labels = found[base][1]
            bad = np.flatnonzero((labels < 0) | (labels > 9))
            if bad.size:
                raise FileError("a label is out of range", where=f"{source}: {name}",
                                got=f"label {labels[bad[0]]} at index {bad[0]}", expected="0 to 9")
    missing = [name for name in names if name not in found]
    if missing:
        raise FileError("files are missing", where=source, got=f"no {', '.join(missing)}", expected=", ".join(names),
                        hint="fetch it again")
    rows = np.concatenate([found[name][0] for name in names])
    return rows.reshape(-1, *_SHAPE), np.concatenate([found[name][1] for name in names])


def _read_binary(source: Path, split: str) -> Samples:
    names = ["test_batch.bin"] if split == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]
    return _read_batches(source, names, read_binary_batch)


def _read_pickled(source: Path, split: str) -> Samples:
    names = ["test_batch"] if split == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    return _read_batches(source, names, read_pickled_batch)


def _read_jpeg(source: Path, split: str) -> Samples:
    """Decode the class folders, or take what an earlier run decoded of the same file."""
    def decode() -> dict[str, np.ndarray]:
        images, labels, classes = read_image_folder(source, (32, 32), "RGB", split)
        if classes != CLASSES:
            raise FileError("not the classes of CIFAR-10", where=source, got=classes, expected=CLASSES)
        return {"images": images, "labels": labels}

    facts = source.stat()
    key = f"{source.name}-{split}-{facts.st_size}-{facts.st_mtime_ns}.npz"
    stored = load_or_build(Path(config.cache) / "cifar10" / key, ("images", "labels"), decode)
    return stored["images"], stored["labels"]


# In order of preference: the originals before the lossy copy. The name ends in "-jpeg" where accuracies are not comparable.
FORMS: dict[str, tuple[Callable[[Path, str], Samples], str]] = {
    "cifar-10-batches-bin": (_read_binary, "cifar10"),
    "cifar-10-binary.tar.gz": (_read_binary, "cifar10"),
    "cifar-10-batches-py": (_read_pickled, "cifar10"),
    "cifar-10-python.tar.gz": (_read_pickled, "cifar10"),
    "cifar10-jpeg.tar.xz": (_read_jpeg, "cifar10-jpeg"),
}


def _locate(root: str | Path | None, download: bool) -> Path:
    if root is not None and Path(root).name in FORMS and Path(root).exists():
        return Path(root)
    folders = search_folders(root, "cifar10")
    for folder in folders:
        for form in FORMS:
            if (folder / form).exists():
                return folder / form
    if not download:
        raise not_found("CIFAR-10", folders, list(FORMS), ADDRESS)
    return fetch(ADDRESS + ARCHIVE, download_folder("cifar10") / ARCHIVE, ARCHIVE_MD5)


class CIFAR10(ArrayDataset):
    """Small colour photographs: 50,000 training and 10,000 test images, uint8 (3, 32, 32), 10 classes.

    Looks in ``root``, ``root/cifar10``, CLNN_DATA and CLNN_DATA/cifar10, and the download cache for the binary original, the
    pickled original (read without executing it), packed or not, or a copy as JPEG files in class folders; see :data:`FORMS`. The
    JPEG copy is lossy: its name is "cifar10-jpeg", and accuracies on it compare only with each other. Its decoded images are
    kept in CLNN_CACHE/cifar10.

    Args:
        root: a folder to look in first, or one of the forms itself.
        split: "train" or "test".
        download: fetch the binary original (162 MB) into CLNN_CACHE/cifar10 when nothing is found.

    Raises:
        FileError: not found, damaged or unsafe; names the file.
        DownloadError: the download failed.
        ArgumentError: an unknown split.
    """

    def __init__(self, root: str | Path | None = None, split: str = "train", download: bool = True):
        checked_split(split, "train", "test")
        source = _locate(root, download)
        read, name = FORMS[source.name]
        images, labels = read(source, split)
        super().__init__(images, labels, CLASSES, f"{name}/{split}", mean=MEAN, std=STD)
