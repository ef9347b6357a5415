"""tinygrad on OpenCL (DEV=CL, set by bench.opponents), each case captured by TinyJit."""

from __future__ import annotations

import itertools
import os
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

from bench.cases import Case
from bench.side import Prepared, Unable
from clnn.runtime.opencl import cl


def _share_loader() -> None:
    """Let tinygrad use the OpenCL library that pyopencl's wheel brings along, where there is no other.

    That library finds its own drivers only once pyopencl has asked for the platforms.
    """
    found = find_spec("pyopencl")
    libraries = sorted(Path(found.origin).parent.glob(".libs/libOpenCL*")) if found and found.origin else []
    if libraries and "OPENCL_PATH" not in os.environ and not find_library("OpenCL"):
        os.environ["OPENCL_PATH"] = str(libraries[0])
        cl().get_platforms()


_share_loader()

try:
    from tinygrad import Device, Tensor, TinyJit
except ImportError as error:
    raise Unable(f"tinygrad cannot be imported: {error}") from error

OPERATORS = {
    "matmul": lambda p, a, b: (a.T if p["a"] == "T" else a) @ (b.T if p["b"] == "T" else b),
    "fprop": lambda p, x, w: x.conv2d(w, None, p["groups"], p["stride"], 1, p["padding"]),
    "scale": lambda p, x: x * 2.0,
    "add": lambda p, x, y: x + y,
    "relu": lambda p, x: x.relu(),
    "bias_relu": lambda p, x, bias: (x + bias.reshape(-1, 1, 1)).relu(),
    "max_pool": lambda p, x: x.max_pool2d((3, 3), 2, padding=1),
    "softmax": lambda p, x: x.softmax(1),
    "sum_rows": lambda p, x: x.sum(1),
    "sum_channels": lambda p, x: x.sum((0, 2, 3)),
    "transpose": lambda p, x: x.T.contiguous(),
}


class Tinygrad:
    """Prepares operators; fp32 only, without BEAM search."""

    def __init__(self):
        try:
            Tensor([1.0]).realize()
        except Exception as error:
            raise Unable(f"tinygrad has no device {Device.DEFAULT}: {error}") from error

    def about(self) -> dict:
        from importlib.metadata import PackageNotFoundError, version
        try:
            found = version("tinygrad")
        except PackageNotFoundError:
            found = "unknown"
        return {"tinygrad": found, "device": Device.DEFAULT}

    def prepare(self, case: Case, variant: dict) -> Prepared:
        operator = OPERATORS.get(case.kind)
        if operator is None:
            raise Unable(f"{case.kind} is not written for tinygrad")
        sets = [[Tensor(array).realize() for array in case.arrays(copy).values()] for copy in range(case.copies)]
        jitted = TinyJit(lambda *tensors: operator(case.params, *tensors).realize())
        first = jitted(*sets[0]).numpy()
        for tensors in (*sets, sets[0], sets[0]):           # the second call captures
            jitted(*tensors)
        turns = itertools.cycle(sets)
        return Prepared(lambda: jitted(*next(turns)), Device[Device.DEFAULT].synchronize, lambda number: first)
