"""From nothing to the first training step, in fresh processes: with empty caches, then with what that run left."""

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

#: name → model, its options, shape of the batch
NETWORKS = {"lenet5": ("lenet5", {}, (128, 1, 28, 28)),
            "resnet18-cifar": ("resnet18", {"classes": 10, "size": 32}, (32, 3, 32, 32))}
_CLNN = """
import time; t0 = time.perf_counter()
import clnn; from clnn import models, optim; import numpy as np; t1 = time.perf_counter()
step = clnn.compile(models.{model}(seed=0, **{options!r}), {shape}, loss="cross_entropy",
                    optimizer=optim.SGD(lr=0.01, momentum=0.9), device={device!r})
t2 = time.perf_counter()
loss, _ = step.run(np.zeros({shape}, np.float32), np.zeros({shape}[0], np.int32)); t3 = time.perf_counter()
print({mark!r}, t1 - t0, t2 - t1, t3 - t2)
"""
_TORCH = """
import time; t0 = time.perf_counter()
import torch; from bench.opponents.pytorch_models import build; t1 = time.perf_counter()
model = build({model!r}, {options!r}).to({device!r})
optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
x, y = torch.zeros({shape}, device={device!r}), torch.zeros({shape}[0], dtype=torch.long, device={device!r})
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


def _row(model: str, name: str, state: str, runs: list[list[float]]) -> dict:
    columns = [*PHASES, "process s"]
    row: dict = {"model": model, "who": name, "caches": state, "runs": len(runs)}
    return row | {column: round(statistics.median(run[i] for run in runs), 3) for i, column in enumerate(columns)}


def programs(options: Options, network: str) -> dict[str, str]:
    """Who → the text of its process."""
    model, settings, shape = NETWORKS[network]
    found = {"clnn": _CLNN.format(model=model, options=settings, shape=shape, device=options.device.id, mark=_MARK)}
    kinds = {"torch-cuda": "cuda", "torch-cpu": "cpu"}
    for opponent in options.opponents:
        if opponent.name in kinds:
            kind = kinds[opponent.name]
            found[opponent.name] = _TORCH.format(model=model, options=settings, shape=shape, device=kind, mark=_MARK)
    return found


def run(options: Options) -> dict:
    result: dict = {"suite": "start", "options": options.to_json(), "absent": {}, "rows": []}
    rounds = 1 if options.quick else min(options.rounds, 3)
    for network in list(NETWORKS)[:1] if options.quick else NETWORKS:
        if not options.wants(network):
            continue
        for name, code in programs(options, network).items():
            try:
                cold, warm = [], []
                for _ in range(rounds):
                    folder = tempfile.mkdtemp(prefix="bench-")
                    cold.append(once(code, folder))
                    warm += [once(code, folder) for _ in range(2)]
                    shutil.rmtree(folder, ignore_errors=True)
            except RuntimeError as error:
                result["absent"][name] = str(error)
                print(f"without {name}: {error}", flush=True)
                continue
            for state, runs in (("empty", cold), ("warm", warm)):
                result["rows"].append(_row(network, name, state, runs))
                print(", ".join(f"{key} {value}" for key, value in result["rows"][-1].items()), flush=True)
    print(save(options.name("start"), options.device, result, options.out), flush=True)
    return result
