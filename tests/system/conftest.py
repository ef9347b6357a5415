"""Tests that train, resume and export on a device."""

from __future__ import annotations

import os

import pytest

from clnn.errors import DeviceError
from clnn.runtime import select_device, session


@pytest.fixture(scope="session")
def device(request):
    try:
        return select_device(request.config.getoption("--device"))
    except DeviceError as error:
        if request.config.getoption("--device") or os.environ.get("CI"):
            raise           # what is asked for, and what CI is there for, must not be skipped
        pytest.skip(f"no OpenCL device: {error.what}")


@pytest.fixture(scope="session")
def device_session(device):
    return session(device)
