"""Run an iterable one thread ahead of whoever consumes it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_END = object()


class _Failure:
    """An exception on its way from the producing thread to the consumer."""

    def __init__(self, error: BaseException):
        self.error = error


def _offer(items: queue.Queue, item: object, stop: threading.Event) -> bool:
    """Put ``item``, or give up once the consumer has left."""
    while not stop.is_set():
        try:
            items.put(item, timeout=0.05)
            return True
        except queue.Full:
            continue
    return False


def _produce(source: Iterable, items: queue.Queue, stop: threading.Event) -> None:
    try:
        for item in source:
            if not _offer(items, item, stop):
                return
        _offer(items, _END, stop)
    except BaseException as error:  # whatever it is, the consumer must see it and not wait for ever
        _offer(items, _Failure(error), stop)


def prefetch(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield what ``source`` yields, computed by a background thread at most ``depth`` items ahead.

    An exception in ``source`` is raised here, after the items before it. The thread ends when the iterator is exhausted, closed
    or collected.
    """
    items: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(source, items, stop), name="clnn-prefetch", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join()
