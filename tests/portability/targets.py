"""The machines that kernels are compiled for without having one: what their OpenCL reports, and which compiler knows them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clnn.target import GENERIC_GPU, Target


@dataclass(frozen=True)
class Machine:
    """``name`` is what the compiler calls the device; ``compiler`` is a class of :mod:`compilers`, by its ``name``."""

    name: str
    title: str
    compiler: str
    target: Target


def _gpu(name: str, units: int, group: int, features: tuple[str, ...], gigabytes: int, shared: bool = False) -> Target:
    """The facts on which rendering depends; all have 64 KiB of local memory, and run groups that wait for each other."""
    return replace(GENERIC_GPU, name=name, compute_units=units, max_work_group=group, max_work_items=(group, group, group),
                   local_memory=64 << 10, global_memory=gigabytes << 30, max_allocation=gigabytes << 29, alignment=128,
                   features=frozenset({*features, "resident"}), unified_memory=shared)


#: libclc has no subgroup functions, so the AMD machines are without them
MACHINES = (
    Machine("skl", "Intel Gen9 (Skylake GT2)", "ocloc", _gpu("Gen9", 24, 256, ("fp16", "fp64", "subgroups"), 8, True)),
    Machine("tgllp", "Intel Gen12 (Tiger Lake)", "ocloc", _gpu("Gen12", 96, 512, ("fp16", "subgroups"), 8, True)),
    Machine("gfx906", "AMD gfx906 (MI50)", "clang-19", _gpu("gfx906", 60, 256, ("fp16", "fp64"), 16)),
    Machine("gfx90a", "AMD gfx90a (MI200)", "clang-19", _gpu("gfx90a", 104, 256, ("fp16", "fp64"), 64)),
    Machine("gfx1030", "AMD gfx1030 (RX 6800)", "clang-19", _gpu("gfx1030", 36, 256, ("fp16", "fp64"), 16)),
    Machine("gfx1100", "AMD gfx1100 (RX 7900)", "clang-19", _gpu("gfx1100", 48, 256, ("fp16", "fp64"), 24)),
)
