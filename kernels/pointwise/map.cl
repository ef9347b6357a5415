<%!
from clnn.codegen.header import Kernel, Tunable
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def vectors(p, t):
    """Whole vectors of the result."""
    return p.N // t.VECTOR

def choose(p, target):
    vector = 1 if target.is_cpu else p.drawn
    return {"VECTOR": vector, **choose_walk(p.N // vector, target)}

KERNEL = Kernel(
    summary="Any pointwise expression over broadcast operands; all the work is in the store hook.",
    reads=(),
    stores=("y",),
    problem={"N": "elements of the result", "drawn": "neighbours that share a draw of random numbers, or 1"},
    tunables=(*WALK, Tunable("VECTOR", (1, 2, 4), 1, 4, "neighbours that an item computes together")),
    choose=choose,
    global_size=lambda p, t: walk_items(vectors(p, t), t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<% whole, left = vectors(p, t), p.N % t.VECTOR %>
${signature}
{
% if t.VECTOR == 1:
<%loops:each n="${p.N}" index="i" t="${t}">
        ${store("y", "i", "0.0f")}
</%loops:each>
% elif whole:
<%loops:each n="${whole}" index="i" t="${t}">
        ${store_vector("y", f"i * {t.VECTOR}", ["0.0f"] * t.VECTOR)}
</%loops:each>
% endif
% if left:
    if (get_global_id(0) == 0) {
        for (index_t i = ${p.N - left}; i < ${p.N}; ++i) ${store("y", "i", "0.0f")}
    }
% endif
}
