"""Compiles the kernels of all benchmarks for GPUs that are not there, and says what they take.

    python tests/portability/run.py                  # as in CI: what clean.json does not hold, and a sample of what it holds
    python tests/portability/run.py --save           # and renews clean.json
    python tests/portability/run.py --all --save     # the same, of nothing but this run
    python tests/portability/run.py --full --save    # all layouts, lowerings and what tuning starts with; record and page too

Of all default kernels that differ in constants only it takes one, the longest, unless it is a full run.

It ends with 1 if a kernel does not compile, takes more local memory than it declares, or in its default configuration needs
scratch memory as registers run out.
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

from clean import Clean, recorded, unsure  # noqa: E402
from collect import DEFAULTS, Kernel, collect, representatives  # noqa: E402
from compilers import COMPILERS, Failure, Usage, compile_all  # noqa: E402
from record import store_machine, summary  # noqa: E402
from targets import MACHINES, Machine  # noqa: E402

#: kernels of each configuration of a template from which tuning starts
SEEDS = 2
#: bytes by which a compiler may align the arrays in local memory
PADDING = 128


def defaults(machine: Machine) -> list[Kernel]:
    """The kernels that a machine runs where nothing is measured, one of those that differ in constants only."""
    return list(representatives(collect(machine.target, offered=False).values()).values())


def everything(machine: Machine) -> list[Kernel]:
    """Whatever a machine may run, and of configurations from which tuning starts the longest texts."""
    found = collect(machine.target, seeds=True)
    tuned: dict[tuple, list[Kernel]] = defaultdict(list)
    for kernel in sorted(found.values(), key=lambda kernel: (-len(kernel.text), kernel.name)):
        if kernel.way == "seed":
            tuned[kernel.template, kernel.spec.config].append(kernel)
    return [kernel for kernel in found.values() if kernel.way != "seed"] + [k for group in tuned.values() for k in group[:SEEDS]]


def compiled(machine: Machine, kernels: Iterable[Kernel], jobs: int | None = None) -> dict[str, Usage | Failure]:
    """What became of each kernel, by name."""
    return compile_all(COMPILERS[machine.compiler], machine.name, {kernel.name: kernel.text for kernel in kernels}, jobs)


def complaints(machine: Machine, kernels: Iterable[Kernel], results: dict[str, Usage | Failure]) -> list[str]:
    """What must not be: failures, scratch memory in default configurations, more local memory than the template declares.

    Kernels for other devices may take whatever a machine has: a compiler may keep private arrays in local memory, as AMD's does
    with those of the work-groups of one item that kernels for CPUs have.
    """
    found = []
    for kernel in kernels:
        result, label = results[kernel.name], f"{kernel.spec.label} ({kernel.origin}, {kernel.way})"
        if isinstance(result, Failure):
            found.append(f"{label} does not compile: {_error(result.log)}")
            continue
        if result.scratch and kernel.way in DEFAULTS:
            found.append(f"{label} needs {result.scratch} bytes of scratch memory per item")
        allowed = machine.target.local_memory if kernel.way == "forced" else kernel.local_bytes + PADDING
        if result.local > allowed:
            found.append(f"{label} takes {result.local} bytes of local memory of {allowed}, and declares {kernel.local_bytes}")
    return found


def _error(log: str) -> str:
    found = re.search(r"error:[^\n]*", log)
    return found[0] if found else log.strip()[-300:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="compile what clean.json holds, too")
    parser.add_argument("--full", action="store_true", help="all kernels, in both layouts, and configurations of the tuner")
    parser.add_argument("--machine", action="append", choices=[machine.name for machine in MACHINES], help="only this one")
    parser.add_argument("--template", help="only templates with this in their name")
    parser.add_argument("--jobs", type=int, help="compilers at a time (all cores)")
    parser.add_argument("--save", action="store_true", help="write clean.json, and of a full run the record and its page")
    given = parser.parse_args()
    if given.save and given.template:
        parser.error("--save is for all templates")
    clean = Clean.load()
    problems = 0
    for machine in MACHINES:
        if given.machine and machine.name not in given.machine:
            continue
        compiler = COMPILERS[machine.compiler]
        if reason := compiler.absent():
            print(f"without {machine.title}: {reason}")
            continue
        began = time.perf_counter()
        held = {} if given.all or given.full else clean.holds(machine)
        if other := clean.other_version(compiler):
            print(other)
            held = {} if given.save else held       # the record names one version for all
        needed = [kernel for kernel in defaults(machine) if (given.template or "") in kernel.template]
        kernels = unsure(machine.name, needed, held)
        if given.full:
            more = [kernel for kernel in everything(machine) if (given.template or "") in kernel.template]
            kernels = list({kernel.name: kernel for kernel in (*needed, *more)}.values())
        between = time.perf_counter()
        results = compiled(machine, kernels, given.jobs)
        found = complaints(machine, kernels, results)
        problems += len(found)
        print(f"{machine.title}: {len(kernels)} kernels, {len(found)} complaints; {between - began:.0f} s to generate, "
              f"{time.perf_counter() - between:.0f} s to compile", flush=True)
        for line in found[:40]:
            print(f"    {line}")
        if given.save:
            clean.renew(machine, compiler, needed, recorded(needed, held) | results)
            clean.save()
        if given.save and given.full:
            store_machine(machine.name, f"{compiler.name} {compiler.version()}", summary(machine.name, kernels, results))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
