<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group

KERNEL = Kernel(
    summary="The gradient of average pooling: each pixel gathers its share of the windows that cover it.",
    reads=("dy",),
    stores=("dx",),
    problem={"N": "elements of the image", "M": "elements of dy", "x": "axes n c h w of the image", "y": "axes n c p q of dy",
             "rows": "windows along H", "cols": "windows along W",
             "divisor": "what sums were divided by: a number, 'window' (with its padding) or 'pixels' (without)"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target, 8),
    global_size=lambda p, t: row_items(p.N, p.x[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="rows" file="/lib/rows.mako"/>
<%
from clnn.codegen.windows import offset
# What is the same for all windows is divided by once, at the end; the rest where a window's height or width is known.
constant, row_share, col_share = 1, "", ""
if isinstance(p.divisor, str):
    high, wide = p.rows.length("h", p.divisor == "window"), p.cols.length("w", p.divisor == "window")
    if high.isdigit(): constant *= int(high)
    else: row_share = f" / (float){high}"
    if wide.isdigit(): constant *= int(wide)
    else: col_share = f" / (float){wide}"
else:
    constant = p.divisor
%>
${signature}
{
<%rows:each n="${p.N}" axes="${p.x}" t="${t}">
        ${p.rows.covering("h", "p")}
        ${p.cols.covering("w", "q")}
        float sum = 0.0f;
        for (int p = p_first; p <= p_last; ++p) {
            ${p.rows.bounds("p", "h") if row_share else ""}
            float line = 0.0f;
            for (int q = q_first; q <= q_last; ++q) {
                ${p.cols.bounds("q", "w") if col_share else ""}
                line += dy[${offset(p.y, {})}]${col_share};
            }
            sum += line${row_share};
        }
        ${store("dx", "i", f"sum * {1 / constant!r}f" if constant != 1 else "sum")}
</%rows:each>
}
