"""Finding OpenCL devices and choosing one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..config import config
from ..errors import DeviceError
from ..target import Target
from .opencl import INSTALL, cl
from .pocl import PLATFORM, correct_cpu, vector_width
from .probes import probe

#: names by which users know a platform that calls itself otherwise
ALIASES = {"pocl": PLATFORM}


@dataclass(frozen=True)
class Device:
    """An OpenCL device. ``handle`` is pyopencl's; ``id`` is ``platform:device`` by number."""

    id: str
    handle: object
    facts: Target

    @property
    def name(self) -> str:
        return self.facts.name

    @functools.cached_property
    def target(self) -> Target:
        """The facts with the probed features, less those masked by ``CLNN_MASK``."""
        return replace(self.facts, features=probe(self.handle, self.facts) - set(config.mask))

    def __str__(self) -> str:
        return f"{self.id} {self.name} ({self.facts.platform}, {self.facts.driver})"


def _facts(platform, device) -> Target:
    types = cl().device_type
    kind = "gpu" if device.type & types.GPU else "accelerator" if device.type & types.ACCELERATOR else "cpu"
    corrected = correct_cpu(platform, device)
    return Target(
        device.name.strip(),
        platform.name.strip(),
        device.vendor.strip(),
        device.driver_version.strip(),
        device.version.strip() + (f", for {corrected}" if corrected else ""),
        kind,
        device.max_compute_units,
        device.max_clock_frequency,
        device.global_mem_size,
        device.max_mem_alloc_size,
        device.local_mem_size,
        device.max_work_group_size,
        tuple(device.max_work_item_sizes)[:3],
        max(device.mem_base_addr_align // 8, 128),
        frozenset(),
        bool(device.host_unified_memory),
        vector_width(device.native_vector_width_float, corrected),
    )


@functools.cache
def devices() -> list[Device]:
    """All OpenCL devices, in the order of their platforms.

    Raises:
        DeviceError: if there is no OpenCL platform, or no platform has a device.
    """
    try:
        platforms = cl().get_platforms()
    except cl().LogicError as error:
        raise DeviceError("no OpenCL platform was found", got=str(error).strip(), hint=INSTALL) from error
    found, empty = [], []
    for p, platform in enumerate(platforms):
        try:
            handles = platform.get_devices()
        except (cl().LogicError, cl().RuntimeError):
            handles = []
        if not handles:
            empty.append(platform.name)
        found += [Device(f"{p}:{d}", handle, _facts(platform, handle)) for d, handle in enumerate(handles)]
    if not found:
        raise DeviceError(
            "no OpenCL device was found", got=f"platforms without devices: {', '.join(empty) or 'none'}", hint=INSTALL
        )
    return found


def _preference(device: Device) -> int:
    facts = device.facts
    return {"gpu": 1 if facts.unified_memory else 0, "accelerator": 2, "cpu": 3}[facts.kind]


def select_device(wanted: str | Device | None = None, among: list[Device] | None = None) -> Device:
    """The device that ``wanted`` names.

    Args:
        wanted: ``auto`` (discrete GPU, GPU, accelerator, CPU, in this order), a kind (``gpu``, ``cpu``, ``accelerator``), a
            part of a device's or platform's name, or ``platform:device`` with numbers or name parts; None means
            ``CLNN_DEVICE``. ``pocl`` names the platform that calls itself "Portable Computing Language".
        among: the devices to choose from, all by default.

    Raises:
        DeviceError: if nothing fits, with the list of what there is.
    """
    if isinstance(wanted, Device):
        return wanted
    wanted = config.device if wanted in (None, "auto") else wanted
    present = devices() if among is None else among
    if wanted == "auto":
        return min(present, key=_preference)

    def within(part: str, name: str) -> bool:
        alias = ALIASES.get(part.lower())
        return part.lower() in name.lower() or (alias is not None and alias in name)

    def matches(pattern: str, number: str, name: str) -> bool:
        return pattern == number or (not pattern.isdigit() and within(pattern, name))

    fitting = []
    for device in present:
        p, d = device.id.split(":")
        whole = f"{device.facts.platform} {device.name}"
        if ":" in wanted:
            left, right = wanted.split(":", 1)
            if matches(left, p, device.facts.platform) and matches(right, d, device.name):
                fitting.append(device)
        elif wanted.lower() == device.facts.kind or within(wanted, whole):
            fitting.append(device)
    if not fitting:
        raise DeviceError(
            "no such device",
            got=wanted,
            expected="; ".join(map(str, present)),
            hint="name a part of a device's name, platform:device, or auto",
        )
    return min(fitting, key=_preference)
