"""digits(), load() by name, and what is said when a package is missing."""

import io
import sys

import numpy as np
import pytest

from clnn.config import config
from clnn.data import NAMES, digits, load
from clnn.errors import ArgumentError, ClnnError, FileError


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path):
    with config.override(data=None, cache=tmp_path / "cache"):
        yield


def carried():
    return pytest.importorskip("sklearn.datasets", reason="digits come with scikit-learn").load_digits()


def test_digits():
    source, dataset = carried(), digits()
    assert dataset.images.shape == (1797, 1, 8, 8)
    assert dataset.images.dtype == np.uint8
    assert dataset.images.max() == 255
    np.testing.assert_allclose(dataset.images[:, 0] / 255 * 16, source.images, atol=0.04)
    np.testing.assert_array_equal(dataset.labels, source.target)
    assert dataset.num_classes == 10


def test_digits_splits():
    carried()
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.mean == test.mean == digits().mean
    np.testing.assert_array_equal(digits("test").images, test.images)
    assert not np.array_equal(digits("test", seed=1).images, test.images)
    assert len(digits("test", test_fraction=0.5)) == 898
    assert train.name == "digits/train"


def test_digits_scaled():
    carried()
    pytest.importorskip("PIL")
    dataset = digits(size=28)
    assert dataset.sample_shape == (1, 28, 28)
    assert digits("test", size=(32, 30)).sample_shape == (1, 32, 30)
    np.testing.assert_allclose(dataset.images.mean(), digits().images.mean(), rtol=0.1)


def test_digits_arguments():
    carried()
    with pytest.raises(ArgumentError, match="split: unknown split\n  got:      'val'\n  expected: 'all', 'train', 'test'"):
        digits("val")
    with pytest.raises(ArgumentError, match="both parts of a split need samples"):
        digits("test", test_fraction=1.0)


@pytest.mark.parametrize(("call", "module", "package"), [(digits, "sklearn.datasets", "scikit-learn"),
                                                         (lambda: digits(size=28), "PIL.Image", "Pillow")])
def test_a_missing_package_is_named(monkeypatch, call, module, package):
    carried()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ClnnError) as caught:
        call()
    assert f"{package} is needed" in str(caught.value)
    assert "pip install 'clnn[data]'" in str(caught.value)


def test_load_by_name():
    carried()
    assert load("digits").name == "digits/train"
    assert len(load("Digits", split="all")) == 1797
    assert load("digits", split="test", size=32).sample_shape == (1, 32, 32)
    assert NAMES == ("digits", "mnist", "cifar10")


@pytest.mark.parametrize(("name", "nearest"), [("minst", "mnist"), ("cifar", "cifar10"), ("CIFAR-10", "cifar10"),
                                               ("digit", "digits")])
def test_unknown_names_suggest_the_nearest(name, nearest):
    with pytest.raises(ArgumentError) as caught:
        load(name)
    assert str(caught.value) == (f"data: unknown data set\n  got:      {name!r}\n  expected: digits, mnist, cifar10, or the path "
                                 f"of a folder or archive of images\n  try:      did you mean {nearest!r}?")


def test_other_refusals():
    with pytest.raises(ArgumentError) as caught:
        load("zzz")
    assert "try:" not in str(caught.value)
    with pytest.raises(FileError, match="absent/pets: no such folder or archive"):
        load("absent/pets")
    with pytest.raises(FileError, match=r"pets\.tar\.gz: no such folder or archive"):
        load("pets.tar.gz")
    with pytest.raises(ArgumentError, match="split: unknown split"):
        load("mnist", split="val")
    with pytest.raises(ArgumentError, match="size: mnist has images of one fixed size"):
        load("mnist", size=32)


@pytest.fixture
def pets(tmp_path):
    """Ten pictures of each of two classes, without splits."""
    pillow = pytest.importorskip("PIL.Image", reason="decoding images needs Pillow")
    for name in ("cat", "dog"):
        for index in range(10):
            stream = io.BytesIO()
            pillow.new("RGB", (4, 4), (index, 0, 0)).save(stream, "PNG")
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "pets" / name / f"{index}.png").write_bytes(stream.getvalue())
    return tmp_path / "pets"


def test_a_folder_without_splits_is_cut(pets):
    train, test = load(str(pets)), load("pets", root=pets.parent, split="test")
    assert (len(train), len(test), len(load(str(pets), split="all"))) == (16, 4, 20)
    assert train.mean == test.mean
    assert train.name == "pets/train"
    assert load(str(pets), mode="L", size=6).sample_shape == (1, 6, 6)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_with_splits(pets, tmp_path, held_out):
    (tmp_path / "set").mkdir()
    for split in ("train", held_out):
        (tmp_path / "set" / split).symlink_to(pets)
    for split, name in (("train", "set/train"), ("test", f"set/{held_out}")):
        dataset = load(str(tmp_path / "set"), split=split)
        assert len(dataset) == 20
        assert dataset.name == name
