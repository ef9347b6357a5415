"""How kernels are built in tests."""

from __future__ import annotations

import os
from contextlib import contextmanager

#: what pyopencl adds to the options of every program that it builds
OPTIONS = "PYOPENCL_BUILD_OPTIONS"


@contextmanager
def quick_builds(target, when=True):
    """On CPUs, kernels that are built meanwhile are not optimised, which takes a fourth of the time: for what runs on no CPU by
    default, so that only the meaning of its text is tested."""
    if not (target.is_cpu and when):
        yield
        return
    before = os.environ.get(OPTIONS)
    os.environ[OPTIONS] = "-cl-opt-disable"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OPTIONS]
        else:
            os.environ[OPTIONS] = before
