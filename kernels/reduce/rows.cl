<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

def choose(p, target):
    if target.is_cpu:
        return {"ITEMS": 1, "GROUP": 1}
    # many short rows: one item each; long rows: some items, or a work-group, each
    if p.cols <= 64 or p.rows >= 64 * target.compute_units and not p.x.transposed.row_contiguous:
        return {"ITEMS": 1, "GROUP": 64}
    if p.cols >= 2048:
        return {"ITEMS": 256, "GROUP": 256}
    return {"ITEMS": 32, "GROUP": 128 if p.rows >= 16 * target.compute_units else 32}

KERNEL = Kernel(
    summary="Sum, mean or maximum of each row of a matrix view, in a fixed order.",
    reads=("x",),
    stores=("y",),
    problem={"rows": "results", "cols": "elements of each", "x": "View of rows x cols", "kind": "sum, mean or max"},
    tunables=(Tunable("ITEMS", (1, 32, 64, 128, 256, 512), 64, 4, "items that share a row"),
              Tunable("GROUP", (1, 32, 64, 128, 256, 512), 64, 8, "items of a work-group")),
    constraints=(Constraint(lambda p, t, target: t.GROUP % t.ITEMS == 0, "those that share a row must be of one work-group"),
                 Constraint(lambda p, t, target: t.ITEMS & (t.ITEMS - 1) == 0, "the tree needs a power of two of items")),
    choose=choose,
    global_size=lambda p, t: (-(-p.rows // (t.GROUP // t.ITEMS)) * t.GROUP,),
    local_size=lambda p, t: (t.GROUP,),
    local_bytes=lambda p, t: 4 * t.GROUP if t.ITEMS > 1 else 0,
)
BLOCK = 512
#: loads of an item that are under way at once
AHEAD = 8
%>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
start = "-INFINITY" if p.kind == "max" else "0.0f"
def join(a, b):
    return f"(({a} > {b} || {a} != {a}) ? {a} : {b})" if p.kind == "max" else f"{a} + {b}"
scale = f" * {1.0 / p.cols!r}f" if p.kind == "mean" else ""
digits = p.x.cols
rows = t.GROUP // t.ITEMS
# neighbours that one load takes, and how many such there are in a row
V = 4 if p.x.quads() and not p.x.row_contiguous and t.ITEMS > 1 else 1
count = p.cols // V
vec = "float" if V == 1 else "float4"
def joined(value):
    """A statement that adds a loaded value."""
    if V == 1:
        return f"part0 = {join('part0', value)};"
    return " ".join(f"part{v} = {join(f'part{v}', f'{value}.s{v}')};" for v in range(V))
%>
${signature}
{
% if t.ITEMS == 1:
    const int row = get_global_id(0);
% if p.rows % t.GROUP:
    if (row >= ${p.rows}) return;
% endif
    ${p.x.row("row", "r")}
    float total = ${start};
    // Partial results of at most ${BLOCK} elements keep the rounding error of long sums small.
% for number, digit in enumerate(digits[:-1]):
    for (int d${number} = 0; d${number} < ${digit.extent}; ++d${number})
% endfor
    for (int block = 0; block < ${digits[-1].extent}; block += ${BLOCK}) {
        float part = ${start};
        const int last = block + ${BLOCK} < ${digits[-1].extent} ? block + ${BLOCK} : ${digits[-1].extent};
        for (int d = block; d < last; ++d) {
            const float v = x[ro${"".join(f" + (index_t)d{n} * {g.stride}" for n, g in enumerate(digits[:-1]))} + (index_t)d * ${digits[-1].stride}];
            part = ${join("part", "v")};
        }
        total = ${join("total", "part")};
    }
    ${store("y", "row", f"total{scale}")}
% else:
    // Items stride through their row, ${AHEAD} loads at a time and their sums apart; then a tree joins their partial results.
    __local float partial[${t.GROUP}];
    const int item = get_local_id(0), lane = item % ${t.ITEMS}, wanted = (int)get_group_id(0) * ${rows} + item / ${t.ITEMS};
% if p.rows % rows:
    const int row = wanted < ${p.rows} ? wanted : ${p.rows - 1};     // all must meet at the barriers
% else:
    const int row = wanted;
% endif
    ${p.x.row("row", "r")}
    float total = ${start};
    int at = lane;
    for (; at + ${(AHEAD - 1) * t.ITEMS} < ${count}; at += ${AHEAD * t.ITEMS}) {
% for u in range(AHEAD):
        const int at${u} = ${f"(at + {u * t.ITEMS}) * {V}" if V > 1 else f"at + {u * t.ITEMS}"};
        ${p.x.col(f"at{u}", f"c{u}")}
        const ${vec} v${u} = *(__global const ${vec}*)(x + ro + c${u}o);
% endfor
        float ${", ".join(f"part{v} = {start}" for v in range(V))};
        ${" ".join(joined(f"v{u}") for u in range(AHEAD))}
% for v in range(V):
        total = ${join("total", f"part{v}")};
% endfor
    }
    float ${", ".join(f"part{v} = {start}" for v in range(V))};
    for (; at < ${count}; at += ${t.ITEMS}) {
        const int here = at * ${V};
        ${p.x.col("here", "c")}
        const ${vec} v = *(__global const ${vec}*)(x + ro + co);
        ${joined("v")}
    }
% for v in range(V):
    total = ${join("total", f"part{v}")};
% endfor
    partial[item] = total;
<%tree:join lanes="${t.ITEMS}">
            partial[item] = ${join("partial[item]", "partial[other]")};
</%tree:join>
    if (lane == 0 && wanted < ${p.rows}) {
        ${store("y", "row", f"partial[item]{scale}")}
    }
% endif
}
