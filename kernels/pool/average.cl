<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group

KERNEL = Kernel(
    summary="The mean of each window of an image; sliding windows and adaptive ones.",
    reads=("x",),
    stores=("y",),
    problem={"N": "elements of the result", "M": "elements of the image", "y": "axes n c p q of the result",
             "x": "axes n c h w of the image", "rows": "windows along H", "cols": "windows along W",
             "divisor": "what sums are divided by: a number, 'window' (with its padding) or 'pixels' (without)"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target, -(-p.M // p.N)),
    global_size=lambda p, t: row_items(p.N, p.y[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="rows" file="/lib/rows.mako"/>
<%
from clnn.codegen.windows import offset
if isinstance(p.divisor, str):
    high, wide = p.rows.length("h", p.divisor == "window"), p.cols.length("w", p.divisor == "window")
    mean = f"sum * {1 / (int(high) * int(wide))!r}f" if high.isdigit() and wide.isdigit() else f"sum / (float)({high} * {wide})"
else:
    mean = f"sum * {1 / p.divisor!r}f"
%>
${signature}
{
<%rows:each n="${p.N}" axes="${p.y}" t="${t}">
        // The part of the window that lies inside the image.
        ${p.rows.bounds("p", "h")}
        ${p.cols.bounds("q", "w")}
        // One sum per row keeps the rounding error of large windows small.
        float sum = 0.0f;
        for (int h = h_first; h < h_end; ++h) {
            float line = 0.0f;
            for (int w = w_first; w < w_end; ++w)
                line += x[${offset(p.x, {})}];
            sum += line;
        }
        ${store("y", "i", mean)}
</%rows:each>
}
