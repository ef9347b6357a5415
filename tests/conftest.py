"""Options and fixtures that all tests share."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--device", default=None, help="OpenCL device for the device tests: name part or platform:device")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Tests leave the user's cache alone."""
    if "CLNN_CACHE" not in os.environ:
        os.environ["CLNN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
