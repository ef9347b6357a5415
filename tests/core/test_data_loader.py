"""DataLoader, its order, its thread, and the host-side transforms."""

import threading
import time

import numpy as np
import pytest

from clnn.data import ArrayDataset, Compose, DataLoader, RandomCrop, RandomHorizontalFlip, epoch_permutation
from clnn.data.prefetch import prefetch
from clnn.errors import ArgumentError, DataError, ShapeError


@pytest.fixture
def dataset():
    images = np.arange(23, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 4), np.uint8)
    return ArrayDataset(images, np.arange(23) % 5)


def threads():
    return sum(thread.name == "clnn-prefetch" for thread in threading.enumerate())


def test_batches_cover_an_epoch(dataset):
    loader = DataLoader(dataset, 5)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    order = epoch_permutation(23, 0, 0)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), dataset.labels[order])
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32
    assert batches[0][1].dtype == np.int32
    np.testing.assert_array_equal(images, dataset.normalise(dataset.images[order]))


def test_drop_last_and_no_shuffle(dataset):
    loader = DataLoader(dataset, 5, shuffle=False, drop_last=True)
    assert len(loader) == 4
    assert np.concatenate([labels for _, labels in loader]).tolist() == dataset.labels[:20].tolist()
    assert len(DataLoader(dataset, 23, drop_last=True)) == 1


def test_every_epoch_has_its_order_and_resumes(dataset):
    loader = DataLoader(dataset, 5, seed=7)
    epochs = [np.concatenate([images[:, 0, 0, 0] for images, _ in loader]) for _ in range(3)]
    assert not np.array_equal(epochs[0], epochs[1])
    resumed = DataLoader(dataset, 5, seed=7)
    resumed.set_epoch(2)
    np.testing.assert_array_equal(np.concatenate([images[:, 0, 0, 0] for images, _ in resumed]), epochs[2])


def test_permutation_is_fixed_for_all_time():
    assert epoch_permutation(8, seed=1, epoch=2).tolist() == [4, 2, 0, 6, 1, 5, 7, 3]
    assert sorted(epoch_permutation(1000, 5, 6)) == list(range(1000))
    assert epoch_permutation(0, 0, 0).shape == (0,)
    assert not np.array_equal(epoch_permutation(50, 0, 1), epoch_permutation(50, 1, 0))


@pytest.mark.parametrize(("seed", "epoch", "where"), [(-1, 0, "seed"), (0, 2**64, "epoch"), (0.5, 0, "seed"), (True, 0, "seed")])
def test_permutation_keys(seed, epoch, where):
    with pytest.raises(ArgumentError, match=f"{where}: cannot key random numbers"):
        epoch_permutation(5, seed, epoch)


def test_a_batch_larger_than_the_data_is_refused(dataset):
    with pytest.raises(DataError) as caught:
        DataLoader(dataset, 24)
    assert str(caught.value) == ("batch_size: the batch is larger than the data set\n  got:      24\n"
                                 "  expected: at most 23, the size of the data set\n"
                                 "  try:      batch_size=23 takes all data as one batch; or use more data")


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_not_a_batch_size(dataset, size):
    with pytest.raises(ArgumentError, match="batch_size: not a batch size"):
        DataLoader(dataset, size)


def test_an_exception_in_the_thread_reaches_the_loop(dataset):
    def fail(images, generator):
        raise DataError("the transform failed")
    with pytest.raises(DataError, match="the transform failed"):
        list(DataLoader(dataset, 5, transform=fail))
    assert threads() == 0


def test_prefetch_raises_after_the_items_before_it():
    def source():
        yield 1
        raise KeyError("two")
    items = prefetch(source())
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)


def test_leaving_a_loop_stops_the_thread(dataset):
    for _ in DataLoader(dataset, 1):
        break
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0


def test_prefetch_stays_within_its_depth():
    made = []
    items = prefetch((made.append(n) or n for n in range(100)), depth=2)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 4
    items.close()
    assert threads() == 0


def test_transform_sees_raw_images_and_depends_on_the_batch_only(dataset):
    seen = []

    def noise(images, generator):
        seen.append(images.dtype)
        return images + generator.integers(0, 9, images.shape, dtype=np.uint8)
    first = [images for images, _ in DataLoader(dataset, 5, transform=noise)]
    second = [images for images, _ in DataLoader(dataset, 5, transform=noise)]
    assert set(seen) == {np.dtype(np.uint8)}
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def numbered():
    return np.arange(6 * 2 * 5 * 7, dtype=np.float32).reshape(6, 2, 5, 7) + 1


def test_random_crop_cuts_windows_of_the_padded_image():
    images = numbered()
    cropped = RandomCrop(2)(images, np.random.default_rng(0))
    assert cropped.shape == images.shape
    assert cropped.dtype == images.dtype
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    places = []
    for before, after in zip(padded, cropped, strict=True):
        fits = [(y, x) for y in range(5) for x in range(5) if np.array_equal(before[:, y:y + 5, x:x + 7], after)]
        assert len(fits) == 1
        places += fits
    assert len(set(places)) > 1


def test_random_flip_mirrors_some():
    images = numbered()
    np.testing.assert_array_equal(RandomHorizontalFlip(1.0)(images, np.random.default_rng(0)), images[..., ::-1])
    np.testing.assert_array_equal(RandomHorizontalFlip(0.0)(images, np.random.default_rng(0)), images)
    flipped = RandomHorizontalFlip()(np.repeat(images, 20, axis=0), np.random.default_rng(0))
    changed = (flipped != np.repeat(images, 20, axis=0)).any(axis=(1, 2, 3)).mean()
    assert 0.3 < changed < 0.7


def test_compose_applies_in_order():
    steps = Compose([lambda images, generator: images + 1, lambda images, generator: images * 2])
    assert steps(np.ones(1), np.random.default_rng(0)).tolist() == [4.0]


def test_transform_errors():
    with pytest.raises(ArgumentError, match="RandomCrop: not a padding"):
        RandomCrop(0)
    with pytest.raises(ArgumentError, match="RandomHorizontalFlip: not a probability"):
        RandomHorizontalFlip(2)
    with pytest.raises(ShapeError, match="RandomCrop: needs a batch of images"):
        RandomCrop(1)(np.ones((3, 4)), np.random.default_rng(0))
