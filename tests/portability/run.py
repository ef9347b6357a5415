"""Compiles the kernels of all benchmarks for GPUs that are not there, and says what they take.

    python tests/portability/run.py                  # one of all kernels that differ in constants only, as in CI
    python tests/portability/run.py --full --save    # all kernels, and those that tuning starts with; writes record and page

It ends with 1 if a kernel does not compile, or if one in its default configuration needs scratch memory as registers run out.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from collect import DEFAULTS, Kernel, collect, representatives  # noqa: E402
from compilers import COMPILERS, Failure, Usage, compile_all  # noqa: E402
from record import about, store, summary  # noqa: E402
from targets import MACHINES, Machine  # noqa: E402

#: kernels of each configuration of a template from which tuning starts
SEEDS = 2
#: bytes by which a compiler may align the arrays in local memory
PADDING = 128


def chosen(machine: Machine, full: bool) -> list[Kernel]:
    """The kernels to compile for a machine."""
    if not full:
        return list(representatives(collect(machine.target, offered=False).values()).values())
    found = collect(machine.target, seeds=True)
    tuned: dict[tuple, list[Kernel]] = defaultdict(list)
    for kernel in sorted(found.values(), key=lambda kernel: (-len(kernel.text), kernel.name)):
        if kernel.way == "seed":
            tuned[kernel.template, kernel.spec.config].append(kernel)
    return [kernel for kernel in found.values() if kernel.way != "seed"] + [k for group in tuned.values() for k in group[:SEEDS]]


def compiled(machine: Machine, kernels: Iterable[Kernel], jobs: int | None = None) -> dict[str, Usage | Failure]:
    """What became of each kernel, by name."""
    return compile_all(COMPILERS[machine.compiler], machine.name, {kernel.name: kernel.text for kernel in kernels}, jobs)


def complaints(kernels: Iterable[Kernel], results: dict[str, Usage | Failure]) -> list[str]:
    """What must not be: failures, scratch memory in default configurations, more local memory than the template declares."""
    found = []
    for kernel in kernels:
        result, label = results[kernel.name], f"{kernel.spec.label} ({kernel.origin}, {kernel.way})"
        if isinstance(result, Failure):
            found.append(f"{label} does not compile: {_error(result.log)}")
            continue
        if result.scratch and kernel.way in DEFAULTS:
            found.append(f"{label} needs {result.scratch} bytes of scratch memory per item")
        if result.local > kernel.local_bytes + PADDING:
            found.append(f"{label} takes {result.local} bytes of local memory and declares {kernel.local_bytes}")
    return found


def _error(log: str) -> str:
    found = re.search(r"error:[^\n]*", log)
    return found[0] if found else log.strip()[-300:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all kernels, in both layouts, and configurations of the tuner")
    parser.add_argument("--machine", action="append", choices=[machine.name for machine in MACHINES], help="only this one")
    parser.add_argument("--template", help="only templates with this in their name")
    parser.add_argument("--jobs", type=int, help="compilers at a time (all cores)")
    parser.add_argument("--save", action="store_true", help="write bench/results/portability.json and docs/portability.md")
    given = parser.parse_args()
    made: dict = {"provenance": about(), "full": given.full, "machines": {}, "rows": [], "failures": [], "spilling": []}
    problems = 0
    for machine in MACHINES:
        if given.machine and machine.name not in given.machine:
            continue
        compiler = COMPILERS[machine.compiler]
        if reason := compiler.absent():
            print(f"without {machine.title}: {reason}")
            continue
        began = time.perf_counter()
        kernels = [kernel for kernel in chosen(machine, given.full) if (given.template or "") in kernel.template]
        between = time.perf_counter()
        results = compiled(machine, kernels, given.jobs)
        found = complaints(kernels, results)
        problems += len(found)
        print(f"{machine.title}: {len(kernels)} kernels, {len(found)} complaints; {between - began:.0f} s to generate, "
              f"{time.perf_counter() - between:.0f} s to compile", flush=True)
        for line in found[:40]:
            print(f"    {line}")
        made["machines"][machine.name] = f"{compiler.name} {compiler.version()}"
        for key, entries in summary(machine.name, kernels, results).items():
            made[key] += entries
    if given.save:
        store({"compiled": made})
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
