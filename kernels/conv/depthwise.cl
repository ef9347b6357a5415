<%!
from clnn.codegen.channels import component
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.store import by_vector
from clnn.codegen.taps import Taps, chunks
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def lanes(p, t):
    """Channels that an item takes together."""
    return p.beside or t.ACROSS

def axes(p, t):
    """(vertical, horizontal) Taps."""
    def of(axis, rows):
        return Taps(p.pixels[axis], p.results[axis], p.window[axis], p.stride[axis], p.padding[axis], p.dilation[axis],
                    p.backwards, rows)
    cols = t.COLS if lanes(p, t) > 1 or p.inner == "columns" and t.GROUP > 1 else 1
    return of(0, t.ROWS), of(1, max(1, cols // p.stride[1]) if p.backwards else cols)

def units(p, t, cpu):
    """Blocks of results; for an item that walks a row of blocks, or all channels of one, the rows or pixels."""
    down, across = axes(p, t)
    if not cpu:
        return p.N * p.C // (p.beside or 1) * down.blocks * across.blocks
    return p.N * down.blocks * (across.blocks if p.inner == "channels" else p.C // (p.beside or 1))

def choose_across(p, target):
    """Channels of a vector: as many as a register holds."""
    if not p.taps_first or p.beside:
        return 1
    return next(v for v in (16, 8, 4, 1) if p.C % v == 0 and v <= max(target.vector_width, 4))

def choose(p, target):
    class One:
        ROWS = 4 if p.stride[0] == 1 else 2
        GROUP = 1 if target.is_cpu else 256
        ACROSS = choose_across(p, target)
        if target.is_cpu or p.inner == "channels":
            COLS = 2 if p.beside or ACROSS > 1 else 1
        else:
            COLS = next(v for v in (4, 2, 1) if p.results[1] % v == 0)
    cost = One.ROWS * p.window[0] * p.window[1] * (1 if not target.is_cpu else p.C if p.inner == "channels" else p.results[1])
    walk = choose_walk(units(p, One, target.is_cpu), target, cost=cost)
    return {"ROWS": One.ROWS, "COLS": One.COLS, "ACROSS": One.ACROSS, **walk, **({} if target.is_cpu else {"CHUNK": 1})}

KERNEL = Kernel(
    summary="Depthwise convolution, or its gradient in the image: each channel has filters of its own, held in registers.",
    reads=("x", "f"),
    stores=("y",),
    problem={"N": "images", "C": "channels of the result", "pixels": "(rows, columns) of what is read",
             "results": "(rows, columns) of the result",
             "window": "(rows, columns) of a filter", "stride": "(vertical, horizontal)", "padding": "(top, left)",
             "dilation": "(vertical, horizontal)", "backwards": "whether this is the gradient",
             "spread": "results that share a channel of the image; backwards they are summed",
             "x_strides": "of (N, C, H, W) in x",
             "strides": "of (N, C, H, W) in the result",
             "taps_first": "whether the filters lie as (taps, C), for CPUs that take channels together, rather than (C, taps)",
             "inner": "what lies side by side: columns or channels",
             "beside": "channels of a block, where planes are made of such (then a channel's stride is that of a block's first), else 0"},
    tunables=(*WALK, Tunable("ROWS", (1, 2, 4, 8), 4, 3, "results, or strides of them, down a column that share what is loaded"),
              Tunable("COLS", (1, 2, 4), 1, 3, "results of a row that share what is loaded: with GROUP > 1 where columns lie side by side, or with ACROSS > 1"),
              Tunable("ACROSS", (1, 4, 8, 16), 1, 1, "channels that an item of a group of one takes together, where they do not lie in blocks")),
    constraints=(Constraint(lambda p, t, target: t.ACROSS == 1 or p.beside == 0 and (t.GROUP == 1 and p.taps_first and p.C % t.ACROSS == 0),
                            "the vector does not fit the channels, their blocks, or their filters"),),
    choose=choose,
    global_size=lambda p, t: walk_items(units(p, t, t.GROUP == 1), t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
down, across = axes(p, t)
taps = p.window[0] * p.window[1]
V, planes = lanes(p, t), p.C // (p.beside or 1)
kind = f"float{V}" if V > 1 else "float"
apart = f" * {p.beside}" if p.beside else ""
xn, xc, xh, xw = p.x_strides
yn, yc, yh, yw = p.strides
walk = t.GROUP == 1
joined = p.backwards and p.spread > 1      # several channels add up to one result
(h_first, h_last), (w_first, w_last) = down.interior, across.interior

def channel(c):
    """C text for the channel of x that belongs to channel c of the result."""
    if p.spread == 1:
        return c
    return f"({c} * {p.spread} + m)" if p.backwards else f"({c} / {p.spread})"

def filters(c):
    """Statements that load the filter of channel c."""
    which = f"({c} * {p.spread} + m)" if joined else c
    if p.taps_first:
        return " ".join(f"const {kind} f{i} = {load('f', f'{i * p.C} + {which}')};" for i in range(taps))
    return " ".join(f"const float f{i} = f[{which} * {taps} + {i}];" for i in range(taps))

def load(pointer, at):
    """C text for what an item takes together from an offset on."""
    return f"{pointer}[{at}]" if V == 1 else f"*(__global const {kind}*)({pointer} + {at})"

def put(at, value):
    """Statement that stores it."""
    return store("y", at, value) if V == 1 else store_vector("y", at, [component(value, v, V) for v in range(V)])

def block(check_h, check_w):
    """Statements that compute and store the results of block (i, j) of channel c in image n: each pixel is loaded once."""
    lines = [f"{kind} a{i}_{j} = 0.0f;" for i in range(down.block) for j in range(across.block)]
    if joined:
        if walk and V == 1:     # one compiler for CPUs crashes on what it makes of guarded stores after an unrolled loop
            lines.append("#pragma nounroll")
        lines.append(f"for (int m = 0; m < {p.spread}; ++m) {{ {filters('c')}")
    elif p.inner == "channels":
        lines.append(filters("c"))
    lines.append(f"const index_t at = (index_t)n * {xn} + (index_t){channel('c')} * {xc} "
                 f"+ (index_t)i * {down.advance * xh} + j * {across.advance * xw};")
    # The load outside the image reads x's first element instead: that needs no branch, so loops around it become vector code.
    for h in down.needed:
        if check_h:
            lines.append(f"const bool h{h + 512} = (uint)(i * {down.advance} + {h}) < {p.pixels[0]}u;")
        for w in across.needed:
            name, where = f"v{h + 512}_{w + 512}", f"at + {h * xh + w * xw}"
            checks = [f"h{h + 512}"] if check_h else []
            checks += [f"(uint)(j * {across.advance} + {w}) < {p.pixels[1]}u"] if check_w else []
            if checks and V > 1:
                lines.append(f"const {kind} {name} = {' && '.join(checks)} ? {load('x', where)} : ({kind})(0.0f);")
            elif checks:
                lines.append(f"const bool {name}_in = {' && '.join(checks)}; const float {name}_x = x[{name}_in ? {where} : 0]; "
                             f"const float {name} = {name}_in ? {name}_x : 0.0f;")
            else:
                lines.append(f"const {kind} {name} = {load('x', where)};")
            lines += [f"a{i}_{j} += {name} * f{r * p.window[1] + s};"
                      for i, r, at in down.uses if at == h for j, s, left in across.uses if left == w]
    if joined:
        lines.append("}")
    lines.append(f"const index_t to = (index_t)n * {yn} + (index_t)c * {yc} "
                 f"+ (index_t)i * {down.block * yh} + j * {across.block * yw};")
    for i in range(down.block):
        for j in range(across.block):
            guards = [f"i * {down.block} + {i} < {p.results[0]}"] if check_h and down.ragged else []
            guards += [f"j * {across.block} + {j} < {p.results[1]}"] if check_w and across.ragged else []
            stored = put(f"to + {i * yh + j * yw}", f"a{i}_{j}")
            lines.append(f"if ({' && '.join(guards)}) {stored}" if guards else stored)
    return "\n            ".join(lines)

def tile():
    """Statements that compute and store block (i, j), of several columns, of channel c in image n: rows are read by vectors."""
    lines = [f"float a{i}_{j} = 0.0f;" for i in range(down.block) for j in range(across.block)]
    parts = chunks(across, (xn, xc, xh))
    if joined:
        lines.append(f"for (int m = 0; m < {p.spread}; ++m) {{ {filters('c')}")
    lines.append(f"__global const float* here = x + ((index_t)n * {xn} + (index_t){channel('c')} * {xc} "
                 f"+ (index_t)i * {down.advance * xh} + j * {across.advance});")
    lines += [f"const bool w{part.first + 512} = (uint)(j * {across.advance} + {part.first}) < {p.pixels[1]}u;" for part in parts]
    for h in down.needed:
        lines.append(f"{{ const bool on = (uint)(i * {down.advance} + {h}) < {p.pixels[0]}u;")
        for part in parts:
            kind = "float" if part.width == 1 else f"float{part.width}"
            lines.append(f"const {kind} v{part.first + 512} = on && w{part.first + 512} ? "
                         f"*(__global const {kind}*)(here + {h * xh + part.first}) : ({kind})(0.0f);")
        for i, r, at in down.uses:
            if at != h:
                continue
            for j, s, left in across.uses:
                part = next(part for part in parts if part.first <= left < part.first + part.width)
                value = f"v{part.first + 512}" + (f".s{left - part.first}" if part.width > 1 else "")
                lines.append(f"a{i}_{j} += {value} * f{r * p.window[1] + s};")
        lines.append("}")
    if joined:
        lines.append("}")
    lines.append(f"const index_t to = (index_t)n * {yn} + (index_t)c * {yc} + (index_t)i * {down.block * yh} + j * {across.block};")
    whole = by_vector(across.block, p.strides) and not across.ragged
    for i in range(down.block):
        if whole:
            text = store_vector("y", f"to + {i * yh}", [f"a{i}_{j}" for j in range(across.block)])
        else:
            text = "\n            ".join((f"if (j * {across.block} + {j} < {p.results[1]}) " if across.ragged else "")
                                         + store("y", f"to + {i * yh + j}", f"a{i}_{j}") for j in range(across.block))
        lines.append(f"if (i * {down.block} + {i} < {p.results[0]}) {{ {text} }}" if down.ragged else text)
    return "\n            ".join(lines)

cut_h, cut_w = (h_first, h_last) != (0, down.blocks), (w_first, w_last) != (0, across.blocks)
%>
${signature}
{
% if not walk:
<%loops:each n="${units(p, t, False)}" index="unit" t="${t}">
% if p.inner == "channels":
        const int c = unit % ${p.C}, pixel = unit / ${p.C}, j = pixel % ${across.blocks};
        const int i = pixel / ${across.blocks} % ${down.blocks}, n = pixel / ${across.blocks * down.blocks};
% else:
        const int j = unit % ${across.blocks}, i = unit / ${across.blocks} % ${down.blocks};
        const int plane = unit / ${across.blocks * down.blocks}, c = plane % ${planes}${apart}, n = plane / ${planes};
        ${"" if joined else filters("c")}
% endif
        ${tile() if across.block > 1 and p.inner == "columns" and V == 1 else block(cut_h, cut_w)}
</%loops:each>
% elif p.inner == "channels":
<%loops:each n="${units(p, t, True)}" index="unit" t="${t}">
        const int j = unit % ${across.blocks}, i = unit / ${across.blocks} % ${down.blocks};
        const int n = unit / ${across.blocks * down.blocks};
% if cut_h or cut_w:
        if (i < ${h_first} || i >= ${h_last} || j < ${w_first} || j >= ${w_last}) {
            for (int c = 0; c < ${p.C}; c += ${V}) {
            ${block(cut_h, cut_w)}
            }
            continue;
        }
% endif
        for (int c = 0; c < ${p.C}; c += ${V}) {
            ${block(False, False)}
        }
</%loops:each>
% else:
<%loops:each n="${units(p, t, True)}" index="unit" t="${t}">
        const int i = unit % ${down.blocks}, plane = unit / ${down.blocks}, c = plane % ${planes}${apart}, n = plane / ${planes};
        ${"" if joined else filters("c")}
% if cut_h:
        if (i < ${h_first} || i >= ${h_last}) {
            for (int j = 0; j < ${across.blocks}; ++j) {
            ${block(True, cut_w)}
            }
            continue;
        }
% endif
        // the ends of a row, where blocks may hang over the edge, and between them a plain loop
        for (int j = ${w_first}; j < ${w_last}; ++j) {
            ${block(False, False)}
        }
% if cut_w:
        for (int k = 0; k < ${across.blocks - (w_last - w_first)}; ++k) {
            const int j = k < ${w_first} ? k : k + ${w_last - w_first};
            ${block(False, True)}
        }
% endif
</%loops:each>
% endif
}
