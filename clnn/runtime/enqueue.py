"""Launching a kernel whose arguments are set, with as little as possible between Python and the driver.

pyopencl makes an event for each launch, which drivers of GPUs take microseconds to set up; nobody waits for single launches here.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

from .opencl import cl


@functools.cache
def _function():
    """clEnqueueNDRangeKernel of the library that pyopencl uses, or None where the system does not tell."""
    try:
        found = ctypes.CDLL(cl()._cl.__file__).clEnqueueNDRangeKernel       # symbols of what a library needs are found through it
    except (OSError, AttributeError):
        return None
    found.restype = ctypes.c_int
    return found


def launcher(queue, kernel, global_size: Sequence[int], local_size: Sequence[int]) -> Callable[[], int]:
    """A function that enqueues the kernel and returns OpenCL's status, 0 for success; queue and kernel must outlive it."""
    function = _function()
    if function is None:
        return _by_pyopencl(queue, kernel, tuple(global_size), tuple(local_size))
    rank = len(global_size)
    sizes = ctypes.c_size_t * rank
    return functools.partial(function, ctypes.c_void_p(queue.int_ptr), ctypes.c_void_p(kernel.int_ptr), ctypes.c_uint(rank), None,
                             sizes(*global_size), sizes(*local_size), ctypes.c_uint(0), None, None)


def _by_pyopencl(queue, kernel, global_size: tuple[int, ...], local_size: tuple[int, ...]) -> Callable[[], int]:
    enqueue = cl().enqueue_nd_range_kernel

    def launch() -> int:
        try:
            enqueue(queue, kernel, global_size, local_size)
        except cl().Error as error:
            return error.code
        return 0
    return launch


def status_name(status: int) -> str:
    """OpenCL's name of a status, such as OUT_OF_RESOURCES."""
    try:
        return cl().status_code.to_string(status)
    except ValueError:
        return f"status {status}"
