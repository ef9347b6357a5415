"""Image files to uint8 arrays (C, H, W), through Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, FileError
from .extras import require

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"))
MODES = {"L": 1, "RGB": 3}

_ORIENTATION = 0x0112  # the EXIF tag by which cameras say which way is up


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files are not (macOS packs a ``._x.jpg`` with each x.jpg)."""
    path = Path(name)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and "__MACOSX" not in path.parts


def checked_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W) from a number for squares or a pair."""
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in pair):
        raise ArgumentError("not an image size", where="size", got=repr(size), expected="a number of pixels, or (H, W)")
    return pair


def decode_image(data: bytes, mode: str = "RGB", size: tuple[int, int] | None = None, where: str = "") -> np.ndarray:
    """Decode one image file to uint8 (C, H, W).

    Turns it upright by its EXIF tag, drops transparency, takes the first frame of an animation; ``size`` (H, W) scales it
    bilinearly, without keeping its proportions.

    Raises:
        FileError: names ``where``: no image, truncated, damaged, absurdly large, or not of 8 bits per channel.
    """
    image_module = require("PIL.Image", "Pillow", "to decode images")
    operations = require("PIL.ImageOps", "Pillow", "to decode images")
    try:
        with image_module.open(io.BytesIO(data)) as image:
            stored = image.mode
            if not stored.startswith(("I", "F")):
                if image.getexif().get(_ORIENTATION, 1) != 1:
                    image = operations.exif_transpose(image)
                if stored == "P" and "transparency" in image.info:
                    image = image.convert("RGBA")
                image = image.convert(mode)
                if size is not None and image.size != size[::-1]:
                    image = image.resize(size[::-1], image_module.Resampling.BILINEAR)
                pixels = np.asarray(image)
    except Exception as error:  # damaged files make Pillow's parsers raise almost anything
        raise FileError("the image cannot be decoded", where=where, got=f"{len(data)} bytes; {error}",
                        expected="a whole image file", hint="fetch the file again, or remove it") from error
    if stored.startswith(("I", "F")):
        raise FileError("the image has more than 8 bits per channel", where=where, got=f"pixels of mode {stored}",
                        expected="8 bits per channel", hint="convert it to 8 bits first, with a scale that suits its values")
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def load_image(path: str | Path, sample_shape: tuple[int, ...]) -> np.ndarray:
    """Read an image file as a model wants it: uint8 of shape ``sample_shape`` (C, H, W), C = 1 grey or 3 RGB.

    Raises:
        ArgumentError: a ``sample_shape`` that no image file has.
        FileError: the file is missing, truncated or no image.
    """
    shape = tuple(sample_shape)
    modes = {channels: mode for mode, channels in MODES.items()}
    if len(shape) != 3 or shape[0] not in modes:
        raise ArgumentError("image files do not fit this model's input", where="sample_shape", got=shape,
                            expected="(1, H, W) or (3, H, W)")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError("the image cannot be read", where=path, got=error.strerror or error,
                        expected="an image file") from error
    return decode_image(data, modes[shape[0]], checked_size(shape[1:]), where=str(path))
