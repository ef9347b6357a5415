"""Every ``CLNN_*`` environment variable, typed and documented in one place.

Read a knob as an attribute (``config.debug``). Set it for a scope with ``config.override(debug=3)``; the override wins over the
environment, which wins over the default.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import ArgumentError


def _boolean(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _choices(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in _names(text))


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text
    return parse


def _short(text: str) -> str:
    if not 0 < len(text) <= 23:
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class Knob:
    """One environment variable: its name, how its text is read, the default text and what it does."""

    variable: str
    parse: Callable
    default: str
    help: str
    form: str


KNOBS: dict[str, Knob] = {
    "device": Knob("CLNN_DEVICE", str, "auto",
                   "default device: auto, a kind such as cpu, a part of a name, pocl, or platform:device", "text"),
    "debug": Knob("CLNN_DEBUG", int, "0", "1 plan, 2 time per kernel, 3 lowerings, 4 source, 5 the graph after each pass",
                  "a whole number"),
    "validate": Knob("CLNN_VALIDATE", _boolean, "0", "re-run every launch's operator against its numpy reference", "0 or 1"),
    "data": Knob("CLNN_DATA", _path, "", "folder in which data sets are looked for", "a folder"),
    "cache": Knob("CLNN_CACHE", _path, "~/.cache/clnn", "folder for downloads and what clnn keeps between runs", "a folder"),
    "mask": Knob("CLNN_MASK", _names, "", "device features to treat as absent, e.g. fp16,subgroups", "comma-separated names"),
    "lowering": Knob("CLNN_LOWERING", _choices, "", "force lowerings, e.g. Conv2d=direct,Matmul=simple",
                     "comma-separated Operator=lowering"),
    "layout": Knob("CLNN_LAYOUT", str, "auto", "image layout to prefer: auto, NCHW, NHWC or NCHWc", "auto, NCHW, NHWC or NCHWc"),
    "workspace": Knob("CLNN_WORKSPACE_MB", int, "0",
                      "most scratch memory that a lowering may ask for, in MiB; 0: a 16th of the device's memory, at least 1024",
                      "a whole number"),
    "winograd": Knob("CLNN_WINOGRAD", _one_of("auto", "off", "f2", "f4"), "auto",
                     "Winograd convolutions: off, f2 (2×2 tiles, a direct sum's error) or f4 (4×4, faster, three times that)",
                     "auto, off, f2 or f4"),
    "join": Knob("CLNN_JOIN", _boolean, "1", "launch the kernels of a short run on a CPU as one", "0 or 1"),
    "pocl_cpu": Knob("CLNN_POCL_CPU", _short, "auto",
                     "the CPU that PyPI's PoCL compiles for: auto corrects a name its compiler refuses or is slow with; off; "
                     "or LLVM's name",
                     "auto, off or a name of at most 23 characters"),
    "tune": Knob("CLNN_TUNE", _one_of("off", "lookup", "search"), "lookup",
                 "off: built-in choices; lookup: use what was measured; search: also measure what was not",
                 "off, lookup or search"),
    "tune_store": Knob("CLNN_TUNE_STORE", _path, "", "file of tuning results, instead of tune/results.jsonl in the cache folder",
                       "a file"),
}


class Config:
    """The knobs as attributes; see :data:`KNOBS`."""

    def __init__(self) -> None:
        self._overrides: dict[str, object] = {}

    def __getattr__(self, name: str):
        if name not in KNOBS:
            raise AttributeError(name)
        if name in self._overrides:
            return self._overrides[name]
        knob = KNOBS[name]
        text = os.environ.get(knob.variable, knob.default)
        try:
            return knob.parse(text)
        except ValueError as error:
            raise ArgumentError("the environment variable cannot be read", where=knob.variable, got=repr(text),
                                expected=knob.form, hint=f"unset {knob.variable} or correct it") from error

    @contextlib.contextmanager
    def override(self, **values) -> Iterator[None]:
        """Set knobs for the duration of a ``with`` block."""
        unknown = set(values) - set(KNOBS)
        if unknown:
            raise ArgumentError("unknown configuration name", got=sorted(unknown), expected=sorted(KNOBS))
        saved = dict(self._overrides)
        self._overrides.update(values)
        try:
            yield
        finally:
            self._overrides = saved


config = Config()
