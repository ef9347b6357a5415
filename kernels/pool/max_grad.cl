<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group

KERNEL = Kernel(
    summary="The gradient of max pooling: each pixel gathers from the windows that found their maximum in it.",
    reads=("dy", "index"),
    stores=("dx",),
    problem={"N": "elements of the image", "M": "elements of dy", "x": "axes n c h w of the image", "y": "axes n c p q of dy",
             "rows": "windows along H", "cols": "windows along W"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target, 2 * p.rows.covers * p.cols.covers),
    global_size=lambda p, t: row_items(p.N, p.x[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="rows" file="/lib/rows.mako"/>
<%
from clnn.codegen.windows import offset
row_text, row_conditions, r = p.rows.tap_of("j", "h", "p", "r")
col_text, col_conditions, s = p.cols.tap_of("k", "w", "q", "s")
hit = " & ".join(f"({text})" for text in (*row_conditions, *col_conditions, f"place == {r} * {p.cols.size} + {s}"))
unroll = "#pragma unroll" if p.rows.covers * p.cols.covers <= 25 else ""
%>
${signature}
{
<%rows:each n="${p.N}" axes="${p.x}" t="${t}">
        float sum = 0.0f;
        // At most ${p.rows.covers} x ${p.cols.covers} windows cover the pixel; j and k count back from the last of them.
        ${unroll}
        for (int j = 0; j < ${p.rows.covers}; ++j) {
            ${row_text}
            ${unroll}
            for (int k = 0; k < ${p.cols.covers}; ++k) {
                ${col_text}
                // p and q stay inside dy, so the loads need no branch, and & instead of && keeps it so.
                const index_t at = ${offset(p.y, {})};
                const float given = dy[at];
                const int place = index[at];
                sum += (${hit}) ? given : 0.0f;
            }
        }
        ${store("dx", "i", "sum")}
</%rows:each>
}
