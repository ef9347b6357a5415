"""The committed record, ``bench/results/portability.json``, and the page made from it, ``docs/portability.md``."""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from collect import DEFAULTS, Kernel
from compilers import Failure, Usage
from targets import MACHINES

from bench.record import RESULTS, provenance, save

NAME = "portability"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "portability.md"
#: kernels with scratch memory that are listed by name for each machine
LISTED = 12


def present() -> dict:
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def store(changes: dict) -> None:
    """Replace parts of the record, and write the page anew."""
    result = {"suite": NAME, **present(), **changes}
    result.pop("provenance", None)
    result = {"provenance": about(), **result}
    save(NAME, None, result)
    PAGE.write_text(page(result))
    print(f"wrote {RESULTS / (NAME + '.json')} and {PAGE}")


def store_machine(machine: str, compiler: str, found: dict) -> None:
    """Replace what was compiled for one machine, so that a long run may be cut into several; ``found`` is its :func:`summary`."""
    before = present().get("compiled", {})
    parts = {key: [*(entry for entry in before.get(key, []) if entry["machine"] != machine), *entries]
             for key, entries in found.items()}
    machines = before.get("machines", {}) | {machine: {"compiler": compiler, "provenance": about()}}
    store({"compiled": {"machines": machines, **parts}})


def about() -> dict:
    """Provenance, with the command that was given."""
    root = Path(__file__).resolve().parents[2]
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(root) if script.is_relative_to(root) else script
    return {**provenance(None), "command": shlex.join(["python", str(name), *sys.argv[1:]])}


# -- what was compiled --------------------------------------------------------------------------------------------------------

def summary(machine: str, kernels: Iterable[Kernel], results: dict[str, Usage | Failure]) -> dict:
    """A row for each template and way, and the kernels that did not compile or need scratch memory."""
    groups: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        groups[kernel.template, "default" if kernel.way in DEFAULTS else kernel.way].append(kernel)
    rows, failures, spilling = [], [], []
    for (template, way), group in sorted(groups.items()):
        used = [found for kernel in group if isinstance(found := results[kernel.name], Usage)]
        rows.append({"machine": machine, "template": template, "way": way, "kernels": len(group),
                     "failures": len(group) - len(used), "width": sorted({u.width for u in used}),
                     "registers": max((u.registers for u in used), default=0),
                     "spilling": sum(u.scratch > 0 for u in used), "scratch": max((u.scratch for u in used), default=0),
                     "local": max((u.local for u in used), default=0)})
    for kernel in kernels:
        found = results[kernel.name]
        which = {"machine": machine, "kernel": kernel.spec.label, "way": kernel.way, "origin": kernel.origin}
        if isinstance(found, Failure):
            failures.append({**which, "log": " ".join(found.log.split())[:400]})
        elif found.scratch:
            spilling.append({**which, "scratch": found.scratch})
    spilling.sort(key=lambda entry: (entry["way"] not in DEFAULTS, -entry["scratch"]))
    return {"rows": rows, "failures": failures, "spilling": spilling[:LISTED]}


# -- the page -------------------------------------------------------------------------------------------------------------------

def page(result: dict) -> str:
    return "\n".join([*HEAD.splitlines(), "", *_compiled(result.get("compiled")), *_ran(result.get("runtimes", {}))]) + "\n"


HEAD = """# Where clnn's kernels compile and run

Made by `tests/portability`; the figures are in [bench/results/portability.json](../bench/results/portability.json).

    python tests/portability/run.py                     # what CI does, for all machines
    python tests/portability/run.py --save              # after a change of kernels: renews the record that CI goes by
    python tests/portability/run.py --full --save       # all kernels, and this page
    python tests/portability/run.py --machine gfx1100 --template gemm/tiled
    python tests/portability/suite.py DEVICE --save     # the tests of all operators on an OpenCL device

CI takes one of all default kernels that differ in constants only, some 500 for a machine, and compiles those that are not in the
record of clean ones, [clean.json](../tests/portability/clean.json), as they are new or changed, and one in eight of the others,
at least one of each template. It fails if one does not compile, needs scratch memory, or takes more local memory than declared
(a kernel for other devices: than the machine has). A record that is behind makes CI slower, not blind.

A compiler that is missing is said to be missing, and its machines are left out. On Debian:
`apt-get install intel-opencl-icd clang-19 libclc-19`."""

EXPLAINED = """Kernels of all benchmarked convolution layers (forward and both gradients), matrix products, operators bound by
memory, and networks (training steps and inference):
every lowering that offers itself, in both layouts, with the tunables that are chosen where nothing is measured;
of templates that none of these need, the operators' samples. Equal texts are one kernel. A cell says: kernels / most
registers / most scratch bytes of an item, in brackets in how many kernels / most local
memory of a work-group. Registers: on Intel what a hardware thread has, 128 of 32 bytes, whatever the kernel needs; on AMD the
vector registers of an item, of which there are 256, on gfx90a 512. Scratch is memory that stands in for registers."""
TABLES = {"default": "Default configurations", "seed": "Configurations from which tuning starts, the longest two texts of each",
          "forced": "Kernels for other devices, which only `CLNN_LOWERING` would run here"}


def _compiled(found: dict | None) -> list[str]:
    if not found:
        return []
    machines = [machine for machine in MACHINES if machine.name in found["machines"]]
    runs = {machine.title: found["machines"][machine.name] for machine in machines}
    lines = ["## Compiled for GPUs that were not there", "",
             *(f"- {title}: {run['compiler']}, at commit {run['provenance']['commit']}" for title, run in runs.items()), "",
             *EXPLAINED.splitlines(), ""]
    for way, title in TABLES.items():
        rows = {(row["template"], row["machine"]): row for row in found["rows"] if row["way"] == way}
        if not rows:
            continue
        lines += [f"### {title}", "", "| template | " + " | ".join(machine.name for machine in machines) + " |",
                  "|---" * (len(machines) + 1) + "|"]
        for template in sorted({template for template, _ in rows}):
            cells = [_cell(rows.get((template, machine.name))) for machine in machines]
            lines.append(f"| {template} | " + " | ".join(cells) + " |")
        sums = [[row for row in rows.values() if row["machine"] == machine.name] for machine in machines]
        lines += ["| **all** | " + " | ".join(_total(group) for group in sums) + " |", ""]
    for entry in found["failures"][:20]:
        lines.append(f"- failed: {entry['machine']} {entry['kernel']} ({entry['origin']}): {entry['log'][:160]}")
    return lines


def _cell(row: dict | None) -> str:
    if row is None:
        return "–"
    text = f"{row['kernels']} / {row['registers']} / {row['scratch']}" + (f" ({row['spilling']})" if row["spilling"] else "")
    return f"{text} / {_kib(row['local'])}" + (f", **{row['failures']} failed**" if row["failures"] else "")


def _total(rows: list[dict]) -> str:
    failures, spilling = sum(row["failures"] for row in rows), sum(row["spilling"] for row in rows)
    return f"{sum(row['kernels'] for row in rows)}, {failures} failed, {spilling} with scratch"


def _kib(nbytes: int) -> str:
    return f"{nbytes / 1024:.3g}K" if nbytes else "0"


def _ran(runtimes: dict) -> list[str]:
    if not runtimes:
        return []
    lines = ["## Ran on other OpenCL runtimes", "", "| runtime | device | tests | passed | failed | skipped | note |",
             "|---" * 7 + "|"]
    for name, entry in sorted(runtimes.items()):
        counts = " | ".join(str(entry[key]) for key in ("passed", "failed", "skipped"))
        lines.append(f"| {name} | {entry['device']} | `{entry['tests']}` | {counts} | {entry['note']} |")
    return lines
