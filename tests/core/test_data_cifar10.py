"""CIFAR-10 in its three forms, each small and synthetic, and the first files of the real archive where it is at hand."""

import io
import itertools
import os
import pickle
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from clnn.config import config
from clnn.data import CIFAR10
from clnn.data.archive import read_members
from clnn.data.cifar10 import CLASSES
from clnn.data.images import decode_image
from clnn.errors import ArgumentError, FileError

ARCHIVE = Path(os.environ.get("CLNN_DATA", "")) / "cifar10-jpeg.tar.xz"

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path):
    with config.override(data=None, cache=tmp_path / "cache"):
        yield


def samples(batch, count=3):
    random = np.random.default_rng(BATCHES.index(batch))
    return random.integers(0, 256, (count, 3072), np.uint8), random.integers(0, 10, count)


def binary(batch):
    rows, labels = samples(batch)
    return np.concatenate([labels[:, None].astype(np.uint8), rows], axis=1).tobytes()


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote str, as in the original files."""

    def save_old_text(self, text):
        self.write(pickle.BINSTRING + len(text).to_bytes(4, "little") + text)

    dispatch: ClassVar = pickle._Pickler.dispatch | {bytes: save_old_text}


def pickled(batch, old=True):
    rows, labels = samples(batch)
    content = {b"data": rows, b"labels": labels.tolist(), b"filenames": [b"a.png"] * len(rows)}
    if not old:
        return pickle.dumps(content, protocol=4)
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


def jpeg_files(missing=()):
    pillow = pytest.importorskip("PIL.Image", reason="JPEG needs Pillow")
    for split, (index, name) in itertools.product(("test", "train"), enumerate(CLASSES)):
        if name not in missing:
            stream = io.BytesIO()
            pillow.new("RGB", (32, 32), (index * 20, 100, 50 if split == "test" else 200)).save(stream, "JPEG")
            yield f"cifar10/{split}/{name}/0000.jpg", stream.getvalue()


def pack(path, files):
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def unpacked(folder, files):
    folder.mkdir(parents=True)
    for name, data in files:
        (folder / name).write_bytes(data)
    return folder


FORMS = {
    "binary folder": lambda at: unpacked(at / "cifar-10-batches-bin", [(f"{batch}.bin", binary(batch)) for batch in BATCHES]),
    "binary archive": lambda at: pack(at / "cifar-10-binary.tar.gz",
                                      [(f"cifar-10-batches-bin/{batch}.bin", binary(batch)) for batch in BATCHES]),
    "pickled folder": lambda at: unpacked(at / "cifar-10-batches-py", [(batch, pickled(batch)) for batch in BATCHES]),
    "pickled anew": lambda at: unpacked(at / "cifar-10-batches-py", [(batch, pickled(batch, old=False)) for batch in BATCHES]),
    "pickled archive": lambda at: pack(at / "cifar-10-python.tar.gz",
                                       [(f"cifar-10-batches-py/{batch}", pickled(batch)) for batch in BATCHES]),
}


@pytest.mark.parametrize("form", FORMS)
def test_originals(tmp_path, form):
    FORMS[form](tmp_path)
    train, test = CIFAR10(tmp_path, download=False), CIFAR10(tmp_path, "test", download=False)
    rows, labels = zip(*(samples(batch) for batch in BATCHES), strict=True)
    np.testing.assert_array_equal(train.images, np.concatenate(rows[:5]).reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(train.labels, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(test.images, rows[5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(test.labels, labels[5])
    assert train.classes == CLASSES
    assert train.mean == test.mean
    assert train.name == "cifar10/train"


def test_root_may_be_the_form_itself_or_come_from_the_configuration(tmp_path):
    (tmp_path / "cifar10").mkdir()
    folder = FORMS["binary folder"](tmp_path / "cifar10")
    assert len(CIFAR10(folder, download=False)) == 15
    with config.override(data=tmp_path):
        assert len(CIFAR10(download=False)) == 15


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def refusal(tmp_path, batches):
    unpacked(tmp_path / "cifar-10-batches-py", batches)
    with pytest.raises(FileError) as caught:
        CIFAR10(tmp_path, "test", download=False)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "cifar-10-batches-py"))
    return text


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    content = {"data": Malicious(), "labels": []}
    text = refusal(tmp_path, [("test_batch", pickle.dumps(content, protocol))])
    assert "test_batch: the pickle is unsafe, and was not run\n  got:      it names " in text
    assert "mkdir" in text
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "os.system"])
def test_no_other_name_is_allowed(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    text = refusal(tmp_path, [("test_batch", f"c{module}\n{attribute}\n.".encode())])
    assert f"it names {name}" in text


@pytest.mark.parametrize("data", [
    b"", b"garbage", pickled("test_batch")[:500], pickle.dumps([1, 2]), pickle.dumps({b"labels": [1]}),
    pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, 4),
    pickle.dumps({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, 4),
    pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, 4),
    pickle.dumps({b"data": np.array([{}], object), b"labels": [0]}, 4),
])
def test_pickles_that_hold_something_else(tmp_path, data):
    assert "test_batch: not a batch of CIFAR-10, or damaged\n  got:      " in refusal(tmp_path, [("test_batch", data)])


def test_missing_batches(tmp_path):
    folder = unpacked(tmp_path / "cifar-10-batches-bin", [("data_batch_1.bin", binary("data_batch_1"))])
    with pytest.raises(FileError) as caught:
        CIFAR10(tmp_path, download=False)
    assert str(caught.value).startswith(f"{folder}: files are missing\n  got:      no data_batch_2.bin, data_batch_3.bin")


@pytest.mark.parametrize(("data", "text"), [
    (binary("test_batch")[:-1], "not whole records of CIFAR-10, or truncated\n  got:      9218 bytes\n  expected: a multiple of"),
    (b"", "not whole records of CIFAR-10, or truncated"),
    (b"\x0a" + bytes(3072), "a label is out of range\n  got:      label 10 at index 0\n  expected: 0 to 9"),
])
def test_damaged_binary(tmp_path, data, text):
    folder = unpacked(tmp_path / "cifar-10-batches-bin", [("test_batch.bin", data)])
    with pytest.raises(FileError) as caught:
        CIFAR10(tmp_path, "test", download=False)
    assert str(caught.value).startswith(f"{folder}: test_batch.bin: {text}")


def test_truncated_archive(tmp_path):
    path = FORMS["binary archive"](tmp_path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(FileError, match=r"cifar-10-binary\.tar\.gz.*: cannot be read: truncated"):
        CIFAR10(tmp_path, download=False)


def test_not_found(tmp_path):
    with pytest.raises(FileError, match="CIFAR-10 was not found\n  got:      looked in") as caught:
        CIFAR10(tmp_path, download=False)
    assert "cifar-10-batches-bin or cifar-10-binary.tar.gz or" in str(caught.value)
    with pytest.raises(ArgumentError, match="split: unknown split"):
        CIFAR10(tmp_path, split="val")


def test_jpeg_archive_is_decoded_once(tmp_path, monkeypatch):
    pack(tmp_path / "cifar10-jpeg.tar.xz", jpeg_files())
    train, test = CIFAR10(tmp_path, download=False), CIFAR10(tmp_path, "test", download=False)
    assert train.name == "cifar10-jpeg/train"
    assert train.labels.tolist() == list(range(10))
    assert train.images[3, :, 5, 5].tolist() == pytest.approx([60, 100, 200], abs=4)
    assert test.images[3, :, 5, 5].tolist() == pytest.approx([60, 100, 50], abs=4)

    def fail(*_):
        raise AssertionError("decoded again")
    monkeypatch.setattr("clnn.data.cifar10.read_image_folder", fail)
    again = CIFAR10(tmp_path, download=False)
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(again.labels, train.labels)
    assert [path.suffix for path in (tmp_path / "cache" / "cifar10").iterdir()] == [".npz", ".npz"]


def test_a_damaged_or_outdated_cache_is_built_again(tmp_path):
    archive = pack(tmp_path / "cifar10-jpeg.tar.xz", jpeg_files())
    train = CIFAR10(tmp_path, download=False)
    [cached] = (tmp_path / "cache" / "cifar10").iterdir()
    whole = cached.read_bytes()
    for damaged in (b"", b"nothing", whole[:len(whole) // 2], whole[:3000] + b"\xff\x00\xff" + whole[3003:], pickle.dumps([1])):
        cached.write_bytes(damaged)
        np.testing.assert_array_equal(CIFAR10(tmp_path, download=False).images, train.images)
        assert len(cached.read_bytes()) == len(whole)
    os.utime(archive, ns=(0, 10**9))
    CIFAR10(tmp_path, download=False)
    assert len(list((tmp_path / "cache" / "cifar10").iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    pack(tmp_path / "cifar10-jpeg.tar.xz", jpeg_files())
    (tmp_path / "file").write_text("no folder")
    with config.override(cache=tmp_path / "file"), pytest.warns(UserWarning, match="CLNN_CACHE chooses another folder"):
        assert len(CIFAR10(tmp_path, download=False)) == 10


def test_jpeg_archive_of_other_classes(tmp_path):
    pack(tmp_path / "cifar10-jpeg.tar.xz", jpeg_files(missing=["frog"]))
    with pytest.raises(FileError, match="not the classes of CIFAR-10"):
        CIFAR10(tmp_path, download=False)


@pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"CLNN_DATA names no folder with {ARCHIVE.name}")
def test_the_first_images_of_the_real_archive():
    pytest.importorskip("PIL")
    for name, data in itertools.islice(read_members(ARCHIVE), 50):
        assert name.startswith("cifar10/test/airplane/")
        assert decode_image(data, "RGB").shape == (3, 32, 32)
