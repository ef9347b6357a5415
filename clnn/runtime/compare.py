"""Comparing two tensors on the device, so that large ones need not be brought to the host."""

from __future__ import annotations

import functools
import math

import numpy as np

from .opencl import cl
from .program import build_source
from .session import Session

#: each work-item leaves the largest difference and the largest number of the second tensor among its elements; what is no number,
#: on either side, makes the difference infinite
SOURCE = """
__kernel void compare(__global const float* a, __global const float* b, const ulong count, __global float2* found)
{
    float apart = 0.0f, largest = 0.0f;
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0)) {
        const float d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i], m = b[i] < 0.0f ? -b[i] : b[i];
        apart = d <= apart ? apart : (d == d ? d : INFINITY);
        largest = m <= largest ? largest : (m == m ? m : INFINITY);
    }
    found[get_global_id(0)] = (float2)(apart, largest);
}
__kernel void differing(__global const uchar* a, __global const uchar* b, const ulong count, __global float2* found)
{
    ulong different = 0;
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0)) different += a[i] != b[i];
    found[get_global_id(0)] = (float2)((float)different, 0.0f);
}
"""


@functools.cache
def _kernels(session: Session):
    program = build_source(session.context, SOURCE)
    target = session.target
    group = 1 if target.is_cpu else min(128, target.max_work_group)
    items = target.compute_units * (4 if target.is_cpu else 16 * group)
    found = session.allocate(8 * items, "comparison")
    return cl().Kernel(program, "compare"), cl().Kernel(program, "differing"), items, group, found


def compare(session: Session, one, other, nbytes: int, floats: bool) -> tuple[float, float]:
    """The largest difference of two buffers and the largest number in ``other``; of whole numbers, how many bytes differ."""
    compare_floats, count_bytes, items, group, found = _kernels(session)
    kernel, count = (compare_floats, nbytes // 4) if floats else (count_bytes, nbytes)
    if not count:
        return 0.0, 0.0
    kernel.set_args(one, other, np.uint64(count), found)
    cl().enqueue_nd_range_kernel(session.queue, kernel, (items,), (group,))
    pairs = session.download(found, np.empty((items, 2), np.float32))
    if not np.isfinite(pairs).all():
        return math.inf, float(pairs[:, 1].max())
    return (float(pairs[:, 0].max()) if floats else float(pairs[:, 0].sum())), float(pairs[:, 1].max())


def fill(session: Session, buffer, nbytes: int, byte: int = 0xFF) -> None:
    """Set all bytes of a buffer."""
    if nbytes:
        cl().enqueue_fill_buffer(session.queue, buffer, np.uint8(byte), 0, nbytes)


def copy(session: Session, source, destination, nbytes: int) -> None:
    """Copy a buffer to another."""
    if nbytes:
        cl().enqueue_copy(session.queue, destination, source, byte_count=nbytes)
