"""Kernels made through OpenCL's own interface, and by pyopencl where that cannot be reached."""

from __future__ import annotations

import numpy as np
import pytest

from clnn.errors import DeviceError
from clnn.runtime import enqueue
from clnn.runtime.opencl import cl
from clnn.runtime.program import build_source

SOURCE = "__kernel void twice(__global const float* x, __global float* y) { y[get_global_id(0)] = 2.0f * x[get_global_id(0)]; }"


@pytest.fixture(params=["OpenCL's own", "pyopencl's"])
def library(request, monkeypatch):
    if request.param == "pyopencl's":
        monkeypatch.setattr(enqueue, "_library", lambda: None)
    elif enqueue._library() is None:
        pytest.skip("the system does not tell where the OpenCL library is")


def buffers(session, array):
    x, y = (session.allocate(array.nbytes, "test") for _ in range(2))
    session.upload(x, array)
    return x, y


def test_a_kernel_runs_with_its_arguments(library, device_session):
    array = np.arange(32, dtype=np.float32)
    x, y = buffers(device_session, array)
    kernel = enqueue.make_kernel(build_source(device_session.context, SOURCE), "twice")
    kernel.set_args(x, y)
    assert enqueue.launcher(device_session.queue, kernel, (32,), (8,))() == 0
    assert np.array_equal(device_session.download(y, np.empty_like(array)), 2 * array)
    cl().enqueue_nd_range_kernel(device_session.queue, enqueue.of_pyopencl(kernel), (16,), (8,)).wait()


def test_refusals_say_what_was_refused(device_session):
    library = enqueue._library()
    if library is None:
        pytest.skip("the system does not tell where the OpenCL library is")
    program = build_source(device_session.context, SOURCE)
    with pytest.raises(DeviceError) as caught:
        enqueue.make_kernel(program, "thrice")
    assert caught.value.where == "thrice" and "INVALID_KERNEL_NAME" in str(caught.value.got)
    kernel = enqueue.make_kernel(program, "twice")
    with pytest.raises(DeviceError, match="argument"):
        kernel.set_args(*buffers(device_session, np.zeros(4, np.float32)) * 2)
    status = enqueue.launcher(device_session.queue, kernel, (9,), (8,))()
    assert enqueue.status_name(status) in ("INVALID_WORK_GROUP_SIZE", "INVALID_KERNEL_ARGS")
