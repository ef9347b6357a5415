"""Results with their provenance: what was measured, on which device, by which versions, from which commit and command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clnn.runtime import Device

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("clnn", "pyopencl", "pocl-binary-distribution", "numpy", "mako", "torch", "tinygrad")


def _commit() -> str:
    """What git says, or ``BENCH_COMMIT`` where a copy without history is measured."""
    if given := os.environ.get("BENCH_COMMIT"):
        return given
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True,
                               text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        module = sys.modules.get(package)
        return getattr(module, "__version__", None)


def provenance(device: Device | None) -> dict:
    """Device, driver, versions, commit, command and time."""
    found = {"command": " ".join(["python", "-m", "bench", *sys.argv[1:]]), "commit": _commit(),
             "time": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
             "cores": os.cpu_count(),
             "versions": {package: v for package in PACKAGES if (v := _version(package))}}
    if device is not None:
        facts = device.facts
        found["device"] = {"name": facts.name, "platform": facts.platform, "driver": facts.driver, "version": facts.version,
                           "compute_units": facts.compute_units}
    return found


def save(name: str, device: Device | None, result: dict, folder: Path = RESULTS) -> Path:
    """Write ``<name>.json``, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, suffix=".tmp") as file:
        json.dump({"provenance": provenance(device), **result}, file, indent=1)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return path
