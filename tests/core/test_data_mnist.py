"""MNIST from IDX files: small synthetic ones with every defect, and the real ones where they are at hand."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from clnn.config import config
from clnn.data import MNIST
from clnn.data.mnist import read_idx
from clnn.errors import ArgumentError, DataError, FileError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DATA = Path(os.environ.get("CLNN_DATA", ""))


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


PIXELS = np.arange(7 * 5 * 4).reshape(7, 5, 4) % 251
DIGITS = np.arange(7)


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path):
    with config.override(data=None, cache=tmp_path / "cache"):
        yield


def write(folder, images=None, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / IMAGES).write_bytes(idx(PIXELS) if images is None else images)
    (folder / LABELS).write_bytes(idx(DIGITS) if labels is None else labels)
    return folder


def check(dataset):
    np.testing.assert_array_equal(dataset.images[:, 0], PIXELS)
    np.testing.assert_array_equal(dataset.labels, DIGITS)
    assert dataset.num_classes == 10
    assert dataset.name == "mnist/train"
    assert dataset.mean == (0.1306604762738429,)


@pytest.mark.parametrize("below", [".", "mnist"])
def test_found_in_root(tmp_path, below):
    write(tmp_path / below)
    check(MNIST(tmp_path, download=False))


@pytest.mark.parametrize("below", [".", "mnist"])
def test_found_through_the_configuration(tmp_path, below):
    write(tmp_path / "data" / below)
    with config.override(data=tmp_path / "data"):
        check(MNIST(download=False))


def test_found_in_the_cache_packed_and_with_dots(tmp_path):
    folder = tmp_path / "cache" / "mnist"
    folder.mkdir(parents=True)
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(PIXELS)))
    (folder / "train-labels.idx1-ubyte").write_bytes(idx(DIGITS))
    check(MNIST(download=False))


def test_not_found(tmp_path):
    with pytest.raises(FileError) as caught:
        MNIST(tmp_path / "root", split="test", download=False)
    text = str(caught.value)
    assert text.startswith(f"MNIST: MNIST was not found\n  got:      looked in {tmp_path / 'root'}, ")
    assert "t10k-images-idx3-ubyte[.gz]" in text
    assert "set CLNN_DATA" in text


def test_unknown_split(tmp_path):
    with pytest.raises(ArgumentError, match="split: unknown split\n  got:      'all'\n  expected: 'train', 'test'"):
        MNIST(tmp_path, split="all")


@pytest.mark.parametrize(("images", "text"), [
    (idx(DIGITS), "not the IDX file it should be\n  got:      magic number 0x00000801\n  expected: 0x00000803"),
    (idx(PIXELS)[:-3], "the file is truncated\n  got:      153 bytes\n  expected: 156, for 7x5x4 values"),
    (idx(PIXELS) + b"\0", "the file has bytes after its end\n  got:      157 bytes\n  expected: 156"),
    (idx(PIXELS)[:9], "the file ends within its header\n  got:      9 bytes\n  expected: 16 or more"),
    (b"", "the file ends within its header"),
    (gzip.compress(idx(PIXELS))[:-12], "the file cannot be read: truncated or damaged"),
    (gzip.compress(idx(PIXELS))[:-8] + b"\0" * 8, "the file cannot be read: truncated or damaged"),
])
def test_damaged_files(tmp_path, images, text):
    write(tmp_path, images=images)
    with pytest.raises(FileError) as caught:
        MNIST(tmp_path, download=False)
    assert str(caught.value).startswith(f"{tmp_path / IMAGES}: {text}")


def test_unequal_numbers(tmp_path):
    write(tmp_path, labels=idx(DIGITS[:6]))
    with pytest.raises(DataError) as caught:
        MNIST(tmp_path, download=False)
    assert str(caught.value).startswith(f"{tmp_path / IMAGES}: images and labels differ in number\n  got:      7 images\n"
                                        f"  expected: 6, as {LABELS}")


def test_label_out_of_range(tmp_path):
    write(tmp_path, labels=idx(np.array([0, 1, 10, 3, 4, 5, 6])))
    with pytest.raises(FileError) as caught:
        MNIST(tmp_path, download=False)
    assert str(caught.value) == f"{tmp_path / LABELS}: a label is out of range\n  got:      label 10 at index 2\n" \
                                "  expected: 0 to 9"


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="CLNN_DATA names no folder with mnist")
def test_the_real_files():
    test, train = MNIST(DATA, "test", download=False), MNIST(DATA, "train", download=False)
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert set(train.labels) == set(range(10))
    known = {"t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea", LABELS: "a25bea736e30d166cdddb491f175f624"}
    for stem, md5 in known.items():
        array = read_idx(DATA / "mnist" / f"{stem}.gz", rank=3 if "idx3" in stem else 1)
        assert hashlib.md5(idx(array)).hexdigest() == md5
