<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="C = A B, one item per element of C; applies to any view on any device.",
    reads=("a", "b"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "a": "View M x K", "b": "View K x N", "c": "View M x N"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.batch * p.M * p.N, target, cost=p.K),
    global_size=lambda p, t: walk_items(p.batch * p.M * p.N, t),
    local_size=walk_group,
)
# sums of this many products are rounded on their own, so that the error grows with the number of blocks, not of products
BLOCK = 256
%>
<%namespace name="loops" file="/lib/loops.mako"/>
${signature}
{
<%loops:each n="${p.batch * p.M * p.N}" index="i" t="${t}">
        const int n = i % ${p.N}, m = i / ${p.N} % ${p.M}, g = i / ${p.N} / ${p.M};
        ${p.a.row("m", "am")}
        ${p.b.col("n", "bn")}
        float total = 0.0f;
        for (int block = 0; block < ${p.K}; block += ${BLOCK}) {
            float part = 0.0f;
            for (int k = block; k < ${p.K} && k < block + ${BLOCK}; ++k) {
                ${p.a.col("k", "ak")}
                ${p.b.row("k", "bk")}
                ${p.a.locate("am", "ak", "at", "g")}
                ${p.b.locate("bk", "bn", "bt", "g")}
                part += ${p.a.load("a", "at")} * ${p.b.load("b", "bt")};
            }
            total += part;
        }
        ${p.c.row("m", "cm")}
        ${p.c.col("n", "cn")}
        ${p.c.locate("cm", "cn", "ct", "g")}
        ${store("c", "ct", "total")}
% if has("row_sum"):
        if (n == 0) {
            float sum = 0.0f;
            for (int block = 0; block < ${p.K}; block += ${BLOCK}) {
                float part = 0.0f;
                for (int k = block; k < ${p.K} && k < block + ${BLOCK}; ++k) {
                    ${p.a.col("k", "ak")}
                    ${p.a.locate("am", "ak", "at", "g")}
                    part += ${p.a.load("a", "at")};
                }
                sum += part;
            }
            ${store("row_sum", f"g * {p.M} + m", "sum")}
        }
% endif
</%loops:each>
}
