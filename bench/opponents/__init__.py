"""Whom clnn is measured against. Each opponent is optional: one that cannot run is skipped, and the result says why."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Opponent:
    """Someone to be measured against.

    Attributes:
        environment: what its process gets in its environment.
        kinds: the devices that it is for.
        suites: those in which it takes part.
        apart: suites in which every network and variant gets a process of its own.
        limit: seconds that it may take to prepare a case; compilers are slow now and then, and a suite must end.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("gpu", "cpu")
    suites: tuple[str, ...] = ("gemm", "layers", "memory", "models")
    apart: tuple[str, ...] = ()
    limit: float = 900

    def variants(self, suite: str, precisions: list[str]) -> list[dict]:
        """Precision, layout and mode of each."""
        if suite not in self.suites:
            return []
        if self.name == "torch-cuda":
            layouts = ("NCHW", "channels_last") if suite in ("layers", "models") else ("",)
            modes = {"models": ("eager", "graph", "compile"), "memory": ("eager", "compile")}.get(suite, ("eager",))
            return [{"precision": p, "layout": layout, "mode": mode} for p in precisions for layout in layouts for mode in modes]
        if self.name.startswith("torch-cpu"):
            layouts = ("NCHW", "channels_last") if suite in ("layers", "models") else ("",)
            return [{"precision": "fp32", "layout": layout, "mode": "eager"} for layout in layouts if "fp32" in precisions]
        return [{"precision": "fp32", "layout": "NCHW", "mode": "eager"}] if "fp32" in precisions else []


#: what keeps glibc from giving memory back, which costs PyTorch a page fault per fresh page on the CPU
TUNED_MALLOC = {"MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": "1000000000"}
#: OpenBLAS's threads would otherwise wait awake, far into the turn of whoever comes next
SOON_ASLEEP = {"OPENBLAS_THREAD_TIMEOUT": "4"}

OPPONENTS = {opponent.name: opponent for opponent in (
    Opponent("torch-cuda", {}, ("gpu",), apart=("models",)),
    Opponent("torch-cpu", {}, ("cpu",)),
    Opponent("torch-cpu-tuned", TUNED_MALLOC, ("cpu",)),
    Opponent("tinygrad", {"DEV": "CL"}, limit=300),
    Opponent("numpy", SOON_ASLEEP, ("cpu",), ("gemm",)),
)}


def maker(name: str):
    """What prepares an opponent's cases; for the process that runs it.

    Raises:
        bench.side.Unable: if it is not installed or has no device.
    """
    if name.startswith("torch"):
        from bench.opponents.pytorch import PyTorch
        return PyTorch("cuda" if name == "torch-cuda" else "cpu")
    if name == "tinygrad":
        from bench.opponents.tiny import Tinygrad
        return Tinygrad()
    from bench.opponents.plain import Numpy
    return Numpy()
