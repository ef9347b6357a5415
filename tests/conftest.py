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


@pytest.fixture(scope="session", autouse=True)
def own_cores():
    """Workers side by side each count their share of the cores: kernels are built in as many programs as there are cores, and
    each program costs PoCL 0.3 s, whatever is in it."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    share = max(1, (os.cpu_count() or 1) // workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: share)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each worker starts with an equal part of the tests, one after another, as neighbours share kernels and fixtures; who is
    done first takes over half of what another has left."""
    if config.getvalue("dist") != "load":       # what -n alone asks for
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
