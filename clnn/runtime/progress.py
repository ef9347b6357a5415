"""How far a long build is, on the terminal."""

from __future__ import annotations

import sys
import threading
import time

#: seconds after which it is worth a line
PATIENCE = 2.0


class BuildLine:
    """``compiling 43/120 kernels`` on standard error, once that takes more than two seconds; gone at the end.

    Nothing is written where standard error is no terminal, or where something else, such as a bar, has taken it over.
    """

    def __init__(self, what: str, total: int):
        stream = sys.stderr
        ours = stream is not None and stream is sys.__stderr__
        self._stream = stream if ours and stream.isatty() else None
        self._what, self._total, self._done = what, total, 0
        self._start, self._shown, self._lock = time.monotonic(), False, threading.Lock()

    def advance(self, count: int = 1) -> None:
        """``count`` more are done."""
        with self._lock:
            self._done += count
            if self._stream is not None and time.monotonic() - self._start > PATIENCE:
                self._shown = True
                self._stream.write(f"\r\x1b[K{self._what} {self._done}/{self._total} kernels")
                self._stream.flush()

    def __enter__(self) -> BuildLine:
        return self

    def __exit__(self, *error) -> None:
        if self._shown and self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
