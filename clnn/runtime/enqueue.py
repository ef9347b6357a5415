"""Kernels and their launches with as little as possible between Python and the driver.

pyopencl makes an event for each launch, which drivers of GPUs take microseconds to set up; nobody waits for single launches here.
And it has Python code of its own for each kernel, which takes longer to fetch than the driver takes to make the kernel.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable, Sequence

from ..errors import DeviceError
from .opencl import cl


@functools.cache
def _library():
    """The OpenCL library that pyopencl uses, or None where the system does not tell."""
    try:
        found = ctypes.CDLL(cl()._cl.__file__)      # symbols of what a library needs are found through it
        for function in (found.clEnqueueNDRangeKernel, found.clSetKernelArg, found.clReleaseKernel):
            function.restype = ctypes.c_int
        found.clCreateKernel.restype = ctypes.c_void_p
    except (OSError, AttributeError):
        return None
    return found


class Kernel:
    """A kernel whose arguments are buffers. ``int_ptr`` is OpenCL's handle; programs and buffers are pyopencl's."""

    def __init__(self, library, program, name: str):
        self._library, status = library, ctypes.c_int()
        handle = library.clCreateKernel(ctypes.c_void_p(program.int_ptr), name.encode(), ctypes.byref(status))
        if status.value:
            raise DeviceError("the device refuses to make a kernel", where=name, got=status_name(status.value))
        self.int_ptr = handle
        weakref.finalize(self, library.clReleaseKernel, ctypes.c_void_p(handle))

    def set_args(self, *buffers) -> None:
        """Set all arguments; the buffers must outlive the launches."""
        for number, buffer in enumerate(buffers):
            memory = ctypes.c_void_p(buffer.int_ptr)
            size, place = ctypes.sizeof(memory), ctypes.byref(memory)
            if status := self._library.clSetKernelArg(ctypes.c_void_p(self.int_ptr), number, size, place):
                raise DeviceError("the device refuses an argument", where=f"argument {number}", got=status_name(status))


def make_kernel(program, name: str):
    """A fresh kernel object: one of these, or pyopencl's."""
    library = _library()
    return cl().Kernel(program, name) if library is None else Kernel(library, program, name)


def of_pyopencl(kernel):
    """The kernel as pyopencl's functions take it."""
    return cl().Kernel.from_int_ptr(kernel.int_ptr) if isinstance(kernel, Kernel) else kernel


def launcher(queue, kernel, global_size: Sequence[int], local_size: Sequence[int]) -> Callable[[], int]:
    """A function that enqueues the kernel and returns OpenCL's status, 0 for success; queue and kernel must outlive it."""
    library = _library()
    if library is None:
        return _by_pyopencl(queue, of_pyopencl(kernel), tuple(global_size), tuple(local_size))
    rank = len(global_size)
    sizes = ctypes.c_size_t * rank
    return functools.partial(library.clEnqueueNDRangeKernel, ctypes.c_void_p(queue.int_ptr), ctypes.c_void_p(kernel.int_ptr),
                             ctypes.c_uint(rank), None, sizes(*global_size), sizes(*local_size), ctypes.c_uint(0), None, None)


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
