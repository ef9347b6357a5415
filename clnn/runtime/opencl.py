"""pyopencl, imported on first use with an error that says what to install."""

from __future__ import annotations

import functools
import os
import warnings

from ..errors import DeviceError

INSTALL = (
    "install an OpenCL driver: `pip install 'pyopencl[pocl]'` runs on any CPU; for a GPU install its vendor's driver and see "
    "`clnn devices`"
)


@functools.cache
def cl():
    """The module pyopencl."""
    os.environ.setdefault("PYOPENCL_NO_CACHE", "1")  # the driver caches; a second cache would only go stale
    try:
        import pyopencl
    except ImportError as error:
        raise DeviceError("pyopencl cannot be imported", got=error, hint=INSTALL) from error
    warnings.filterwarnings("ignore", category=pyopencl.CompilerWarning)
    return pyopencl
