"""The checks at the door of a data set: what passes here can be trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, DataError, DTypeError, ShapeError
from .statistics import first_not_finite

# More classes than this without names means that the "labels" are something else.
_MOST_UNNAMED_CLASSES = 1 << 20


def _place(name: str, argument: str) -> str:
    return f"{name}: {argument}" if name else argument


def checked_images(images, name: str) -> np.ndarray:
    """Contiguous uint8 or float32 images, (D, C, H, W) or (D, F)."""
    where = _place(name, "images")
    array = np.asarray(images)
    if array.ndim not in (2, 4):
        hint = "images[:, None] adds the channel axis of grey images" if array.ndim == 3 else None
        raise ShapeError("images of the wrong rank", where=where, got=f"shape {array.shape}",
                         expected="(D, C, H, W), or (D, F) for vectors", hint=hint)
    if len(array) == 0:
        raise DataError("the data set is empty", where=where, got=f"shape {array.shape}", expected="at least one sample")
    if array.size == 0:
        raise ShapeError("images have an axis of size 0", where=where, got=f"shape {array.shape}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise DTypeError("images of the wrong type", where=where, got=array.dtype, expected="uint8 (0 to 255) or float32",
                         hint="images.astype(numpy.uint8) if the values are 0 to 255, else .astype(numpy.float32)")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is reported below
        array = np.ascontiguousarray(array, np.float32)
    bad = first_not_finite(array)
    if bad is not None:
        raise DataError("images hold NaN or an infinity", where=where, got=f"first in sample {bad}",
                        expected="finite float32 values", hint="drop or repair that sample")
    return array


def checked_labels(labels, count: int, name: str) -> tuple[np.ndarray, int]:
    """Labels as int32 (D,), and the largest of them; negative ones are left for :func:`checked_classes` to report."""
    where = _place(name, "labels")
    array = np.asarray(labels)
    if array.ndim != 1:
        hint = "labels.argmax(axis=1) turns one-hot rows into class numbers" if array.ndim == 2 else None
        raise ShapeError("labels of the wrong rank", where=where, got=f"shape {array.shape}", expected="(D,)", hint=hint)
    if len(array) != count:
        raise DataError("images and labels differ in number", where=where, got=f"{len(array)} labels",
                        expected=f"{count}, one per image")
    if not np.issubdtype(array.dtype, np.integer):
        raise DTypeError("labels are not whole numbers", where=where, got=array.dtype, expected="an integer type",
                         hint="labels.astype(numpy.int32), once you know that they are class numbers")
    limits = np.iinfo(np.int32)
    return np.clip(array, limits.min, limits.max).astype(np.int32), int(array.max())


def checked_classes(classes: Sequence[str] | None, labels: np.ndarray, highest: int, name: str) -> list[str]:
    """Class names that cover every label."""
    if classes is None:
        if highest >= _MOST_UNNAMED_CLASSES:
            raise DataError("labels are too large to be class numbers", where=_place(name, "labels"), got=highest,
                            expected=f"less than {_MOST_UNNAMED_CLASSES}", hint="pass classes= if there are that many")
        names = [str(index) for index in range(highest + 1)] or ["0"]
    else:
        names = [str(each) for each in classes]
    repeated = sorted({each for each in names if names.count(each) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ArgumentError("class names repeat", where=_place(name, "classes"), got=repeated, expected="each name once")
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if outside.size:
        first = int(outside[0])
        raise DataError(f"{outside.size} of {len(labels)} labels are out of range", where=_place(name, "labels"),
                        got=f"labels[{first}] = {labels[first]}", expected=f"0 to {len(names) - 1}",
                        hint="count classes from 0, and give every class a name in classes=")
    return names


def checked_statistic(kind: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or a std: one value, or one per channel."""
    array = np.asarray(values, np.float64).ravel()
    if array.size not in (1, channels):
        raise ArgumentError("wrong number of values", where=kind, got=array.size,
                            expected=f"{channels}, one per channel" if channels == 1 else f"1 or {channels}, one per channel")
    if not np.isfinite(array).all() or (kind == "std" and (array <= 0).any()):
        raise ArgumentError("cannot normalise with this", where=kind, got=tuple(array.tolist()),
                            expected="finite values above 0" if kind == "std" else "finite values")
    return tuple(array.tolist())
