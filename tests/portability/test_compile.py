"""The kernels that run unmeasured compile for GPUs of Intel and AMD, and fit their registers; the compilers need no such GPU."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from clean import SAMPLED, Clean, recorded, sample, unsure  # noqa: E402
from compilers import COMPILERS, Failure, Usage, compile_all, units  # noqa: E402
from run import compiled, complaints, defaults  # noqa: E402
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
    """Those that the record does not hold, and a sample of the others."""
    clean, kernels = Clean.load(), defaults(machine)
    if other := clean.other_version(compiler):
        warnings.warn(other, stacklevel=1)
    held = clean.holds(machine)
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else None       # the other cores have tests of their own
    asked = unsure(machine.name, kernels, held)
    found = complaints(machine, kernels, recorded(kernels, held) | compiled(machine, asked, jobs))
    assert not found, "\n".join([f"{len(found)} complaints, {len(asked)} of {len(kernels)} kernels compiled", *found[:40]])


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


@pytest.fixture
def some():
    """Stand-ins for 20 kernels of one template and 3 of another."""
    return [SimpleNamespace(name=f"{template}_{i}", template=template) for template, count in (("a", 20), ("b", 3))
            for i in range(count)]


def test_what_is_new_or_was_not_clean_is_compiled(some, tmp_path):
    machine, other = MACHINES[-2:]
    compiler = SimpleNamespace(name=machine.compiler, version=lambda: "1")
    results = {kernel.name: Usage(8, 64, 0, 256) for kernel in some}
    results["a_3"], results["b_1"] = replace(results["a_3"], scratch=4), Failure("no")
    clean = Clean()
    clean.renew(machine, compiler, some[:-1], results)
    clean.save(tmp_path / "clean.json")
    clean = Clean.load(tmp_path / "clean.json")
    held = clean.holds(machine)
    assert held == {kernel.name: 256 for kernel in some if kernel.name not in ("a_3", "b_1", "b_2")}
    assert {"a_3", "b_1", "b_2"} <= {kernel.name for kernel in unsure(machine.name, some, held)}
    assert not clean.holds(other)
    assert clean.other_version(compiler) is None
    assert "1, and this is 2" in clean.other_version(SimpleNamespace(name=machine.compiler, version=lambda: "2"))
    clean.renew(other, SimpleNamespace(name=machine.compiler, version=lambda: "2"), some, results)
    assert not clean.holds(machine) and clean.holds(other)      # version 2 has not compiled it
    clean.compilers[machine.compiler]["command"] = "other options"
    assert not clean.holds(other)


def test_the_record_is_sampled(some):
    def names_of(kernels):
        return {machine.name: sorted(kernel.name for kernel in sample(machine.name, kernels)) for machine in MACHINES}

    taken = names_of(some)
    for names in taken.values():
        assert sum(name[0] == "a" for name in names) == -(-20 // SAMPLED) and sum(name[0] == "b" for name in names) == 1
    assert len({tuple(names) for names in taken.values()}) > 1          # machines differ, so that more is seen
    assert taken == names_of(some[::-1])


def test_local_memory_that_is_not_declared_is_complained_of():
    """But where a kernel for other devices is forced onto a GPU, whose compiler may keep private arrays there."""
    def found(way, local):
        kernel = SimpleNamespace(name="k", way=way, origin="test", local_bytes=1024, spec=SimpleNamespace(label="k"))
        return complaints(MACHINES[0], [kernel], {"k": Usage(8, 64, 0, local)})

    assert not found("chosen", 1024) and not found("forced", 1024 + 384)
    for way, local in (("chosen", 1024 + 384), ("offered", 1024 + 384), ("seed", 1024 + 384), ("forced", (64 << 10) + 4)):
        assert f"takes {local} bytes" in found(way, local)[0]


def test_units_hold_every_kernel_once():
    texts = {f"k{i}": "x" * length for i, length in enumerate((400_000, 90_000, 70_000, 50_000, 10, 10))}
    made = units(texts)
    assert sorted(name for unit in made for name in unit) == sorted(texts)
    assert made[0] == ["k0"]
