"""Device memory: the plan's peak, its arena against the sum of the temporaries, and PyTorch's peak on CUDA."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.opponents import OPPONENTS
from bench.options import Options
from bench.record import save
from bench.side import Local, Remote, Unable
from bench.suites.models import cases

_VARIANT = {"precision": "fp32", "layout": "NCHW", "mode": "eager"}


def run(options: Options) -> dict:
    result: dict = {"suite": "memory-use", "options": options.to_json(), "absent": {}, "rows": []}
    sides: dict[str, Local | Remote] = {"clnn": Local(options.ours())}
    if any(opponent.name == "torch-cuda" for opponent in options.opponents):
        try:
            sides["torch-cuda"] = Remote("torch-cuda", OPPONENTS["torch-cuda"].environment)
        except Unable as error:
            result["absent"]["torch-cuda"] = str(error)
    else:
        result["absent"]["torch-cuda"] = "PyTorch counts device memory on CUDA only"
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        for case in cases(options, folder):
            if options.wants(case.name):
                result["rows"].append(_row(case, sides))
                print(", ".join(f"{key} {value}" for key, value in result["rows"][-1].items()), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for side in sides.values():
            side.close()
        print(save(options.name("memory-use"), options.device, result, options.out), flush=True)
    return result


def _row(case, sides) -> dict:
    row: dict = {"case": case.name}
    for name, side in sides.items():
        try:
            handle, facts = side.prepare(case, _VARIANT)
        except Unable as error:
            row[f"{name} skipped"] = str(error)[:200]
            continue
        try:
            side.time(handle, 1)
            row[f"{name} peak MiB"] = _mib(side.peak_bytes(handle))
        except Unable as error:
            row[f"{name} skipped"] = str(error)[:200]
        if name == "clnn":
            row |= {"arena MiB": _mib(facts["arena_bytes"]), "sum of temporaries MiB": _mib(facts["temporary_bytes"]),
                    "arena / sum": round(facts["arena_bytes"] / max(facts["temporary_bytes"], 1), 3)}
        side.release(handle)
    if "clnn peak MiB" in row and "torch-cuda peak MiB" in row:
        row["clnn / torch-cuda"] = round(row["clnn peak MiB"] / row["torch-cuda peak MiB"], 3)
    return row


def _mib(nbytes: int | None) -> float | None:
    return None if nbytes is None else round(nbytes / 2**20, 2)
