"""Several kernels as one, for CPUs: cores draw the work-groups of one kernel after the other, and wait only for what these need.

Ending a launch and beginning the next one takes a CPU some microseconds, in which all cores are idle, and before that each waits
for the slowest. Here a core that finds nothing left of one kernel goes on with the next. Nobody can wait for ever: one waits for
kernels of which all groups were drawn, and whoever drew them is running. If the system lets something else run there meanwhile,
those that wait would only keep their cores busy. So the first of them leaves after some time, its core is free for the one that
is late, and the others do the rest.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from .kernel import KernelSpec
from .template import NAME, named, parameters, render_function

#: what a kernel that is to be joined may not contain: arrays in local memory that the hook does not know, meetings of items, and
#: what work-groups tell each other
APART = re.compile(r"__local\s+\w+\s+\w+\s*\[|\bbarrier\s*\(|\batomic_\w+\s*\(")
#: ints from one kernel's counters to the next one's: a line of the cache
STRIDE = 16
#: draws of a core for one kernel, from which on it draws several groups at once
DRAWS = 8
#: looks at what one waits for, some 0.1 ms, after which a core leaves, and the share of the cores that may
LOOKS, LEAVING = 1 << 18, 4


@dataclass(frozen=True)
class Part:
    """A kernel as a function that does one work-group, how many of these there are, and the local memory that one needs."""

    name: str
    text: str
    groups: int
    local_bytes: int


@functools.cache
def part_of(spec: KernelSpec) -> Part | None:
    """A kernel as a function, or None if it must be a launch of its own."""
    if any(extent != 1 for extent in spec.local_size):
        return None
    used = 0

    def local(kind: str, name: str, count: int) -> str:
        nonlocal used
        start, used = used, used + -(-4 * count // 64) * 64
        return f"__local {kind}* const {name} = (__local {kind}*)(local_memory + {start});"

    text = render_function(spec, "const int group, __local char* const local_memory", local)
    if APART.search(text):
        return None
    x, y, z = (*spec.grid, 1, 1)[:3]
    places = {"group_id": f"((d) == 0 ? group % {x} : (d) == 1 ? group / {x} % {y} : group / {x * y})",
              "num_groups": f"((d) == 0 ? {x} : (d) == 1 ? {y} : {z})", "local_id": "0", "local_size": "1"}
    places |= {"global_id": places["group_id"], "global_size": places["num_groups"]}
    before = "\n".join(f"#define get_{what}(d) {how}" for what, how in places.items())
    after = "\n".join(f"#undef get_{what}" for what in places)
    name, text = named(spec.template, f"{before}\n{text}\n{after}")        # equal texts for other grids are other functions
    once = f"#ifndef PART_{name}     // several joined kernels of one program may have it\n#define PART_{name}"
    return Part(name, f"{once}\n{text}\n#endif", math.prod(spec.grid), used)


@dataclass(frozen=True)
class Joined:
    """Kernels as one, with a work-group for each core.

    Args:
        kernels: all are a :class:`Part`.
        arguments: for each kernel, the numbers of its arguments among those of the joined one, which takes a board behind them.
        waits: for each kernel, those before it that must have ended.
        cores: work-groups of the joined kernel.
    """

    kernels: tuple[KernelSpec, ...]
    arguments: tuple[tuple[int, ...], ...]
    waits: tuple[tuple[int, ...], ...]
    cores: int

    @property
    def global_size(self) -> tuple[int, ...]:
        return (self.cores, 1, 1)

    @property
    def local_size(self) -> tuple[int, ...]:
        return (1, 1, 1)

    @property
    def label(self) -> str:
        """A short name for tables."""
        return f"{len(self.kernels)} kernels as one"

    @property
    def board_bytes(self) -> int:
        """Size of the board, ints that are zeros before and after each run: of each kernel the groups that were drawn and those
        that are done, and then the cores that have nothing left to do."""
        return 4 * STRIDE * (len(self.kernels) + 1)

    @functools.cached_property
    def text(self) -> tuple[str, str]:
        """The name and the OpenCL C text of the joined kernel."""
        parts = [part_of(spec) for spec in self.kernels]
        functions = "\n".join({part.name: part.text for part in parts}.values())
        taken = ", ".join(f"__global char* b{number}" for number in range(1 + max(map(max, self.arguments))))
        local = max(part.local_bytes for part in parts) or 64
        text = f"""{functions}
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void {NAME}({taken}, __global int* counters)
{{
    __local char local_memory[{local}] __attribute__((aligned(64)));
    volatile __global int* const board = (volatile __global int*)counters, * const left = board + {STRIDE * len(parts)};
{"".join(self._calls(number, part) for number, part in enumerate(parts))}
    if (atomic_inc(left) == {self.cores - 1})       // nobody will look any more
        for (int i = 0; i <= {len(parts)}; ++i) {{
            atomic_xchg(board + i * {STRIDE}, 0);
            atomic_xchg(board + i * {STRIDE} + 1, 0);
        }}
}}"""
        return named("joined", text)

    def _calls(self, number: int, part: Part) -> str:
        """The loop in which a core draws groups of one kernel."""
        at, together = STRIDE * number, max(1, part.groups // (DRAWS * self.cores))
        ready = " && ".join(f"board[{STRIDE * other + 1}] == {part_of(self.kernels[other]).groups}"
                            for other in self.waits[number])
        wait = f"""
    for (int looks = 0; !({ready}); ++looks)
        if (looks == {LOOKS}) {{
            looks = 0;
            if (atomic_inc(left) < {min(max(1, self.cores // LEAVING), self.cores - 1)}) return;
            atomic_dec(left);       // enough have left
        }}
    mem_fence(CLK_GLOBAL_MEM_FENCE);""" if ready else ""
        types = [declared.rsplit(" ", 1)[0].replace(" restrict", "") for declared in parameters(self.kernels[number])]
        given = ", ".join(f"({kind})b{argument}" for kind, argument in zip(types, self.arguments[number], strict=True))
        return f"""{wait}
    for (int first; (first = atomic_add(board + {at}, {together})) < {part.groups};) {{
        const int last = first + {together} < {part.groups} ? first + {together} : {part.groups};
        for (int group = first; group < last; ++group) {part.name}({given}, group, local_memory);
        mem_fence(CLK_GLOBAL_MEM_FENCE);
        atomic_add(board + {at + 1}, last - first);
    }}
"""
