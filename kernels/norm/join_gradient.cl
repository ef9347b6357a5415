<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    auxiliary=True,
    summary="Joins the sums of a channel's parts into the gradients of gamma and beta, and what the gradient of x needs of them.",
    reads=("sums", "dots", "var", "scale"),
    stores=("dgamma", "dbeta", "slope", "offset"),
    problem={"C": "channels", "parts": "parts", "count": "elements of a channel", "eps": "added to the variance"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.C, target, cost=16),
    global_size=lambda p, t: walk_items(p.C, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
${signature}
{
<%loops:each n="${p.C}" index="c" t="${t}">
        float sum = sums[c], product = dots[c];
% if p.parts > 1:
        for (int part = 1; part < ${p.parts}; ++part) {
            sum += sums[part * ${p.C} + c];
            product += dots[part * ${p.C} + c];
        }
% endif
        const float invstd = 1.0f / sqrt(var[c] + ${repr(p.eps)}f), share = -scale[c] * ${repr(1 / p.count)}f;
        product *= invstd;
        // dx = scale dy + slope (x - mean) + offset
        ${store("slope", "c", "share * invstd * product")}
        ${store("offset", "c", "share * sum")}
        ${store("dgamma", "c", "product")}
        ${store("dbeta", "c", "sum")}
</%loops:each>
}
