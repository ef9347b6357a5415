<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Any pointwise expression over broadcast operands; all the work is in the store hook.",
    reads=(),
    stores=("y",),
    problem={"N": "elements of the result"},
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
        ${store("y", "i", "0.0f")}
</%loops:each>
}
