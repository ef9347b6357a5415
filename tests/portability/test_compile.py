"""The kernels that run unmeasured compile for GPUs of Intel and AMD, and fit their registers; the compilers need no such GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from compilers import COMPILERS, Failure, compile_all, units  # noqa: E402
from run import chosen, compiled, complaints  # noqa: E402
from targets import MACHINES  # noqa: E402

ADD = "__kernel void %s(__global const float* x, __global float* y) { y[get_global_id(0)] = x[get_global_id(0)] + %d.0f; }"
#: indexed by what is read, so that it cannot lie in registers
ARRAY = """__kernel void array(__global const int* x, __global float* y) {
    float values[1024];
    for (int i = 0; i < 1024; ++i) values[i] = (float)x[i];
    y[get_global_id(0)] = values[x[get_global_id(0)] & 1023] + values[x[get_global_id(0) + 1] & 1023];
}"""
SHARED = """__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void shared(__global const float* x, __global float* y) {
    __local float part[1000];
    part[get_local_id(0)] = x[get_global_id(0)];
    barrier(CLK_LOCAL_MEM_FENCE);
    y[get_global_id(0)] = part[63 - get_local_id(0)];
}"""
BY_NAME = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@pytest.fixture
def compiler(machine):
    found = COMPILERS[machine.compiler]
    if reason := found.absent():
        pytest.skip(reason)
    return found


@BY_NAME
def test_default_kernels_compile_and_fit_registers(machine, compiler):
    kernels = chosen(machine, full=False)
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else None       # the other cores have tests of their own
    found = complaints(kernels, compiled(machine, kernels, jobs))
    assert not found, "\n".join([f"{len(found)} complaints about {len(kernels)} kernels", *found[:40]])


@BY_NAME
def test_registers_scratch_and_local_memory_are_read(machine, compiler):
    found = compile_all(compiler, machine.name, {"add": ADD % ("add", 1), "array": ARRAY, "shared": SHARED}, 1)
    assert found["add"].scratch == 0 and found["add"].local == 0
    assert 0 < found["add"].registers <= 256 and found["add"].width in (8, 16, 32, 64)
    assert found["array"].scratch >= 128
    assert found["shared"].local == 4000 or found["shared"].local == 4096       # given out in pieces of some size


@BY_NAME
def test_a_kernel_that_fails_is_found_among_others(machine, compiler):
    texts = {f"add{i}": ADD % (f"add{i}", i) for i in range(5)}
    texts["bad"] = "__kernel void bad(__global float* y) { y[0] = nowhere; }"
    found = compile_all(compiler, machine.name, texts, 1)
    assert isinstance(found["bad"], Failure) and "nowhere" in found["bad"].log
    assert not any(isinstance(result, Failure) for name, result in found.items() if name != "bad")


def test_units_hold_every_kernel_once():
    texts = {f"k{i}": "x" * length for i, length in enumerate((400_000, 90_000, 70_000, 50_000, 10, 10))}
    made = units(texts)
    assert sorted(name for unit in made for name in unit) == sorted(texts)
    assert made[0] == ["k0"]
