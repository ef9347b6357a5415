"""The correction of PoCL's name for the CPU: what is written, where, and that nothing is written otherwise."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from clnn.config import config
from clnn.errors import ArgumentError, BuildError
from clnn.runtime import pocl, program
from clnn.runtime.pocl import LONGEST, STRUCT_BYTES, _replace, correct_cpu, needs_correction, suitable_name, vector_width

AVX512 = {"sse2", "avx2", "fma", "bmi2", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
AVX2 = {"sse2", "avx2", "fma", "bmi2", "f16c"}
NEW = "skylake-avx512"
VERSION = "OpenCL 3.0 PoCL 3.0-rc2  Linux, Release, RELOC, LLVM 14.0.6, SLEEF"


@pytest.mark.parametrize("flags, wanted, name", [
    (AVX512, "auto", NEW), (AVX2, "auto", "haswell"), (AVX512 - {"avx512vl"}, "auto", "haswell"), ({"sse2"}, "auto", "x86-64"),
    ({"neon"}, "auto", None), (set(), "auto", None), (AVX512, "off", None), (AVX512, "znver3", "znver3"),
    (set(), "znver3", "znver3"), (AVX512, "x" * LONGEST, "x" * LONGEST), (AVX512, "x" * (LONGEST + 1), None)])
def test_the_name_fits_the_flags(flags, wanted, name):
    assert suitable_name(flags, wanted) == name


@pytest.mark.parametrize("current, suitable, wrong", [
    ("generic", NEW, True), ("generic", "haswell", True), ("generic", None, False), ("znver3", NEW, True), ("znver2", NEW, True),
    ("znver3", "haswell", False), (NEW, NEW, False), ("cascadelake", NEW, False), ("generic", "generic", False)])
def test_only_names_that_fail_or_are_slow_are_corrected(current, suitable, wrong):
    assert needs_correction(current, suitable) is wrong


class Structure:
    """Like the driver's: pointers among other words. Each string has the room that malloc gives."""

    def __init__(self, *texts: str):
        self.strings = [ctypes.create_string_buffer(text.encode(), 24) for text in texts]
        self.words = (ctypes.c_uint64 * (STRUCT_BYTES // 8))(*range(STRUCT_BYTES // 8))
        for place, string in zip((3, 100, 255), self.strings, strict=False):
            self.words[place] = ctypes.addressof(string)
        self.words[40], self.words[41] = 2**64 - 8, ctypes.addressof(self.words)        # no address, and one of something else

    @property
    def address(self) -> int:
        return ctypes.addressof(self.words)

    @property
    def texts(self) -> list[str]:
        return [string.value.decode() for string in self.strings]


needs_mem = pytest.mark.skipif(not os.access("/proc/self/mem", os.R_OK | os.W_OK), reason="no /proc/self/mem")


@needs_mem
def test_one_name_is_replaced_and_once_is_enough():
    made = Structure("pthread", "generic")
    before = list(made.words)
    assert _replace(made.address, "generic", NEW)
    assert made.texts == ["pthread", NEW] and list(made.words) == before
    assert _replace(made.address, "generic", NEW)
    assert made.texts == ["pthread", NEW]


@needs_mem
@pytest.mark.parametrize("texts", [("generic", "generic"), ("pthread",), ("generic-64",), ("a generic",), ()])
def test_nothing_is_written_where_the_place_is_not_certain(texts):
    made = Structure(*texts)
    assert not _replace(made.address, "generic", NEW)
    assert made.texts == list(texts)


@needs_mem
def test_the_longest_name_fits_its_place():
    made = Structure("generic")
    assert _replace(made.address, "generic", "x" * LONGEST)
    assert made.texts == ["x" * LONGEST] and made.strings[0].raw[-1] == 0


@needs_mem
def test_a_wrong_address_is_an_error_and_no_crash():
    assert not _replace(8, "generic", NEW)


def test_without_access_to_memory_nothing_happens(monkeypatch):
    def refuse(*_):
        raise PermissionError
    monkeypatch.setattr(os, "open", refuse)
    assert not _replace(8, "generic", NEW)


def opened(name=pocl.PLATFORM, version=VERSION, cpu="generic", structure=0):
    """A platform and its device as pyopencl shows them."""
    return (SimpleNamespace(name=name, version=version),
            SimpleNamespace(version=f"OpenCL 3.0 PoCL HSTR: pthread-x86_64-unknown-linux-gnu-{cpu}", int_ptr=structure))


@needs_mem
def test_an_affected_device_is_corrected(monkeypatch):
    monkeypatch.setattr(pocl, "_flags", lambda: AVX512)
    made = Structure("generic")
    assert correct_cpu(*opened(structure=made.address)) == NEW and made.texts == [NEW]
    other = Structure("znver3")
    with config.override(pocl_cpu="off"):
        assert correct_cpu(*opened(cpu="znver3", structure=other.address)) is None and other.texts == ["znver3"]
    with config.override(pocl_cpu="haswell"):
        assert correct_cpu(*opened(cpu="znver3", structure=other.address)) == "haswell" and other.texts == ["haswell"]
    monkeypatch.setattr(pocl, "_flags", lambda: AVX2)
    third = Structure("znver3")         # its own name serves a Zen 3 well
    assert correct_cpu(*opened(cpu="znver3", structure=third.address)) is None and third.texts == ["znver3"]


@pytest.mark.parametrize("changed", [
    {"name": "Another Platform"}, {"version": "OpenCL 3.0 PoCL 3.1, LLVM 15.0.6"},
    {"version": "OpenCL 3.0 PoCL 3.0-rc2, LLVM 15.0.6"}, {"cpu": "skylake-avx512"}, {"cpu": "haswell"}])
def test_other_devices_are_left_alone(changed, monkeypatch):
    def forbidden(*_):
        raise AssertionError("nothing is to be written")
    monkeypatch.setattr(pocl, "_replace", forbidden)
    monkeypatch.setattr(pocl, "_flags", lambda: AVX512)
    assert correct_cpu(*opened(**changed)) is None


def test_unknown_flags_change_nothing(monkeypatch):
    def unreadable(*_):
        raise OSError
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert pocl._flags() == set()


def test_the_knob_is_read(monkeypatch):
    monkeypatch.delenv("CLNN_POCL_CPU", raising=False)
    assert config.pocl_cpu == "auto"
    monkeypatch.setenv("CLNN_POCL_CPU", "haswell")
    assert config.pocl_cpu == "haswell"


def test_a_name_without_room_is_refused(monkeypatch):
    monkeypatch.setenv("CLNN_POCL_CPU", "x" * (LONGEST + 1))
    with pytest.raises(ArgumentError, match="CLNN_POCL_CPU"):
        _ = config.pocl_cpu


@pytest.mark.parametrize("log, hinted", [("error: unknown target CPU 'generic'", True), ("error: expected ';'", False)])
def test_a_refused_cpu_says_what_to_set(log, hinted, monkeypatch):
    class Refusal(Exception):
        pass

    class Program:
        def __init__(self, context, source):
            pass

        def build(self, options):
            raise Refusal(log)
    monkeypatch.setattr(program, "cl", lambda: SimpleNamespace(Program=Program, Error=Refusal))
    with pytest.raises(BuildError) as caught:
        program.build_source(None, "kernel void k() {}")
    assert log in str(caught.value) and ("CLNN_POCL_CPU" in str(caught.value)) is hinted


@pytest.mark.parametrize("native, corrected, width", [
    (16, None, 16), (16, "skylake-avx512", 16), (16, "haswell", 8), (8, "znver3", 8), (8, "skylake-avx512", 8), (8, "x86-64", 4)])
def test_registers_are_those_of_the_cpu_that_is_compiled_for(native, corrected, width):
    assert vector_width(native, corrected) == width
