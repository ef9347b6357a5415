<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Copies a tensor into every `stride`-th run of a larger one: one part of a concatenation.",
    reads=("x",),
    stores=("y",),
    problem={"N": "elements of the part", "inner": "length of a run", "stride": "distance of the runs in the result",
             "base": "start of the first run"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target),
    global_size=lambda p, t: walk_items(p.N, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
${signature}
{
<%loops:each n="${p.N}" index="i" t="${t}">
        const index_t at = i / ${p.inner} * ${p.stride} + ${p.base} + i % ${p.inner};
        ${store("y", "at", "x[i]")}
</%loops:each>
}
