"""Checks of constructor arguments that several layers share; each message names the argument, its value and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError


def is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def whole(layer: str, name: str, value: int, lowest: int = 1) -> int:
    """``value`` as int, if it is a whole number of at least ``lowest``."""
    if not is_whole(value) or value < lowest:
        raise ArgumentError(f"{name} must be a whole number of at least {lowest}", where=layer, got=f"{name}={value!r}")
    return int(value)


def pair(layer: str, name: str, value: int | Sequence[int], lowest: int = 1) -> tuple[int, int]:
    """(vertical, horizontal) from a whole number or a pair of them."""
    values: Any = (value, value) if is_whole(value) else value
    if not isinstance(values, Sequence) or len(values) != 2 or not all(is_whole(v) and v >= lowest for v in values):
        raise ArgumentError(f"{name} must be a whole number or a pair of them, each at least {lowest}", where=layer,
                            got=f"{name}={value!r}")
    return int(values[0]), int(values[1])


def number(layer: str, name: str, value: float, low: float, high: float = np.inf, open_low: bool = False) -> float:
    """``value`` as float, if low ≤ value < high (low < value if ``open_low``)."""
    right = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not right or not low <= value < high or (open_low and value == low):
        sign = "<" if open_low else "<="
        rule = f"{low:g} {sign} {name}" + (f" < {high:g}" if high < np.inf else ", finite")
        raise ArgumentError(f"{name} is out of range", where=layer, got=f"{name}={value!r}", expected=rule)
    return float(value)


def choice(layer: str, name: str, value: str, allowed: Sequence[str]) -> str:
    """``value``, if it is one of ``allowed``."""
    if value not in allowed:
        raise ArgumentError(f"unknown {name}", where=layer, got=f"{name}={value!r}", expected=" or ".join(map(repr, allowed)))
    return value
