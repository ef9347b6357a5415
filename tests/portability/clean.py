"""The committed record of kernels that compiled and need no scratch memory, ``clean.json``: which of them, for which machines,
with how much local memory, and what compiled them.

Compiling all default kernels takes ten minutes, and most changes leave most texts alone. So CI compiles every kernel that the
record does not hold, which is every new and every changed one, as a kernel's name carries a digest of its text; and of those that
it holds a sample, to notice if compilers or the record are not what they were. Options are part of what was compiled: where they
differ the record holds nothing. Another version of a compiler is told, and the sample is what is known of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from collect import Kernel
from compilers import COMPILERS, Failure, Usage
from targets import MACHINES

PATH = Path(__file__).parent / "clean.json"
#: of the recorded kernels of a template, one in so many is compiled again, and at least one
SAMPLED = 8
#: digests of the commands, by compiler
COMMANDS = {name: hashlib.sha256(" ".join(compiler.command("DEVICE", "SOURCE")).encode()).hexdigest()[:10]
            for name, compiler in COMPILERS.items()}


@dataclass
class Clean:
    """``compilers``: name → version and digest of the command; ``kernels``: name → machine → bytes of local memory."""

    compilers: dict[str, dict[str, str]] = field(default_factory=dict)
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path = PATH) -> Clean:
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()

    def save(self, path: Path = PATH) -> None:
        """A line for each kernel, so that changes can be read."""
        lines = [f"  {json.dumps(name)}: {json.dumps(found, sort_keys=True)}" for name, found in sorted(self.kernels.items())]
        head = json.dumps(self.compilers, sort_keys=True)
        path.write_text(f'{{"compilers": {head},\n "kernels": {{\n' + ",\n".join(lines) + "\n}}\n")

    def holds(self, machine) -> dict[str, int]:
        """The kernels that were compiled for a machine by the command that is used now, with their local memory."""
        if self.compilers.get(machine.compiler, {}).get("command") != COMMANDS[machine.compiler]:
            return {}
        return {name: found[machine.name] for name, found in self.kernels.items() if machine.name in found}

    def other_version(self, compiler) -> str | None:
        """What is to be said if the record was made by another version of a compiler."""
        then, now = self.compilers.get(compiler.name, {}).get("version"), compiler.version()
        return None if then in (None, now) else f"kernels were found clean by {compiler.name} {then}, and this is {now}"

    def renew(self, machine, compiler, kernels: Iterable[Kernel], results: dict[str, Usage | Failure]) -> None:
        """Hold those of the kernels that are clean, and no others, for a machine; and nothing of what other versions compiled."""
        made = {"version": compiler.version(), "command": COMMANDS[compiler.name]}
        same = self.compilers.get(compiler.name) == made
        self.compilers[compiler.name] = made
        for old in MACHINES:
            if old.name == machine.name or (old.compiler == compiler.name and not same):
                for found in self.kernels.values():
                    found.pop(old.name, None)
        for kernel in kernels:
            found = results[kernel.name]
            if isinstance(found, Usage) and not found.scratch:
                self.kernels.setdefault(kernel.name, {})[machine.name] = found.local
        self.kernels = {name: found for name, found in self.kernels.items() if found}


def sample(machine_name: str, kernels: Iterable[Kernel]) -> list[Kernel]:
    """One in so many kernels of each template, always the same for a machine, others for another."""
    groups: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        groups[kernel.template].append(kernel)

    def place(kernel: Kernel) -> str:
        return hashlib.sha256(f"{machine_name} {kernel.name}".encode()).hexdigest()

    return [kernel for group in groups.values() for kernel in sorted(group, key=place)[:-(-len(group) // SAMPLED)]]


def unsure(machine_name: str, kernels: Iterable[Kernel], held: dict[str, int]) -> list[Kernel]:
    """The kernels to compile: those that are not held, and a sample of the others."""
    kernels = list(kernels)
    return [k for k in kernels if k.name not in held] + sample(machine_name, [k for k in kernels if k.name in held])


def recorded(kernels: Iterable[Kernel], held: dict[str, int]) -> dict[str, Usage]:
    """What the record says of kernels; of registers it says nothing."""
    return {kernel.name: Usage(0, 0, 0, held[kernel.name]) for kernel in kernels if kernel.name in held}
