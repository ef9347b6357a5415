"""Programs that are built before it is known that they will be needed: those that were built on the same occasion before.

Which kernels a model needs is known after all passes. Drivers that have the programs in their caches still take a while: PoCL
reads each one's LLVM code, for ResNet-18 a third of a second. So the texts that were built last lie in the cache folder, by
occasion, and are built in threads beside the passes. As a program is taken for its whole text, a wrong guess costs these threads'
time and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ..config import config
from ..files import Answers


class Foresight:
    """Guesses for one context.

    Args:
        build: text → program; raises :class:`BuildError`.
        facts: what else decides which programs there will be, such as the device.
    """

    def __init__(self, build: Callable[[str], object], facts: str):
        self._build, self._facts = build, facts
        self._guess: list[str] = []
        self._wanted: list[str] | None = None       # on the present occasion, if there is one
        self._met: set[int] = set()         # hashes of the texts that were wanted so far: their programs are there
        self._coming: dict[str, Future] = {}
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, occasion: str) -> None:
        """Start to build what was built on the same occasion."""
        self._guess, self._wanted = self._recall(occasion), []
        if new := [source for source in self._guess if hash(source) not in self._met]:
            self._pool = ThreadPoolExecutor(os.cpu_count())
            self._coming = {source: self._pool.submit(self._build, source) for source in new}

    def build(self, source: str):
        """The program of a text, waited for if it is on its way.

        Raises:
            BuildError: if it does not build.
        """
        self._met.add(hash(source))
        coming = self._coming.pop(source, None)
        program = self._build(source) if coming is None else coming.result()
        if self._wanted is not None:
            self._wanted.append(source)
        return program

    def end(self, occasion: str) -> None:
        """Drop what was not wanted, and remember what was. Where nothing can be written, nothing will be foreseen."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool, self._coming = None, {}
        if self._wanted and set(self._wanted) != set(self._guess):      # threads end in any order
            self._answers.keep(f"{self._facts}\n{occasion}", self._wanted)
        self._guess, self._wanted = [], None

    def _recall(self, occasion: str) -> list[str]:
        found = self._answers.recall(f"{self._facts}\n{occasion}")
        return found if isinstance(found, list) and all(isinstance(source, str) for source in found) else []

    @property
    def _answers(self) -> Answers:
        return Answers(config.cache / "programs")
