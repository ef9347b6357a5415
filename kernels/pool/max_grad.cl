<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.taps import Patch, Taps
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group, walk_items

#: pixels that an item may compute, and windows that it may have in registers
MOST_PIXELS, MOST_WINDOWS = 16, 24

def taps(axis, per_item):
    """Which windows a block of pixels lies in, along an axis."""
    return Taps(axis.count, axis.extent, axis.size, axis.stride, axis.pad, axis.dilation, True, per_item)

def axes(p, strides):
    """(down, across): a stride of rows by so many strides of pixels."""
    return taps(p.rows, 1), taps(p.cols, strides)

def blocks(p, strides):
    down, across = axes(p, strides)
    return p.N // (p.rows.extent * p.cols.extent) * down.blocks * across.blocks

def may_share(p, strides):
    """Whether an item may compute a block of pixels from windows that it reads once."""
    down, across = axes(p, strides)
    return (p.x[-1].name == "w" and down.block * across.block <= MOST_PIXELS
            and len(down.needed) * len(across.needed) <= MOST_WINDOWS)

def choose(p, target):
    plain = {"STRIDES": 0, **choose_walk(p.N, target, 2 * p.rows.covers * p.cols.covers)}
    if target.is_cpu or p.N < 1 << 20 or not may_share(p, 1):
        return plain
    pair = may_share(p, 2) and not axes(p, 2)[1].ragged
    return plain | {"STRIDES": 2 if pair else 1, "CHUNK": 1}

KERNEL = Kernel(
    summary="The gradient of max pooling: each pixel gathers from the windows that found their maximum in it.",
    reads=("dy", "index"),
    stores=("dx",),
    problem={"N": "elements of the image", "M": "elements of dy", "x": "axes n c h w of the image", "y": "axes n c p q of dy",
             "rows": "windows along H", "cols": "windows along W"},
    tunables=(*WALK, Tunable("STRIDES", (0, 1, 2), 0, 1, "an item computes a stride of rows of so many strides of pixels; 0: one pixel")),
    constraints=(
        Constraint(lambda p, t, target: t.STRIDES == 0 or t.GROUP > 1, "blocks are for GPUs, as CPUs take whole rows"),
        Constraint(lambda p, t, target: t.STRIDES == 0 or may_share(p, t.STRIDES),
                   "the pixels of a block must lie along W, and be few, in few windows"),
    ),
    choose=choose,
    global_size=lambda p, t: walk_items(blocks(p, t.STRIDES), t) if t.STRIDES else row_items(p.N, p.x[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%namespace name="rows" file="/lib/rows.mako"/>
<%
from clnn.codegen.windows import offset
S = p.cols.size
row_text, row_conditions, r = p.rows.tap_of("j", "h", "p", "r")
col_text, col_conditions, s = p.cols.tap_of("k", "w", "q", "s")
hit = " & ".join(f"({text})" for text in (*row_conditions, *col_conditions, f"place == {r} * {p.cols.size} + {s}"))
unroll = "#pragma unroll" if p.rows.covers * p.cols.covers <= 25 else ""

def block():
    """Statements for a stride of rows, from row i * stride on, of STRIDES strides of pixels in plane nc: each window is read once."""
    down, across = axes(p, t.STRIDES)
    windows = Patch(down, across)
    H, W, P, Q = p.rows.extent, p.cols.extent, p.rows.count, p.cols.count
    lines = [f"const index_t from = ((index_t)nc * {P} + i) * {Q} + j * {across.advance};", *windows.checks(),
             *windows.loads("given", "dy + from", "float", "0.0f"),
             *windows.loads("place", "index + from", c_types[dtypes["index"]], "0")]
    lines.append(f"const index_t to = ((index_t)nc * {H} + i * {down.block}) * {W} + j * {across.block};")
    for k in range(down.block):
        for l in range(across.block):
            terms = []
            for n, r, u in down.uses:
                for m, s, v in across.uses:
                    if (n, m) == (k, l):
                        given, place = (windows.pixel(name, down.needed.index(u), v) for name in ("given", "place"))
                        terms.append(f"({place} == {r * S + s} ? {given} : 0.0f)")
            lines.append(f"const float sum{k}_{l} = {' + '.join(terms) or '0.0f'};")
        guard = f"if (i * {down.block} + {k} < {H}) " if down.ragged else ""
        sums = [f"sum{k}_{l}" for l in range(across.block)]
        if across.block in (2, 4, 8, 16) and not across.ragged:
            lines.append(guard + store_vector("dx", f"to + {k * W}", sums))
        else:
            for l, value in enumerate(sums):
                inside = f"if (j * {across.block} + {l} < {W}) " if across.ragged else ""
                lines.append(guard + inside + store("dx", f"to + {k * W + l}", value))
    return "\n        ".join(lines)
%>
${signature}
{
% if t.STRIDES:
<% down, across = axes(p, t.STRIDES) %>
<%loops:each n="${blocks(p, t.STRIDES)}" index="unit" t="${t}">
        const int j = unit % ${across.blocks}, i = unit / ${across.blocks} % ${down.blocks};
        const index_t nc = unit / ${across.blocks * down.blocks};
        ${block()}
</%loops:each>
% else:
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
% endif
}
