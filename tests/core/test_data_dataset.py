"""ArrayDataset: what it accepts, what it refuses and how it says so, normalising and splitting."""

import numpy as np
import pytest

from clnn.data import ArrayDataset
from clnn.errors import ArgumentError, DataError, DTypeError, ShapeError


def random_images(count=20, shape=(3, 4, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels_for(count, classes=4):
    return np.arange(count) % classes


@pytest.fixture
def dataset():
    return ArrayDataset(random_images(), labels_for(20), name="noise")


def test_attributes(dataset):
    assert len(dataset) == 20
    assert dataset.sample_shape == (3, 4, 5)
    assert dataset.classes == ["0", "1", "2", "3"]
    assert dataset.num_classes == 4
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    assert repr(dataset) == "ArrayDataset(noise: 20 of 3x4x5 uint8, 4 classes)"


def test_indexing(dataset):
    image, label = dataset[5]
    assert image.shape == (3, 4, 5)
    assert label == 1
    assert isinstance(label, int)
    images, labels = dataset[2:6]
    assert images.shape == (4, 3, 4, 5)
    assert labels.tolist() == [2, 3, 0, 1]
    assert dataset[np.array([7, 0])][1].tolist() == [3, 0]
    assert sum(1 for _ in dataset) == 20


@pytest.mark.parametrize("images", [random_images(), np.random.default_rng(1).normal(3, 2, (20, 3, 4, 5)).astype(np.float32)],
                         ids=["uint8", "float32"])
def test_normalised_data_has_mean_0_and_std_1(images):
    dataset = ArrayDataset(images, labels_for(20))
    scaled = images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)
    np.testing.assert_allclose(dataset.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)
    normal = dataset.normalise(images)
    assert normal.dtype == np.float32
    expected = (scaled - scaled.mean(axis=(0, 2, 3), keepdims=True)) / scaled.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(normal, expected, atol=2e-6)
    np.testing.assert_array_equal(dataset.normalise(images[3]), normal[3])


def test_vectors_have_one_mean():
    vectors = np.random.default_rng(0).normal(2, 3, (10, 7))
    dataset = ArrayDataset(vectors, labels_for(10))
    assert dataset.images.dtype == np.float32
    assert dataset.sample_shape == (7,)
    assert len(dataset.mean) == len(dataset.std) == 1
    assert abs(dataset.normalise(dataset.images).mean()) < 1e-6
    assert dataset.normalise(dataset.images[0]).shape == (7,)


def test_a_constant_channel_normalises_to_zeros():
    images = random_images()
    images[:, 1] = 200
    dataset = ArrayDataset(images, labels_for(20))
    assert dataset.std[1] == 1.0
    np.testing.assert_allclose(dataset.normalise(images)[:, 1], 0, atol=1e-6)


def test_mean_and_std_can_be_overridden(dataset):
    given = ArrayDataset(dataset.images, dataset.labels, mean=[0.5], std=[0.25, 0.5, 1])
    assert given.mean == (0.5,)
    assert given.std == (0.25, 0.5, 1.0)
    given.mean, given.std = dataset.mean, dataset.std
    np.testing.assert_array_equal(given.normalise(given.images), dataset.normalise(dataset.images))


@pytest.mark.parametrize(("arguments", "text"), [
    ({"mean": [0.1, 0.2]}, "mean: wrong number of values\n  got:      2\n  expected: 1 or 3"),
    ({"std": [0.0]}, "std: cannot normalise with this\n  got:      (0.0,)\n  expected: finite values above 0"),
    ({"mean": [float("nan")]}, "mean: cannot normalise with this"),
])
def test_unusable_statistics(arguments, text):
    with pytest.raises(ArgumentError) as caught:
        ArrayDataset(random_images(), labels_for(20), **arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize(("images", "labels", "classes", "error", "text"), [
    (np.zeros((5, 4, 4), np.uint8), labels_for(5), None, ShapeError,
     "shape (5, 4, 4)\n  expected: (D, C, H, W), or (D, F) for vectors\n  try:      images[:, None] adds the channel axis"),
    (np.zeros((0, 1, 4, 4), np.uint8), [], None, DataError, "x: images: the data set is empty"),
    (np.zeros((5, 1, 0, 4), np.uint8), labels_for(5), None, ShapeError, "an axis of size 0"),
    (np.zeros((5, 1, 4, 4), np.int64), labels_for(5), None, DTypeError,
     "got:      int64\n  expected: uint8 (0 to 255) or float32"),
    (random_images(5), labels_for(4), None, DataError,
     "x: labels: images and labels differ in number\n  got:      4 labels\n  expected: 5, one per image"),
    (random_images(5), np.arange(5.0), None, DTypeError, "labels are not whole numbers\n  got:      float64"),
    (random_images(5), np.eye(5, dtype=int), None, ShapeError, "labels.argmax(axis=1)"),
    (random_images(5), [0, 1, 5, 1, 9], ["a", "b"], DataError,
     "2 of 5 labels are out of range\n  got:      labels[2] = 5\n  expected: 0 to 1"),
    (random_images(5), [0, 1, -1, 1, 0], None, DataError, "1 of 5 labels are out of range\n  got:      labels[2] = -1"),
    (random_images(5), [0, 2**40, 0, 1, 0], None, DataError, "labels are too large to be class numbers"),
    (random_images(5), [0, 2**40, 0, 1, 0], ["a", "b"], DataError, "labels[1] = "),
    (random_images(5), labels_for(5), ["a", "b", "a", "c"], ArgumentError, "class names repeat\n  got:      ['a']"),
])
def test_refusals(images, labels, classes, error, text):
    with pytest.raises(error) as caught:
        ArrayDataset(images, labels, classes, name="x")
    assert text in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite(value):
    images = np.zeros((6, 1, 3, 3))
    images[4, 0, 1, 1] = images[5, 0, 0, 0] = value
    with pytest.raises(DataError, match="NaN or an infinity\n  got:      first in sample 4"):
        ArrayDataset(images, labels_for(6))


def test_subset_keeps_normalisation_and_classes(dataset):
    part = dataset.subset([3, -1, 3])
    assert part.labels.tolist() == [3, 3, 3]
    assert part.mean == dataset.mean
    assert part.classes == dataset.classes
    assert len(dataset.subset(dataset.labels == 2)) == 5


@pytest.mark.parametrize(("indices", "error", "text"), [
    ([0, 20], ArgumentError, "index outside the data set\n  got:      20\n  expected: 0 to 19"),
    ([0.5], ArgumentError, "cannot pick samples"),
    ([], DataError, "the data set is empty"),
])
def test_subset_refusals(dataset, indices, error, text):
    with pytest.raises(error) as caught:
        dataset.subset(indices)
    assert text in str(caught.value)


def test_split_is_a_deterministic_partition():
    vectors = np.arange(50, dtype=np.float32)[:, None]
    dataset = ArrayDataset(vectors, labels_for(50))
    train, validation = dataset.split(0.2, seed=3)
    assert (len(train), len(validation)) == (40, 10)
    assert sorted([*train.images[:, 0], *validation.images[:, 0]]) == list(range(50))
    assert train.mean == validation.mean == dataset.mean
    np.testing.assert_array_equal(dataset.split(10, seed=3)[1].images, validation.images)
    assert not np.array_equal(dataset.split(10, seed=4)[1].images, validation.images)


@pytest.mark.parametrize("validation", [0, 1.0, 20, -3, 1.5, 0.001, "half", True])
def test_split_refuses_empty_parts(dataset, validation):
    with pytest.raises(ArgumentError, match="both parts of a split need samples"):
        dataset.split(validation)
