<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def choose(p, target):
    sums = p.batch * p.M * p.N
    if target.is_cpu or p.splits < 32:
        return choose_walk(sums, target, cost=p.splits)
    share = 8
    while share < 64 and p.splits >= 16 * share and sums * share < 256 * target.compute_units:
        share *= 2
    return {"CHUNK": 1, "GROUP": 256, "SHARE": share}

def shared(p):
    """Sums that are shared: a row has one more for its sum, which is made where that is asked for."""
    return p.batch * p.M * (p.N + 1)

KERNEL = Kernel(
    auxiliary=True,
    summary="Adds the partial products of a GEMM whose K was split, in a fixed order.",
    reads=("part", "part_sum"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "batch": "independent products", "splits": "partial products of each",
             "c": "View M x N"},
    tunables=(*WALK, Tunable("SHARE", (1, 2, 4, 8, 16, 32, 64), 1, 2, "items of a work-group that share a sum")),
    constraints=(Constraint(lambda p, t, target: t.SHARE & (t.SHARE - 1) == 0 and (t.SHARE == 1 or t.GROUP % t.SHARE == 0),
                            "the tree needs a power of two of items, of one work-group"),),
    choose=choose,
    global_size=lambda p, t: walk_items(p.batch * p.M * p.N, t) if t.SHARE == 1 else (
        -(-shared(p) // (t.GROUP // t.SHARE)) * t.GROUP,),
    local_size=walk_group,
    local_bytes=lambda p, t: 4 * t.GROUP if t.SHARE > 1 else 0,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
spread = t.GROUP // t.SHARE
def terms(total, first, step, value):
    return f"for (int s = {first}; s < {p.splits}; s += {step}) {total} += {value};"
product = f"part[((index_t)(g * {p.splits} + s) * {p.M} + m) * {p.N} + n]"
row = f"part_sum[(g * {p.splits} + s) * {p.M} + m]"
%>
${signature}
{
% if t.SHARE > 1:
    // Neighbouring items take neighbouring sums, and each only some of the terms; a tree joins them.
    __local float shared_sums[${t.GROUP}];
    const int item = get_local_id(0), lane = item / ${spread}, i = (int)get_group_id(0) * ${spread} + item % ${spread};
    const int n = i % ${p.N + 1}, m = i / ${p.N + 1} % ${p.M}, g = i / ${(p.N + 1) * p.M};
    const bool some = i < ${shared(p)};
    float total = 0.0f;
    if (some && n < ${p.N}) {
        #pragma unroll 4
        ${terms("total", "lane", t.SHARE, product)}
    }
% if has("row_sum"):
    if (some && n == ${p.N}) {
        #pragma unroll 4
        ${terms("total", "lane", t.SHARE, row)}
    }
% endif
    shared_sums[item] = total;
<%tree:join lanes="${t.SHARE}" spread="${spread}">
            shared_sums[item] += shared_sums[other];
</%tree:join>
    if (some && lane == 0 && n < ${p.N}) {
        ${p.c.row("m", "cm")}
        ${p.c.col("n", "cn")}
        ${p.c.locate("cm", "cn", "ct", "g")}
        ${store("c", "ct", "shared_sums[item]")}
    }
% if has("row_sum"):
    if (some && lane == 0 && n == ${p.N}) {
        ${store("row_sum", f"g * {p.M} + m", "shared_sums[item]")}
    }
% endif
% else:
<%loops:each n="${p.batch * p.M * p.N}" index="i" t="${t}">
        const int n = i % ${p.N}, m = i / ${p.N} % ${p.M}, g = i / ${p.N} / ${p.M};
        float total = 0.0f;
        ${terms("total", "0", 1, product)}
        ${p.c.row("m", "cm")}
        ${p.c.col("n", "cn")}
        ${p.c.locate("cm", "cn", "ct", "g")}
        ${store("c", "ct", "total")}
% if has("row_sum"):
        if (n == 0) {
            float sum = 0.0f;
            ${terms("sum", "0", 1, row)}
            ${store("row_sum", f"g * {p.M} + m", "sum")}
        }
% endif
</%loops:each>
% endif
}
