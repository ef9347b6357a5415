"""MNIST: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/, from its IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError, FileError
from .dataset import ArrayDataset
from .download import download as fetch
from .places import checked_split, download_folder, not_found, search_folders

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"

# The gzip files as they are served.
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}

# Of the 60,000 training images; the test images are normalised with the same.
MEAN, STD = (0.1306604762738429,), (0.30810780385646264,)

_UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path, rank: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzip or plain: uint8 of ``rank`` axes.

    Raises:
        FileError: names the file: unreadable, wrong magic number, truncated, or bytes after the end.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError("the file cannot be read: truncated or damaged", where=path, got=error, hint="fetch it again") from error
    magic = (_UNSIGNED_BYTE << 8) | rank
    found = int.from_bytes(data[:4], "big")
    header = 4 + 4 * rank
    if len(data) >= 4 and found != magic:
        raise FileError("not the IDX file it should be", where=path, got=f"magic number 0x{found:08x}",
                        expected=f"0x{magic:08x}: unsigned bytes, {rank} axes",
                        hint="look whether images and labels were swapped")
    if len(data) < header:
        raise FileError("the file ends within its header", where=path, got=f"{len(data)} bytes", expected=f"{header} or more",
                        hint="fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", rank, 4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        what = "the file is truncated" if len(data) < expected else "the file has bytes after its end"
        raise FileError(what, where=path, got=f"{len(data)} bytes", hint="fetch it again",
                        expected=f"{expected}, for {'x'.join(map(str, shape))} values")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def _find(folder: Path, stem: str) -> Path | None:
    """The file as LeCun served it, unpacked, or with the dot that some unpackers put before ``idx``."""
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), f"{stem.replace('-idx', '.idx')}.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _locate(stems: tuple[str, str], root: str | Path | None, download: bool) -> list[Path]:
    folders = search_folders(root, "mnist")
    for folder in folders:
        found = [path for stem in stems if (path := _find(folder, stem))]
        if len(found) == len(stems):
            return found
    if not download:
        raise not_found("MNIST", folders, [f"{stem}[.gz]" for stem in stems], ADDRESS)
    target = download_folder("mnist")
    return [fetch(f"{ADDRESS}{stem}.gz", target / f"{stem}.gz", MD5[stem]) for stem in stems]


class MNIST(ArrayDataset):
    """Handwritten digits: 60,000 training and 10,000 test images, uint8 (1, 28, 28), 10 classes.

    Looks for the IDX files, gzip or plain, in ``root``, ``root/mnist``, CLNN_DATA and CLNN_DATA/mnist, and the download cache.
    Other sets of the same form (Fashion-MNIST) are read as well.

    Args:
        root: a folder to look in first.
        split: "train" or "test".
        download: fetch into CLNN_CACHE/mnist what is found nowhere.

    Raises:
        FileError: not found, or a file is damaged; names the file.
        DataError: images and labels differ in number.
        DownloadError: the download failed.
        ArgumentError: an unknown split.
    """

    def __init__(self, root: str | Path | None = None, split: str = "train", download: bool = True):
        prefix = "train" if checked_split(split, "train", "test") == "train" else "t10k"
        images_file, labels_file = _locate((f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"), root, download)
        images, labels = read_idx(images_file, rank=3), read_idx(labels_file, rank=1)
        if len(images) != len(labels):
            raise DataError("images and labels differ in number", where=images_file, got=f"{len(images)} images",
                            expected=f"{len(labels)}, as {labels_file.name}", hint="take both files from one source")
        if len(labels) and labels.max() > 9:
            first = int(np.argmax(labels > 9))
            raise FileError("a label is out of range", where=labels_file, got=f"label {labels[first]} at index {first}",
                            expected="0 to 9")
        super().__init__(images[:, None], labels, [str(digit) for digit in range(10)], f"mnist/{split}", mean=MEAN, std=STD)
