<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group

KERNEL = Kernel(
    summary="The maximum of each R x S window of an image, and where in the window it was found first.",
    reads=("x",),
    stores=("y", "index"),
    problem={"N": "elements of the result", "M": "elements of the image", "y": "axes n c p q of the result",
             "x": "axes n c h w of the image", "rows": "windows along H", "cols": "windows along W"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target, p.rows.size * p.cols.size),
    global_size=lambda p, t: row_items(p.N, p.y[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="rows" file="/lib/rows.mako"/>
<%
from clnn.codegen.windows import offset
R, S = p.rows.size, p.cols.size
# A tap outside the image repeats the nearest one inside. That changes no maximum, and the loops keep their constant length.
h = "(h_at + rr)" if p.rows.dilation == 1 else f"(h_at + rr * {p.rows.dilation})"
w = "(w_at + ss)" if p.cols.dilation == 1 else f"(w_at + ss * {p.cols.dilation})"
value = f"x[{offset(p.x, {'h': h, 'w': w})}]"
if p.rows.empty or p.cols.empty:
    value = f"((r_first > r_last) | (s_first > s_last)) ? -INFINITY : {value}"
repeats = p.rows.cut or p.cols.cut
unroll = "#pragma unroll" if R * S <= 25 else ""
%>
${signature}
{
<%rows:each n="${p.N}" axes="${p.y}" t="${t}">
        ${p.rows.taps("p", "h", "r")}
        ${p.cols.taps("q", "w", "s")}
        float best = -INFINITY;
        ${unroll}
        for (int r = 0; r < ${R}; ++r) {
            const int rr = ${p.rows.inside("r")};
            ${unroll}
            for (int s = 0; s < ${S}; ++s) {
                const int ss = ${p.cols.inside("s")};
                const float v = ${value};
                best = v > best || v != v ? v : best;       // a NaN stays
            }
        }
% if has("index"):
        // Count the taps before the first that holds the maximum. A select in the loop above would cost CPUs a branch per tap.
        int before = 0, searching = 1;
        ${unroll}
        for (int r = 0; r < ${R}; ++r) {
            const int rr = ${p.rows.inside("r")};
            ${unroll}
            for (int s = 0; s < ${S}; ++s) {
                const int ss = ${p.cols.inside("s")};
                const float v = ${value};
                searching &= (v != best) & (v == v);
                before += searching;
            }
        }
% if repeats:
        const int r = before / ${S}, s = before % ${S};
        ${store("index", "i", f"{p.rows.inside('r')} * {S} + {p.cols.inside('s')}")}
% else:
        ${store("index", "i", "before")}
% endif
% endif
        ${store("y", "i", "best")}
</%rows:each>
}
