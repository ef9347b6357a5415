<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.taps import Patch, Taps
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group, walk_items

#: pixels that an item may have in registers
MOST_HELD = 48

def taps(axis, windows):
    """What so many neighbouring windows look at along an axis."""
    return Taps(axis.extent, axis.count, axis.size, axis.stride, axis.pad, axis.dilation, False, windows)

def patch(p, windows):
    """The pixels under them."""
    return Patch(taps(p.rows, 1), taps(p.cols, windows))

def runs(p, t):
    """Runs of ACROSS windows, of which the last in a row may be shorter."""
    return p.N // p.cols.count * taps(p.cols, t.ACROSS).blocks

def may_share(p, windows):
    """Whether an item may compute neighbouring windows from pixels that it reads once."""
    return (p.y[-1].name == "q" and not p.rows.empty and not p.cols.empty
            and p.rows.size * len(taps(p.cols, windows).needed) <= MOST_HELD)

def choose(p, target):
    cost = p.rows.size * p.cols.size
    if target.is_cpu or p.N < 1 << 18 or not may_share(p, 2) or all(chunk.width == 1 for chunk in patch(p, 2).chunks):
        return {"ACROSS": 1, **choose_walk(p.N, target, cost)}
    return {"ACROSS": 2, **choose_walk(p.N // 2, target, cost), "CHUNK": 2 if p.N >= 1 << 20 else 1}

KERNEL = Kernel(
    summary="The maximum of each R x S window of an image, and where in the window it was found first.",
    reads=("x",),
    stores=("y", "index"),
    problem={"N": "elements of the result", "M": "elements of the image", "y": "axes n c p q of the result",
             "x": "axes n c h w of the image", "rows": "windows along H", "cols": "windows along W"},
    tunables=(*WALK, Tunable("ACROSS", (1, 2, 4), 1, 2, "neighbours along W that an item computes together")),
    constraints=(
        Constraint(lambda p, t, target: t.ACROSS == 1 or t.GROUP > 1, "neighbours are for GPUs, as CPUs take whole rows"),
        Constraint(lambda p, t, target: t.ACROSS == 1 or may_share(p, t.ACROSS),
                   "neighbours must lie along W, none of them empty, over few enough pixels"),
    ),
    choose=choose,
    global_size=lambda p, t: walk_items(runs(p, t), t) if t.ACROSS > 1 else row_items(p.N, p.y[-1].extent, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
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

def neighbours():
    """Statements for ACROSS windows, from column j * ACROSS on, of row i in plane nc: each pixel is read once."""
    pixels = patch(p, t.ACROSS)
    down, across = pixels.down, pixels.across
    H, W, Q = p.rows.extent, p.cols.extent, p.cols.count

    def largest(name, values):
        """Statement that leaves the largest value in ``name``, and a NaN if there is one."""
        return f"float {name} = {values[0]}; " + " ".join(f"{name} = {v} > {name} || {v} != {v} ? {v} : {name};" for v in values[1:])

    lines = [f"__global const float* here = x + ((index_t)nc * {H * W} + (index_t)i * {down.advance * W} + j * {across.advance});"]
    lines += pixels.checks() + pixels.loads("v", "here", "float", "-INFINITY")
    lines += [largest(f"column{w + W}", [pixels.pixel("v", r, w) for r in range(R)]) for w in across.needed]
    windows = [[w for k, _, w in across.uses if k == j] for j in range(across.block)]
    lines += [largest(f"best{j}", [f"column{w + W}" for w in window]) for j, window in enumerate(windows)]
    if has("index"):
        # the taps before the first, on the image, that holds the maximum or is a NaN
        for j, window in enumerate(windows):
            lines.append(f"int before{j} = 0, searching{j} = 1;")
            for r in range(R):
                for w in window:
                    v, guard = pixels.pixel("v", r, w), pixels.inside(r, w)
                    lines.append(f"searching{j} &= {f'!({guard}) | ' if guard else ''}(({v} != best{j}) & ({v} == {v})); "
                                 f"before{j} += searching{j};")
    lines.append(f"const index_t to = ((index_t)nc * {p.rows.count} + i) * {Q} + j * {across.block};")
    for name, result in (("index", "before"), ("y", "best")):
        if has(name) and not across.ragged:
            lines.append(store_vector(name, "to", [f"{result}{j}" for j in range(across.block)]))
        elif has(name):
            for j in range(across.block):
                lines.append(f"if (j * {across.block} + {j} < {Q}) " + store(name, f"to + {j}", f"{result}{j}"))
    return "\n        ".join(lines)
%>
${signature}
{
% if t.ACROSS > 1:
<% blocks = taps(p.cols, t.ACROSS).blocks %>
<%loops:each n="${runs(p, t)}" index="run" t="${t}">
        const int j = run % ${blocks}, i = run / ${blocks} % ${p.rows.count};
        const index_t nc = run / ${blocks * p.rows.count};
        ${neighbours()}
</%loops:each>
% else:
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
% endif
}
