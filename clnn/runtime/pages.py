"""Large pages for the large buffers of CPUs, which look up fewer addresses then.

A page of 4 KiB holds one row of a matrix of 1024 columns, so walks down columns miss the tables that translate addresses. Linux
gives pages of 2 MiB to memory that asks for them before it is used, where its administrator lets it (``madvise`` or ``always`` in
/sys/kernel/mm/transparent_hugepage/enabled). It is advice: nothing relies on it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

import numpy as np

from .opencl import cl

PAGE = 2 << 20
#: bytes from which on a buffer has a whole page in it wherever it begins
LARGE = 2 * PAGE


def advise(queue, buffer, nbytes: int) -> None:
    """Ask for large pages for a new buffer of a device that computes in the host's memory."""
    call, advice = _madvise(), getattr(mmap, "MADV_HUGEPAGE", None)
    if call is None or advice is None or nbytes < LARGE:
        return
    api = cl()
    mapped, _ = api.enqueue_map_buffer(queue, buffer, api.map_flags.READ, 0, (nbytes,), np.uint8)
    start = -(-mapped.ctypes.data // PAGE) * PAGE
    end = (mapped.ctypes.data + nbytes) // PAGE * PAGE
    call(start, end - start, advice)
    mapped.base.release(queue)


@functools.cache
def _madvise():
    """The system's call, or None where there is none."""
    try:
        call = ctypes.CDLL(None).madvise
    except (OSError, AttributeError, TypeError):
        return None
    call.argtypes, call.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return call
