"""tinygrad on OpenCL (DEV=CL, set by bench.opponents), each case captured by TinyJit, on the same device as clnn."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
from pathlib import Path

import numpy as np

from bench.cases import Case, training_outputs
from bench.side import Prepared, Unable
from clnn.config import config
from clnn.runtime import Device, select_device
from clnn.runtime.opencl import cl


def _share_driver() -> Device:
    """Let tinygrad use the OpenCL library, the driver and the device that clnn uses; to be called before it is imported.

    clnn has opened them then, and corrected what the driver thinks of the CPU, which counts for all that is built in this
    process. Binaries that tinygrad kept from other circumstances are left aside.
    """
    device = select_device(os.environ.get("BENCH_DEVICE", "auto"))
    cl()
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libOpenCL" in line}
    if loaded:
        os.environ["OPENCL_PATH"] = min(loaded)
    digest = hashlib.sha256(repr(device.facts).encode()).hexdigest()[:16]
    config.cache.mkdir(parents=True, exist_ok=True)
    os.environ["CACHEDB"] = str(config.cache / f"tinygrad-{digest}.db")
    return device


DEVICE = _share_driver()

try:
    from tinygrad import Context, Tensor, TinyJit
    from tinygrad import Device as Devices
    from tinygrad.nn.optim import SGD
    from tinygrad.runtime import ops_cl
except ImportError as error:
    raise Unable(f"tinygrad cannot be imported: {error}") from error


def _fprop(p, x, w):
    return x.conv2d(w, None, p["groups"], p["stride"], 1, p["padding"])


def _dgrad(p, dy, w):
    x = Tensor.zeros(*p["image"])                # the gradient does not depend on it
    return _fprop(p, x, w).gradient(x, gradient=dy)[0]


def _wgrad(p, x, dy):
    w = Tensor.zeros(p["made"], p["channels"] // p["groups"], p["window"], p["window"])
    return _fprop(p, x, w).gradient(w, gradient=dy)[0]


def _batch_norm(p, x, weight, bias):
    mean = x.mean((0, 2, 3))
    centred = x - mean.reshape(1, -1, 1, 1)
    return x.batchnorm(weight, bias, mean, ((centred * centred).mean((0, 2, 3)) + 1e-5).rsqrt())


def _batch_norm_backward(p, dy, x, weight, bias):
    return _batch_norm(p, x, weight, bias).gradient(x, weight, bias, gradient=dy)


OPERATORS = {
    "matmul": lambda p, a, b: (a.T if p["a"] == "T" else a) @ (b.T if p["b"] == "T" else b),
    "fprop": _fprop,
    "dgrad": _dgrad,
    "wgrad": _wgrad,
    "scale": lambda p, x: x * 2.0,
    "add": lambda p, x, y: x + y,
    "relu": lambda p, x: x.relu(),
    "bias_relu": lambda p, x, bias: (x + bias.reshape(-1, 1, 1)).relu(),
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "max_pool": lambda p, x: x.max_pool2d((3, 3), 2, padding=1),
    "softmax": lambda p, x: x.softmax(1),
    "sum_rows": lambda p, x: x.sum(1),
    "sum_channels": lambda p, x: x.sum((0, 2, 3)),
    "transpose": lambda p, x: x.T.contiguous(),
}


class Tinygrad:
    """Prepares operators and networks; fp32 only, without BEAM search."""

    def __init__(self):
        handle = ops_cl.cl.cl_device_id
        ops_cl.CLDevice.device_ids = (handle * 1)(ctypes.cast(DEVICE.handle.int_ptr, handle))    # else the first platform's
        try:
            Tensor([1.0]).contiguous().realize()
        except Exception as error:
            raise Unable(f"tinygrad has no device {Devices.DEFAULT}: {error}") from error

    def about(self) -> dict:
        from importlib.metadata import PackageNotFoundError, version
        try:
            found = version("tinygrad")
        except PackageNotFoundError:
            found = "unknown"
        return {"tinygrad": found, "device": f"{Devices.DEFAULT} {Devices[Devices.DEFAULT].device_name}"}

    def prepare(self, case: Case, variant: dict) -> Prepared:
        if case.kind in ("train", "infer"):
            return self._model(case)
        operator = OPERATORS.get(case.kind)
        if operator is None:
            raise Unable(f"{case.kind} is not written for tinygrad")

        def call(*tensors):
            found = operator(case.params, *tensors)
            found = list(found) if isinstance(found, (list, tuple)) else [found]
            Tensor.realize(*found)
            return found
        sets = [[_tensor(array) for array in case.arrays(copy).values()] for copy in range(case.copies)]
        jitted = TinyJit(call)
        first = [found.numpy() for found in jitted(*sets[0])]
        for tensors in (*sets, sets[0], sets[0]):           # the second call captures
            jitted(*tensors)
        turns = itertools.cycle(sets)
        return Prepared(lambda: jitted(*next(turns)), self._sync, first.__getitem__)

    def _sync(self) -> None:
        Devices[Devices.DEFAULT].synchronize()

    def _model(self, case: Case) -> Prepared:
        from bench.opponents.tiny_models import build
        p = case.params
        with np.load(p["state"]) as state:
            network, parameters = build(p["model"], {name: _tensor(state[name]) for name in state.files})
        x = _tensor(case.arrays()["x"])
        if case.kind == "infer":
            infer = TinyJit(lambda x: network(x, False).realize())
            first = infer(x).numpy()
            for _ in range(3):
                infer(x)
            return Prepared(lambda: infer(x), self._sync, lambda number: first)
        target = _tensor(np.load(p["target"]).astype(np.int32))
        optimizer = SGD(parameters, p["lr"], momentum=0.9)

        @TinyJit
        def step(x, target):
            optimizer.zero_grad()
            scores = network(x, True)
            loss = scores.sparse_categorical_crossentropy(target).backward()
            return loss.realize(*optimizer.schedule_step(), scores), scores

        def run():
            with Context(TRAINING=1):
                return step(x, target)
        steps = []
        for _ in range(3):
            loss, scores = run()
            steps.append((loss.item(), scores.numpy()))
        found = training_outputs([loss for loss, _ in steps], steps[0][1])
        return Prepared(run, self._sync, found.__getitem__)


def _tensor(array: np.ndarray) -> Tensor:
    """A copy on the device."""
    return Tensor(np.ascontiguousarray(array)).clone().realize()
