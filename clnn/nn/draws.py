"""Random initial values, drawn when they are first wanted, or aside. ResNet-18's take a quarter of a second, in which its program
can be compiled, and who asks a model for nothing but shapes never waits for them.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from ..ir import Variable


class Draw:
    """Values of N(0, std²), float32, that are drawn in their turn. A variable that starts with them has it for a holder."""

    def __init__(self, draws: Draws, shape: tuple[int, ...], std: float):
        self.shape, self.std = shape, std
        self.values: np.ndarray | None = None
        self._draws = draws

    def make(self) -> np.ndarray:
        """The values, drawn now if they are not yet."""
        self._draws.reach(self)
        return self.values

    def begin(self) -> None:
        self._draws.begin()

    def fetch(self, variable: Variable, array: np.ndarray) -> None:
        array[...] = self.make()


class Draws:
    """What is drawn from one generator, in the order in which it was asked for, whatever is wanted first."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self._waiting: deque[Draw] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._shared = False

    def normal(self, shape: tuple[int, ...], std: float) -> Draw:
        """Values of N(0, std²), drawn after all that was asked for before."""
        draw = Draw(self, shape, std)
        self._waiting.append(draw)
        if self._shared:
            self.reach(draw)
        return draw

    def share(self) -> np.random.Generator:
        """The generator, after all that was asked for. From now on nothing is put off, as others draw from it, too."""
        self._shared = True
        self.finish()
        return self._generator

    def begin(self) -> None:
        """Draw what waits in a thread of its own."""
        if self._waiting and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self.finish, name="clnn-draws", daemon=True)
            self._thread.start()

    def reach(self, draw: Draw) -> None:
        """Draw what waits, up to this."""
        while draw.values is None:
            self._next()

    def finish(self) -> None:
        """Draw all that waits."""
        while self._waiting:
            self._next()

    def _next(self) -> None:
        with self._lock:
            if self._waiting:                           # another thread may have been quicker
                draw = self._waiting[0]
                values = self._generator.standard_normal(draw.shape, np.float32)
                values *= np.float32(draw.std)
                draw.values = values
                self._waiting.popleft()
