"""What the host pays per launch: ``run()`` of a bound plan against a bare C loop of clEnqueueNDRangeKernel over its launches.

Both loops enqueue behind a user event that is not set until the clock has stopped, so that no kernel runs meanwhile and only the
host is measured. They take turns; the figures are medians over the rounds.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import clnn
from bench.options import Options
from bench.record import save
from clnn import models, optim
from clnn.config import config
from clnn.runtime.opencl import cl

LOOP = r"""
#include <stddef.h>
typedef int (*enqueue_t)(void*, void*, unsigned, const size_t*, const size_t*, const size_t*, unsigned, void*, void*);
int loop(enqueue_t enqueue, void* queue, int n, void** kernels, const unsigned* dims, const size_t* global, const size_t* local)
{
    int status = 0;
    for (int i = 0; i < n; ++i) status |= enqueue(queue, kernels[i], dims[i], 0, global + 3 * i, local + 3 * i, 0, 0, 0);
    return status;
}
"""


def bare_loop(executable):
    """A function that enqueues the launches of ``executable`` from C."""
    folder = Path(tempfile.mkdtemp())
    (folder / "loop.c").write_text(LOOP)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", folder / "loop.so", folder / "loop.c"], check=True)
    loop = ctypes.CDLL(str(folder / "loop.so")).loop
    names = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libOpenCL" in line}
    enqueue = ctypes.CDLL(sorted(names)[0]).clEnqueueNDRangeKernel
    n = len(executable.kernels)
    sizes = [executable.sizes(i) for i in range(n)]
    kernels = (ctypes.c_void_p * n)(*(kernel.int_ptr for kernel, _ in executable.kernels))
    dims = (ctypes.c_uint * n)(*(len(g) for g, _ in sizes))
    flat = [np.array([(*s, 1, 1)[:3] for s in part], dtype=np.uintp).reshape(-1) for part in zip(*sizes, strict=True)]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in flat]
    queue = ctypes.c_void_p(executable.session.queue.int_ptr)

    def run():
        status = loop(ctypes.cast(enqueue, ctypes.c_void_p), queue, n, kernels, dims, *pointers)
        assert status == 0, status
        return flat             # keeps the arrays alive

    return run


def measure(executable, rounds: int) -> dict:
    """Microseconds per launch of both loops."""
    api, session = cl(), executable.session
    bare = bare_loop(executable)
    n = len(executable.kernels)
    times: dict[str, list[float]] = {"run": [], "bare": []}
    for run in (executable.run, bare):
        run()
        session.finish()
    for _ in range(rounds):
        for name, run in (("run", executable.run), ("bare", bare)):
            gate = api.UserEvent(session.context)
            api.enqueue_barrier(session.queue, wait_for=[gate])
            start = time.perf_counter()
            for _ in range(20):
                run()
            times[name].append((time.perf_counter() - start) / (20 * n) * 1e6)
            gate.set_status(api.command_execution_status.COMPLETE)
            session.finish()
    result = {name: {"median_us": statistics.median(values), "min_us": min(values), "max_us": max(values)}
              for name, values in times.items()}
    above = result["run"]["median_us"] - result["bare"]["median_us"]
    return {"launches": n, "rounds": rounds, **result, "above_bare_us": above}


def run(options: Options) -> dict:
    result: dict = {"suite": "overhead", "options": options.to_json(), "per_launch": {}, "rows": []}
    for name, model in (("mlp", models.mlp(784, 512, 256, 10)), ("lenet5", models.lenet5())):
        if not options.wants(name):
            continue
        with config.override(join=False):       # the same launches as in the loop
            step = clnn.compile(model, (8, 1, 28, 28), loss="cross_entropy", optimizer=optim.SGD(lr=0.0, momentum=0.9),
                                device=options.device)
        step.run(np.zeros((8, 1, 28, 28), np.float32), np.zeros(8, np.int32))
        result["per_launch"][name] = r = measure(step.executable, max(options.rounds, 3 if options.quick else 31))
        result["rows"].append({"model": name, "launches": r["launches"], "run() µs": round(r["run"]["median_us"], 3),
                               "bare C loop µs": round(r["bare"]["median_us"], 3), "above bare µs": round(r["above_bare_us"], 3)})
        print(f"{name}: {r['launches']} launches, run() {r['run']['median_us']:.2f} µs, bare {r['bare']['median_us']:.2f} µs, "
              f"above bare {r['above_bare_us']:.2f} µs per launch", flush=True)
    print(save(options.name("overhead"), options.device, result, options.out), flush=True)
    return result
