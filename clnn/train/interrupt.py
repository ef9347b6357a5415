"""Ctrl-C between steps, not inside one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupt:
    """Whether the user asked to stop; ``forced`` after the second Ctrl-C, which may have cut a step in two."""

    def __init__(self) -> None:
        self.requested = self.forced = False


@contextlib.contextmanager
def deferred() -> Iterator[Interrupt]:
    """Inside the block the first Ctrl-C is only noted, the second raises KeyboardInterrupt at once. Only in the main thread."""
    flag = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield flag
        return

    def note(number, frame):
        if flag.requested:
            flag.forced = True
            raise KeyboardInterrupt
        flag.requested = True

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
