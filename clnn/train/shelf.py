"""Compiled programs, kept for the next call with the same settings."""

from __future__ import annotations

import gc
from collections.abc import Callable

from ..data import ArrayDataset
from ..ir import Variable
from .programs import EpochProgram
from .sources import Resident

#: a training program, two evaluators and predictions for a few batch sizes
_KEPT = 6


def _data(program: object) -> list[Variable]:
    """What lies on the device for a program alone: data and counters."""
    return [*program.source.variables, *program.state.variables] if isinstance(program, EpochProgram) else []


class Shelf:
    """The programs used last, at most a few; older ones go, and with them what they hold on the device."""

    def __init__(self) -> None:
        self._programs: dict[tuple, object] = {}

    def get(self, key: tuple, make: Callable):
        """The program of this key, made on first use."""
        program = self._programs.pop(key, None)
        if program is None:
            self._make_room(key)
            program = make()
        self._programs[key] = program
        return program

    def _make_room(self, key: tuple) -> None:
        """Make room: one program for training, and not more than the rest allows."""
        stale = [k for k in self._programs if k[0] == key[0] == "train"]
        stale += [k for k in self._programs if k not in stale][:max(0, len(self._programs) - len(stale) - _KEPT + 1)]
        self._drop(stale)

    def clear(self) -> None:
        """Drop everything."""
        self._drop(list(self._programs))

    def _drop(self, keys: list) -> None:
        dropped = [self._programs.pop(key) for key in keys]
        kept = {variable for program in self._programs.values() for variable in _data(program)}
        for program in dropped:
            if isinstance(program, EpochProgram):
                program.session.release([v for v in _data(program) if v not in kept])
        if dropped:
            del dropped
            gc.collect()                                    # graphs are cyclic, and hold device buffers

    def shared(self, dataset: ArrayDataset) -> tuple[Variable, Variable] | None:
        """The variables (images, labels) of a set that already lies on the device."""
        for program in self._programs.values():
            source = getattr(program, "source", None)
            if isinstance(source, Resident) and source.dataset is dataset:
                return source.data
        return None
