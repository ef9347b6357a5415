"""Several kernels as one, for CPUs: cores draw the work-groups of one kernel after the other, and wait only for what these need.

Ending a launch and beginning the next one takes a CPU some microseconds, in which all cores are idle, and before that each waits
for the slowest. Here a core that finds nothing left of one kernel goes on with the next. Nobody can wait for ever: one waits for
kernels of which all groups were drawn, and whoever drew them is running. If the system lets something else run there meanwhile,
those that wait would only keep their cores busy. So the first of them leaves after some time, its core is free for the one that
is late, and the others do the rest.

Each core draws from a share of its own first, the same of each kernel and in each run, and only then from those of the others.
Groups that follow each other mostly write, and read, what lies together, so a core finds much of what it wrote in caches near it.
What another one wrote takes several times as long to arrive where the two share no cache.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from ..target import Target
from .kernel import KernelSpec
from .template import NAME, named, parameters, render_function

#: platforms for CPUs whose cores are idle between launches, and whose compilers take a joined kernel in seconds; others were seen
#: to take minutes
PLATFORMS = ("Portable Computing Language",)
#: operations of a launch above which cores wait long for the last
SHORT_FLOPS = 128_000_000
#: what a kernel that is to be joined may not contain: arrays in local memory that the hook does not know, meetings of items, and
#: what work-groups tell each other
APART = re.compile(r"__local\s+\w+\s+\w+\s*\[|\bbarrier\s*\(|\batomic_\w+\s*\(")
#: ints from one kernel's counters to the next one's: a line of the cache
STRIDE = 16
#: draws of a core for one kernel, from which on it draws several groups at once
DRAWS = 8
#: most parts into which the groups of a kernel are cut
SHARES = 8
#: looks at what one waits for, some 0.1 ms, after which a core leaves, and the share of the cores that may
LOOKS, LEAVING = 1 << 18, 4


def joins(target: Target) -> bool:
    """Whether short launches are joined on such a device."""
    return target.is_cpu and target.platform in PLATFORMS


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
    def shares(self) -> int:
        """Parts into which the groups of each kernel are cut."""
        return min(self.cores, SHARES)

    def counter(self, number: int) -> int:
        """Where the counters of a kernel begin on the board, each in a line of the cache of its own: the groups that are done
        and, for each share, those that were drawn. Behind the last kernel's are the cores that have nothing left to do."""
        return STRIDE * (1 + self.shares) * number

    @property
    def board_bytes(self) -> int:
        """Size of the board, ints that are zeros before and after each run: the counters, and for each place whether a core has
        it. Behind them stays who had it last; any ints do there."""
        return 4 * (self.counter(len(self.kernels)) + STRIDE + 2 * self.cores)

    @functools.cached_property
    def text(self) -> tuple[str, str]:
        """The name and the OpenCL C text of the joined kernel."""
        parts = [part_of(spec) for spec in self.kernels]
        functions = "\n".join({part.name: part.text for part in parts}.values())
        taken = ", ".join(f"__global char* b{number}" for number in range(1 + max(map(max, self.arguments))))
        local = max(part.local_bytes for part in parts) or 64
        left = self.counter(len(parts))
        text = f"""{functions}
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void {NAME}({taken}, __global int* counters)
{{
    __local char local_memory[{local}] __attribute__((aligned(64)));
    volatile __global int* const board = (volatile __global int*)counters, * const left = board + {left};
    volatile __global int* const taken = board + {left + STRIDE}, * const last_had = taken + {self.cores};
    const int me = (int)(size_t)local_memory;       // of threads that run groups each has some of its own
    int place = 0;
    while (place < {self.cores} && (last_had[place] != me || atomic_xchg(taken + place, 1))) ++place;
    if (place == {self.cores}) {{
        for (place = 0; atomic_xchg(taken + place, 1);) ++place;
        last_had[place] = me;
    }}
    const int own = place * {self.shares} / {self.cores};
{"".join(self._calls(number, part) for number, part in enumerate(parts))}
    if (atomic_inc(left) == {self.cores - 1}) {{     // nobody will look any more
        for (int i = 0; i < {left // STRIDE + 1}; ++i) board[{STRIDE} * i] = 0;
        for (int i = 0; i < {self.cores}; ++i) taken[i] = 0;
    }}
}}"""
        return named("joined", text)

    def _calls(self, number: int, part: Part) -> str:
        """The loop in which a core draws groups of one kernel, first of its own share and then of the others."""
        together, leaving = max(1, part.groups // (DRAWS * self.cores)), min(max(1, self.cores // LEAVING), self.cores - 1)
        ready = " && ".join(f"board[{self.counter(other)}] == {part_of(self.kernels[other]).groups}"
                            for other in self.waits[number])
        wait = f"""
    for (int looks = 0; !({ready}); ++looks)
        if (looks == {LOOKS}) {{
            const int gone = *left;
            if (gone < {leaving} && atomic_cmpxchg(left, gone, gone + 1) == gone) return;
            looks = 0;      // enough have left
        }}
    mem_fence(CLK_GLOBAL_MEM_FENCE);""" if ready else ""
        types = [declared.rsplit(" ", 1)[0].replace(" restrict", "") for declared in parameters(self.kernels[number])]
        given = ", ".join(f"({kind})b{argument}" for kind, argument in zip(types, self.arguments[number], strict=True))
        return f"""{wait}
    {{
        int done = 0;
        for (int n = 0; n < {self.shares}; ++n) {{
            const int share = (own + n) % {self.shares};
            const int begin = {part.groups} * share / {self.shares}, end = {part.groups} * (share + 1) / {self.shares};
            volatile __global int* const drawn = board + {self.counter(number)} + {STRIDE} * (1 + share);
            if (begin + *drawn < end)
                for (int first; (first = begin + atomic_add(drawn, {together})) < end;) {{
                    const int last = first + {together} < end ? first + {together} : end;
                    for (int group = first; group < last; ++group) {part.name}({given}, group, local_memory);
                    done += last - first;
                }}
        }}
        mem_fence(CLK_GLOBAL_MEM_FENCE);
        if (done) atomic_add(board + {self.counter(number)}, done);
    }}
"""
