<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group, walk_items

def run(p):
    """Neighbours in the matrix whose elements lie evenly apart."""
    return p.x.cols[-1].extent if p.x.window is None else 1

KERNEL = Kernel(
    auxiliary=True,
    summary="Writes out the matrix that a view sees, so that a plain GEMM can read it.",
    reads=("x",),
    stores=("y",),
    problem={"rows": "of the matrix", "cols": "of the matrix", "batch": "matrices", "x": "View rows x cols"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.batch * p.rows * p.cols, target),
    global_size=lambda p, t: row_items(p.batch * p.rows * p.cols, run(p), t) if t.GROUP == 1 else walk_items(p.batch * p.rows * p.cols, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
length = run(p)
runs, per_item = p.batch * p.rows * p.cols // length, max(t.CHUNK // length, 1)
%>
${signature}
{
% if t.GROUP == 1 and length > 1:
    const int first = (int)get_global_id(0) * ${per_item}, last = first + ${per_item} < ${runs} ? first + ${per_item} : ${runs};
    for (int i = first; i < last; ++i) {
        const int col = i % ${p.cols // length} * ${length}, row = i / ${p.cols // length} % ${p.rows}, g = i / ${p.cols // length * p.rows};
        ${p.x.row("row", "r")}
        ${p.x.col("col", "c")}
        ${p.x.locate("r", "c", "at", "g")}
        for (int j = 0; j < ${length}; ++j) ${store("y", f"(index_t)i * {length} + j", f"x[at + j * {p.x.cols[-1].stride}]")}
    }
% else:
<%loops:each n="${p.batch * p.rows * p.cols}" index="i" t="${t}">
        const int col = i % ${p.cols}, row = i / ${p.cols} % ${p.rows}, g = i / ${p.cols} / ${p.rows};
        ${p.x.row("row", "r")}
        ${p.x.col("col", "c")}
        ${p.x.locate("r", "c", "at", "g")}
        ${store("y", "i", p.x.load("x", "at"))}
</%loops:each>
% endif
}
