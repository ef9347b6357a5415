<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

def choose(p, target):
    if target.is_cpu:
        return {"ITEMS": 1, "GROUP": 1}
    # many short rows: one item each; few long rows: a work-group each
    if p.cols <= 64 or p.rows >= 64 * target.compute_units and not p.x.transposed.row_contiguous:
        return {"ITEMS": 1, "GROUP": 64}
    return {"ITEMS": 256 if p.cols >= 2048 else 64, "GROUP": 256 if p.cols >= 2048 else 64}

KERNEL = Kernel(
    summary="Sum, mean or maximum of each row of a matrix view, in a fixed order.",
    reads=("x",),
    stores=("y",),
    problem={"rows": "results", "cols": "elements of each", "x": "View of rows x cols", "kind": "sum, mean or max"},
    tunables=(Tunable("ITEMS", (1, 32, 64, 128, 256, 512), 64, 4, "items that share a row"),
              Tunable("GROUP", (1, 32, 64, 128, 256, 512), 64, 4, "items of a work-group")),
    constraints=(Constraint(lambda p, t, target: t.ITEMS == 1 or t.ITEMS == t.GROUP, "a shared row takes a whole work-group"),
                 Constraint(lambda p, t, target: t.ITEMS & (t.ITEMS - 1) == 0, "the tree needs a power of two of items")),
    choose=choose,
    global_size=lambda p, t: (p.rows * t.GROUP,) if t.ITEMS > 1 else (-(-p.rows // t.GROUP) * t.GROUP,),
    local_size=lambda p, t: (t.GROUP,),
    local_bytes=lambda p, t: 4 * t.ITEMS if t.ITEMS > 1 else 0,
)
BLOCK = 512
%>
<%
start = "-INFINITY" if p.kind == "max" else "0.0f"
def join(a, b):
    return f"(({a} > {b} || {a} != {a}) ? {a} : {b})" if p.kind == "max" else f"{a} + {b}"
scale = f" * {1.0 / p.cols!r}f" if p.kind == "mean" else ""
digits = p.x.cols
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
    // The items of a group stride through the row, then a tree joins their partial results.
    __local float partial[${t.ITEMS}];
    const int row = get_group_id(0), item = get_local_id(0);
    ${p.x.row("row", "r")}
    float total = ${start};
    for (int block = item; block < ${p.cols}; block += ${t.ITEMS} * 32) {
        float part = ${start};
        for (int c = block; c < ${p.cols} && c < block + ${t.ITEMS} * 32; c += ${t.ITEMS}) {
            ${p.x.col("c", "c")}
            const float v = x[ro + co];
            part = ${join("part", "v")};
        }
        total = ${join("total", "part")};
    }
    partial[item] = total;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int reach = ${t.ITEMS // 2}; reach > 0; reach /= 2) {
        if (item < reach) partial[item] = ${join("partial[item]", "partial[item + reach]")};
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (item == 0) {
        ${store("y", "row", f"partial[0]{scale}")}
    }
% endif
}
