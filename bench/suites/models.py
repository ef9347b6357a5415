"""Whole networks: training step (forward, loss, backward, SGD with momentum) and inference, the batch being on the device."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from bench.cases import Case
from bench.measure import Competition
from bench.options import Options
from bench.ours import make_model

#: name → model, options, shape of one sample, classes, batch on a GPU and on a CPU; no dropout, so that results can be compared
NETWORKS = {
    "mlp": ("mlp", {"sizes": [784, 512, 256, 10]}, (784,), 10, 128, 128),
    "lenet5": ("lenet5", {}, (1, 28, 28), 10, 128, 128),
    "resnet18-cifar": ("resnet18", {"classes": 10, "size": 32}, (3, 32, 32), 10, 512, 32),
    "vgg16": ("vgg16", {"classes": 1000, "dropout": 0.0}, (3, 224, 224), 1000, 64, 4),
    "resnet50": ("resnet50", {"classes": 1000, "size": 224}, (3, 224, 224), 1000, 64, 8),
    "mobilenet_v2": ("mobilenet_v2", {"classes": 1000, "dropout": 0.0}, (3, 224, 224), 1000, 64, 8),
}
QUICK = {"cpu": ("mlp", "lenet5"), "gpu": ("mlp", "lenet5", "resnet18-cifar", "resnet50")}
#: learning rates: large enough to see the loss fall in two steps, small enough for it to fall in a straight line
RATES = {"mlp": 1e-2, "lenet5": 1e-2, "resnet18-cifar": 1e-5, "vgg16": 1e-4, "resnet50": 1e-5, "mobilenet_v2": 1e-5}


def cases(options: Options, folder: Path) -> list[Case]:
    """Both cases of each network; states and labels are files in ``folder``, which all contestants read."""
    found = []
    kind = "cpu" if options.is_cpu else "gpu"
    for name, (model, settings, sample, classes, on_gpu, on_cpu) in NETWORKS.items():
        batch = options.batch or (on_cpu if options.is_cpu else on_gpu)
        wanted = any(options.wants(f"{name} b{batch} {what}") for what in ("train", "infer"))
        if not wanted or (options.quick and name not in QUICK[kind]):
            continue
        state, target = folder / f"{name}.npz", folder / f"{name}-target.npy"
        if options.opponents:
            np.savez(state, **make_model(model, settings).state_dict())
        np.save(target, np.random.default_rng(0).integers(0, classes, batch))
        params = {"model": model, "options": settings, "state": str(state), "target": str(target), "lr": RATES[name],
                  "batch": batch}
        inputs = {"x": (batch, *sample)}
        found.append(Case(f"{name} b{batch} train", "train", params, inputs, 0, 0, name, outputs=((1,), (batch, classes), (2,))))
        found.append(Case(f"{name} b{batch} infer", "infer", params, inputs, 0, 0, name, outputs=((batch, classes),)))
    return found


class Models(Competition):
    """Adds images per second, and clnn's frozen mode in inference only."""

    def _case(self, case: Case, started) -> dict:
        own, *others = started
        variants = own[2] if case.kind == "infer" else [v for v in own[2] if v["mode"] != "frozen"]
        found = super()._case(case, [(own[0], own[1], variants), *others])
        found["params"] = {key: value for key, value in found["params"].items() if key not in ("state", "target")}
        for entry in found["results"]:
            entry["images_per_s"] = case.params["batch"] / entry["median_s"]
        return found


def run(options: Options) -> dict:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        competition = Models("models", options, own_variants=({}, {"mode": "frozen"}))
        return competition.run(cases(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
