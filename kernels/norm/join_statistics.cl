<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    auxiliary=True,
    summary="Joins the statistics of a channel's parts into its mean and biased variance, and what normalising multiplies by.",
    reads=("means", "squares", "gamma"),
    stores=("mean", "var", "center", "slope"),
    problem={"C": "channels", "parts": "parts", "size": "elements of each part but the last", "last": "elements of the last part",
             "eps": "added to the variance"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.C, target, cost=16),
    global_size=lambda p, t: walk_items(p.C, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<% count = p.size * (p.parts - 1) + p.last %>
${signature}
{
<%loops:each n="${p.C}" index="c" t="${t}">
        float m = means[c], m2 = squares[c];
% if p.parts > 1:
        for (int part = 1; part < ${p.parts}; ++part) {
            // elements before this part, and in it
            const float before = (float)part * ${p.size}.0f, here = part == ${p.parts - 1} ? ${p.last}.0f : ${p.size}.0f;
            const float delta = means[part * ${p.C} + c] - m, weight = here / (before + here);
            m += delta * weight;
            m2 += squares[part * ${p.C} + c] + delta * delta * before * weight;
        }
% endif
        const float v = m2 * ${repr(1 / count)}f;
        ${store("center", "c", "m")}
        ${store("slope", "c", f"gamma[c] / sqrt(v + {p.eps!r}f)")}
        ${store("mean", "c", "m")}
        ${store("var", "c", "v")}
</%loops:each>
}
