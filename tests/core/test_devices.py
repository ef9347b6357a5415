"""Choosing a device by name: kinds, parts of names, numbers, and the short name of a platform. No OpenCL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clnn.errors import DeviceError
from clnn.runtime import Device, select_device
from clnn.target import GENERIC_CPU, GENERIC_GPU

CPU = Device("0:0", None, replace(GENERIC_CPU, name="pthread-EPYC", platform="Portable Computing Language"))
GPU = Device("1:0", None, replace(GENERIC_GPU, name="Fast 3000", platform="Box OpenCL"))
SHARED = Device("1:1", None, replace(GENERIC_GPU, name="Small 10", platform="Box OpenCL", unified_memory=True))
ALL = [CPU, GPU, SHARED]


@pytest.mark.parametrize("wanted, device", [
    ("cpu", CPU), ("gpu", GPU), ("epyc", CPU), ("box", GPU), ("small", SHARED), ("1:1", SHARED), ("box:small", SHARED),
    ("1:fast", GPU), ("portable", CPU), ("pocl", CPU), ("PoCL", CPU), ("pocl:0", CPU), ("pocl:epyc", CPU)])
def test_a_name_finds_its_device(wanted, device):
    assert select_device(wanted, ALL) is device


def test_auto_prefers_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("CLNN_DEVICE", raising=False)
    assert select_device("auto", ALL) is GPU
    assert select_device(None, [CPU, SHARED]) is SHARED
    monkeypatch.setenv("CLNN_DEVICE", "pocl")
    assert select_device(None, ALL) is CPU


@pytest.mark.parametrize("wanted", ["pocl:fast", "2:0", "3000:0", "quick", "poc"])
def test_what_fits_nothing_is_refused_with_what_there_is(wanted):
    with pytest.raises(DeviceError, match="no such device") as caught:
        select_device(wanted, ALL)
    assert wanted in str(caught.value) and all(str(device) in str(caught.value) for device in ALL)


def test_the_short_name_needs_its_platform():
    with pytest.raises(DeviceError):
        select_device("pocl", [GPU, SHARED])
