"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--device", default=None, help="OpenCL device for the device tests: name part or platform:device")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Tests leave the user's cache alone."""
    if "CLNN_CACHE" not in os.environ:
        os.environ["CLNN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the real data sets; tests that need it are skipped without it."""
    found = os.environ.get("CLNN_DATA")
    folder = Path(found) if found else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("CLNN_DATA does not name a folder with data sets")
    return folder
