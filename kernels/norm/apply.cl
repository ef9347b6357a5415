<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def row_length(p):
    return p.inner if p.inner > 1 else p.C

def rows_per_item(p, t):
    return max(1, t.CHUNK // row_length(p))

def items(p, t):
    n = p.outer * p.C * p.inner
    return walk_items(n, t) if t.GROUP > 1 else (-(-(n // row_length(p)) // rows_per_item(p, t)),)

KERNEL = Kernel(
    summary="y = (x - center) slope + offset with one center, slope and offset per channel; plus dy scale where dy is given.",
    reads=("x", "center", "slope", "offset", "dy", "scale"),
    stores=("y",),
    problem={"C": "channels", "outer": "extent of the axes before the channel", "inner": "extent of the axes behind it"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.outer * p.C * p.inner, target),
    global_size=items,
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
length, rows = row_length(p), rows_per_item(p, t)
count = p.outer * p.C * p.inner // length
value = "(x[i] - m) * k + b" + (" + dy[i] * s" if has("dy") else "")
%>
<%def name="channel(c)">const float m = center[${c}], k = slope[${c}], b = offset[${c}]${f", s = scale[{c}]" if has("scale") else ""};</%def>
${signature}
{
% if t.GROUP > 1:
    // The end of x has been read last, and is still in a cache, when this kernel begins.
<%loops:each n="${p.outer * p.C * p.inner}" index="i" t="${t}" backwards="${True}">
        const int c = ${"i" if p.inner == 1 else f"(i / {p.inner})"} % ${p.C};
        ${channel("c")}
        ${store("y", "i", value)}
</%loops:each>
% else:
    // An item takes whole rows: planes of one channel, or all channels of one pixel. The last come first, as above.
    const int first = (${items(p, t)[0] - 1} - (int)get_global_id(0)) * ${rows}, last = first + ${rows} < ${count} ? first + ${rows} : ${count};
    for (int row = first; row < last; ++row) {
        const index_t start = (index_t)row * ${length};
% if p.inner > 1:
        ${channel(f"row % {p.C}")}
% endif
        for (int j = 0; j < ${length}; ++j) {
            const index_t i = start + j;
% if p.inner == 1:
            ${channel("j")}
% endif
            ${store("y", "i", value)}
        }
    }
% endif
}
