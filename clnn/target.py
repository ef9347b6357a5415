"""The facts about a device that code generation may depend on, frozen and free of OpenCL."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Target:
    """Device facts.

    Sizes are in bytes, the clock in MHz. ``alignment`` is what an offset into a buffer must be a multiple of. ``features``
    holds the names of the probed features that are on (see :mod:`clnn.runtime.probes`). ``vector_width`` is how many floats a
    vector register holds; CPUs with registers for 16 have 32 of them, others 16.
    """

    name: str
    platform: str
    vendor: str
    driver: str
    version: str
    kind: str                       # "cpu", "gpu" or "accelerator"
    compute_units: int
    clock: int
    global_memory: int
    max_allocation: int
    local_memory: int
    max_work_group: int
    max_work_items: tuple[int, int, int]
    alignment: int
    features: frozenset[str] = frozenset()
    unified_memory: bool = False
    vector_width: int = 8

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def channel_block(self) -> int:
        """Channels of a block of NCHWc: what a vector register of a CPU holds; 0 elsewhere, where blocks do not pay."""
        return (16 if self.vector_width >= 16 else 8) if self.is_cpu else 0

    def has(self, feature: str) -> bool:
        return feature in self.features

    def without(self, *features: str) -> Target:
        """The same device with some features masked."""
        return replace(self, features=self.features - set(features))


#: stand-ins for code that needs a target but no device: tests, and looking at kernels for other machines
GENERIC_CPU = Target("generic CPU", "none", "none", "none", "OpenCL 1.2", "cpu", 8, 3000, 16 << 30, 4 << 30, 64 << 10, 4096,
                     (4096, 4096, 4096), 128, frozenset(), True)
GENERIC_GPU = Target("generic GPU", "none", "none", "none", "OpenCL 1.2", "gpu", 32, 1500, 8 << 30, 2 << 30, 48 << 10, 1024,
                     (1024, 1024, 64), 256, frozenset())
