"""``clnn devices``: what OpenCL offers on this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import console
from .parser import add_json

if TYPE_CHECKING:
    from ..runtime import Device


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("devices", help="list OpenCL platforms and devices, with the features that work",
                                 description="List every OpenCL device. A feature counts when a small kernel that uses it was "
                                             "built, run and gave the right numbers. * marks the default device.")
    add_json(parser)
    return parser


def facts(device: Device, default: bool) -> dict:
    """What is known about a device, JSON-able; sizes in bytes, the clock in MHz."""
    target = device.target
    return {"id": device.id, "name": device.name, "platform": target.platform, "vendor": target.vendor, "kind": target.kind,
            "compute_units": target.compute_units, "clock_mhz": target.clock, "global_memory": target.global_memory,
            "local_memory": target.local_memory, "max_work_group": target.max_work_group, "version": target.version,
            "driver": target.driver, "features": sorted(target.features), "default": default}


def run(given: argparse.Namespace) -> int:
    """List the devices."""
    from ..runtime import devices
    present = devices()
    default = _default()
    found = [facts(device, device.id == default) for device in present]
    if given.json:
        console.print_json(found)
        return 0
    for platform in dict.fromkeys(entry["platform"] for entry in found):
        mine = [entry for entry in found if entry["platform"] == platform]
        console.heading(f"{platform} ({mine[0]['version']})")
        console.table(("", "id", "name", "kind", "units", "MHz", "global", "local", "features", "driver"),
                      [_row(entry) for entry in mine], right=("units", "MHz", "global", "local"),
                      strong=[number for number, entry in enumerate(mine) if entry["default"]])
    return 0


def _default() -> str | None:
    """The id of the default device; None, with a message, where CLNN_DEVICE names none."""
    from ..errors import DeviceError
    from ..runtime import select_device
    try:
        return select_device().id
    except DeviceError as error:
        console.errors().print(f"CLNN_DEVICE: {error}", style="yellow")
        return None


def _row(entry: dict) -> list:
    features = ", ".join(entry["features"]) or "none"
    sizes = [console.size(entry[key]) for key in ("global_memory", "local_memory")]
    return ["*" if entry["default"] else "", entry["id"], entry["name"], entry["kind"], entry["compute_units"],
            entry["clock_mhz"], *sizes, features, entry["driver"]]
