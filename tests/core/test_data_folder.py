"""ImageFolder and load_image: layouts, archives, hostile and damaged files."""

import io
import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from clnn.data import ImageFolder, load_image
from clnn.errors import ArgumentError, DataError, FileError

Image = pytest.importorskip("PIL.Image", reason="decoding images needs Pillow")


def picture(level, size=(6, 4), mode="RGB", form="PNG", **options):
    """An image file of one colour; size is (width, height)."""
    stream = io.BytesIO()
    colour = (level, level // 2, 255 - level) if mode == "RGB" else level
    Image.new(mode, size, colour).save(stream, form, **options)
    return stream.getvalue()


FLAT = {"dog/b.png": picture(20), "cat/a.png": picture(10), "dog/a.jpg": picture(30, form="JPEG", quality=95),
        "dog/notes.txt": b"no image", "cat/._a.png": b"left by macOS"}
SPLIT = {f"{split}/{name}": data for split in ("train", "test") for name, data in FLAT.items()} \
    | {"train/ant/a.png": picture(90)}


def as_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def as_tar(path, files, links=()):
    suffix = path.suffix[1:]
    with tarfile.open(path, "w" if suffix == "tar" else f"w:{suffix}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


def make(path, files):
    return as_zip(path, files) if path.suffix == ".zip" else as_tar(path, files) if path.suffix else as_folder(path, files)


@pytest.mark.parametrize("wrapper", ["", "pets/", "./pets/"])
@pytest.mark.parametrize("name", ["plain", "a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_flat_layouts(tmp_path, name, wrapper):
    path = make(tmp_path / name, {wrapper + file: data for file, data in FLAT.items()})
    dataset = ImageFolder(path)
    assert dataset.classes == ["cat", "dog"]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.sample_shape == (3, 4, 6)
    assert dataset.name == name
    assert dataset.images[:, 0, 0, 0].tolist() == pytest.approx([10, 30, 20], abs=3)
    assert dataset.images[0, :, 2, 3].tolist() == [10, 5, 245]


@pytest.mark.parametrize("wrapper", ["", "pets/"])
def test_splits_number_classes_alike(tmp_path, wrapper):
    path = make(tmp_path / "a.zip", {wrapper + file: data for file, data in SPLIT.items()})
    train, test = ImageFolder(path, split="train"), ImageFolder(path, split="test")
    assert train.classes == test.classes == ["ant", "cat", "dog"]
    assert train.labels.tolist() == [0, 1, 2, 2]
    assert test.labels.tolist() == [1, 2, 2]


@pytest.mark.parametrize(("files", "split", "text"), [
    (SPLIT, None, "holds the splits test, train, and none was chosen\n  try:      pass split='train'"),
    (SPLIT, "val", "has no folder for the split 'val'\n  got:      the splits test, train"),
    (FLAT, "train", "has no folder for the split 'train'\n  got:      no split folders\n  try:      leave split out"),
    ({"readme.txt": b""}, None, "no images in class folders\n  expected: <class>/<image>, or <split>/<class>/<image>"),
    ({"lonely.png": picture(1)}, None, "no images in class folders"),
])
def test_layouts_that_do_not_fit(tmp_path, files, split, text):
    path = as_folder(tmp_path / "pets", files)
    with pytest.raises(DataError) as caught:
        ImageFolder(path, split=split)
    assert f"{path}: {text}" in str(caught.value)


def test_arguments(tmp_path):
    path = as_folder(tmp_path / "pets", FLAT)
    with pytest.raises(ArgumentError, match="mode: unknown image mode\n  got:      'CMYK'"):
        ImageFolder(path, mode="CMYK")
    with pytest.raises(ArgumentError, match="split: unknown split"):
        ImageFolder(path, split="holdout")
    for size in (0, (3,), "big", (2.5, 2), True):
        with pytest.raises(ArgumentError, match="size: not an image size"):
            ImageFolder(path, size=size)


def test_size_and_grey(tmp_path):
    path = as_folder(tmp_path / "pets", FLAT | {"cat/large.png": picture(10, (60, 40))})
    dataset = ImageFolder(path, size=(8, 9), mode="L")
    assert dataset.images.shape == (4, 1, 8, 9)
    assert ImageFolder(path, size=5).sample_shape == (3, 5, 5)


def test_different_sizes_need_a_size(tmp_path):
    path = as_folder(tmp_path / "pets", FLAT | {"dog/large.png": picture(10, (60, 40))})
    with pytest.raises(DataError) as caught:
        ImageFolder(path)
    assert "images of different sizes\n  got:      dog/large.png is 60x40\n  expected: 6x4, as cat/a.png\n  try:      pass size" \
        in str(caught.value)


@pytest.mark.parametrize("name", ["../evil.png", "dog/../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"])
@pytest.mark.parametrize("form", ["a.zip", "a.tar.gz"])
def test_members_that_climb_out(tmp_path, form, name):
    path = make(tmp_path / form, FLAT | {name: picture(1)})
    with pytest.raises(FileError) as caught:
        ImageFolder(path)
    assert f"{path}: {name}: the archive is unsafe\n  got:      a" in str(caught.value)


@pytest.mark.parametrize(("kind", "problem"), [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"),
                                               (tarfile.FIFOTYPE, "a device or pipe")])
def test_links_in_a_tar(tmp_path, kind, problem):
    path = as_tar(tmp_path / "a.tar", FLAT, links=[("dog/link.png", kind, "/etc/passwd")])
    with pytest.raises(FileError) as caught:
        ImageFolder(path)
    assert f"{path}: dog/link.png: the archive is unsafe\n  got:      {problem}" in str(caught.value)


def test_links_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("dog/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = as_zip(tmp_path / "a.zip", FLAT | {link: b"/etc/passwd"})
    with pytest.raises(FileError, match=r"dog/link.png: the archive is unsafe\n  got:      a link"):
        ImageFolder(path)


def test_a_folder_that_links_to_itself(tmp_path):
    path = as_folder(tmp_path / "pets", FLAT)
    os.symlink(path, path / "dog" / "again")
    assert len(ImageFolder(path)) == 3


@pytest.mark.parametrize("form", ["plain", "a.tar"])
def test_truncated_image(tmp_path, form):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    path = make(tmp_path / form, FLAT | {"dog/half.jpg": stream.getvalue()[:len(stream.getvalue()) // 2]})
    with pytest.raises(FileError, match=r"dog/half\.jpg: the image cannot be decoded\n  got:      .*truncated"):
        ImageFolder(path, size=8)


def test_not_an_image_after_all(tmp_path):
    path = as_folder(tmp_path / "pets", FLAT | {"dog/fake.png": b"plain text"})
    with pytest.raises(FileError, match=r"dog/fake\.png: the image cannot be decoded"):
        ImageFolder(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
def test_truncated_archives(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)
    files = {}
    for index, pixels in enumerate(noise):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        files[f"cat/{index}.png"] = stream.getvalue()
    path = make(tmp_path / name, files)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * kept)])
    with pytest.raises(FileError, match="cannot be read: truncated, damaged, or not an archive"):
        ImageFolder(path)


def test_a_tar_cut_between_two_files(tmp_path):
    path = as_tar(tmp_path / "a.tar", {"cat/a.png": picture(1), "dog/a.png": picture(2)})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(FileError, match="unexpected end"):
        ImageFolder(path)


def test_neither_folder_nor_archive(tmp_path):
    with pytest.raises(FileError, match="no such folder or archive"):
        ImageFolder(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FileError, match="not an archive"):
        ImageFolder(tmp_path / "text")


def test_a_member_that_occurs_twice(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            member = tarfile.TarInfo("cat/a.png")
            member.size = len(picture(1))
            archive.addfile(member, io.BytesIO(picture(1)))
    with pytest.raises(FileError, match=r"cat/a\.png: the archive holds a file twice"):
        ImageFolder(path)


def test_load_image_fits_the_model(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(100))
    assert load_image(path, (3, 4, 6))[:, 0, 0].tolist() == [100, 50, 155]
    grey = load_image(path, (1, 28, 30))
    assert grey.shape == (1, 28, 30)
    assert grey.dtype == np.uint8


def test_load_image_of_other_modes(tmp_path):
    for mode in ("RGBA", "P", "L", "1", "CMYK", "LA"):
        Image.new(mode, (5, 5)).save(tmp_path / "a.tif" if mode == "CMYK" else tmp_path / "a.png")
        assert load_image(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), (3, 5, 5)).shape == (3, 5, 5)
    Image.new("I;16", (5, 5)).save(tmp_path / "deep.png")
    with pytest.raises(FileError, match="more than 8 bits per channel\n  got:      pixels of mode I"):
        load_image(tmp_path / "deep.png", (1, 5, 5))


def test_load_image_turns_photographs_upright(tmp_path):
    image = Image.new("L", (4, 2))
    image.putpixel((0, 0), 255)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png", (1, 4, 2))[0, 0].tolist() == [0, 255]


def test_load_image_errors(tmp_path):
    with pytest.raises(FileError, match=r"absent\.png: the image cannot be read\n  got:      No such file"):
        load_image(tmp_path / "absent.png", (3, 4, 4))
    (tmp_path / "half.png").write_bytes(picture(5, (50, 50))[:-30])
    with pytest.raises(FileError, match=r"half\.png: the image cannot be decoded"):
        load_image(tmp_path / "half.png", (3, 4, 4))
    for shape in ((64,), (2, 8, 8)):
        with pytest.raises(ArgumentError, match="sample_shape: image files do not fit this model's input"):
            load_image(tmp_path / "half.png", shape)
