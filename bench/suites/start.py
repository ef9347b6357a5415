"""From nothing to the first training step of LeNet-5, in fresh processes: with empty caches, then with what that run left."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench.options import Options
from bench.record import save
from bench.side import ROOT

_CLNN = """
import time; t0 = time.perf_counter()
import clnn; from clnn import models, optim; import numpy as np; t1 = time.perf_counter()
step = clnn.compile(models.lenet5(seed=0), (128, 1, 28, 28), loss="cross_entropy", optimizer=optim.SGD(lr=0.01, momentum=0.9),
                    device={device!r})
t2 = time.perf_counter()
loss, _ = step.run(np.zeros((128, 1, 28, 28), np.float32), np.zeros(128, np.int32)); t3 = time.perf_counter()
print({mark!r}, t1 - t0, t2 - t1, t3 - t2)
"""
_TORCH = """
import time; t0 = time.perf_counter()
import torch; from bench.opponents.pytorch_models import lenet5; t1 = time.perf_counter()
model = lenet5().to({device!r}); optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
x, y = torch.zeros(128, 1, 28, 28, device={device!r}), torch.zeros(128, dtype=torch.long, device={device!r})
t2 = time.perf_counter()
loss = torch.nn.functional.cross_entropy(model(x), y); loss.backward(); optimizer.step(); loss.item(); t3 = time.perf_counter()
print({mark!r}, t1 - t0, t2 - t1, t3 - t2)
"""
_MARK = "seconds:"
PHASES = ("import s", "build s", "first step s")
#: where OpenCL drivers and frameworks keep compiled kernels
CACHES = ("CLNN_CACHE", "POCL_CACHE_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def once(code: str, cache: str) -> list[float]:
    """Seconds of import, build, first step and the whole process."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **dict.fromkeys(CACHES, cache)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    line = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise RuntimeError(" ".join((done.stderr.strip().splitlines() or ["no output"])[-1:]))
    return [*map(float, line.removeprefix(_MARK).split()), seconds]


def _row(name: str, state: str, runs: list[list[float]]) -> dict:
    columns = [*PHASES, "process s"]
    row: dict = {"who": name, "caches": state, "runs": len(runs)}
    return row | {column: round(statistics.median(run[i] for run in runs), 3) for i, column in enumerate(columns)}


def run(options: Options) -> dict:
    result: dict = {"suite": "start", "options": options.to_json(), "absent": {}, "rows": []}
    programs = {"clnn": _CLNN.format(device=options.device.id, mark=_MARK)}
    kinds = {"torch-cuda": "cuda", "torch-cpu": "cpu"}
    for opponent in options.opponents:
        if opponent.name in kinds:
            programs[opponent.name] = _TORCH.format(device=kinds[opponent.name], mark=_MARK)
    rounds = min(options.rounds, 3)
    for name, code in programs.items():
        try:
            cold, warm = [], []
            for _ in range(1 if options.quick else rounds):
                folder = tempfile.mkdtemp(prefix="bench-")
                cold.append(once(code, folder))
                warm += [once(code, folder) for _ in range(2)]
                shutil.rmtree(folder, ignore_errors=True)
        except RuntimeError as error:
            result["absent"][name] = str(error)
            print(f"without {name}: {error}", flush=True)
            continue
        for state, runs in (("empty", cold), ("warm", warm)):
            result["rows"].append(_row(name, state, runs))
            print(", ".join(f"{key} {value}" for key, value in result["rows"][-1].items()), flush=True)
    print(save(options.name("start"), options.device, result, options.out), flush=True)
    return result
