<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    auxiliary=True,
    summary="Writes out the matrix that a view sees, so that a plain GEMM can read it.",
    reads=("x",),
    stores=("y",),
    problem={"rows": "of the matrix", "cols": "of the matrix", "batch": "matrices", "x": "View rows x cols"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.batch * p.rows * p.cols, target),
    global_size=lambda p, t: walk_items(p.batch * p.rows * p.cols, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
${signature}
{
<%loops:each n="${p.batch * p.rows * p.cols}" index="i" t="${t}">
        const int col = i % ${p.cols}, row = i / ${p.cols} % ${p.rows}, g = i / ${p.cols} / ${p.rows};
        ${p.x.row("row", "r")}
        ${p.x.col("col", "c")}
        ${p.x.locate("r", "c", "at", "g")}
        ${store("y", "i", p.x.load("x", "at"))}
</%loops:each>
}
