<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    auxiliary=True,
    summary="Adds the partial products of a GEMM whose K was split, in a fixed order.",
    reads=("part", "part_sum"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "batch": "independent products", "splits": "partial products of each",
             "c": "View M x N"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.batch * p.M * p.N, target, cost=p.splits),
    global_size=lambda p, t: walk_items(p.batch * p.M * p.N, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
${signature}
{
<%loops:each n="${p.batch * p.M * p.N}" index="i" t="${t}">
        const int n = i % ${p.N}, m = i / ${p.N} % ${p.M}, g = i / ${p.N} / ${p.M};
        float total = 0.0f;
        for (int s = 0; s < ${p.splits}; ++s) total += part[((index_t)(g * ${p.splits} + s) * ${p.M} + m) * ${p.N} + n];
        ${p.c.row("m", "cm")}
        ${p.c.col("n", "cn")}
        ${p.c.locate("cm", "cn", "ct", "g")}
        ${store("c", "ct", "total")}
% if has("row_sum"):
        if (n == 0) {
            float sum = 0.0f;
            for (int s = 0; s < ${p.splits}; ++s) sum += part_sum[(g * ${p.splits} + s) * ${p.M} + m];
            ${store("row_sum", f"g * {p.M} + m", "sum")}
        }
% endif
</%loops:each>
}
