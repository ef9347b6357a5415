<%!
from types import SimpleNamespace

from clnn.codegen.convolution import LONGEST, SIDES
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.planes import Axis

def axes(p):
    """(vertical, horizontal)"""
    return tuple(Axis(p.pixels[i], p.results[i], p.window[i], p.stride[i], p.padding[i], p.dilation[i], p.backwards) for i in (0, 1))

def bands(p, t):
    return -(-axes(p)[0].steps // t.ROWS)

def units(p, t):
    """Bands of rows of all images and groups."""
    return p.N * p.groups * bands(p, t)

def sizes(p, t):
    """Floats of (the planes of one channel, one plane of results)."""
    down, across = axes(p)
    pitch = across.steps + across.reach
    vectors = -(-((t.ROWS - 1) * pitch + across.steps) // 16)
    plane = (t.ROWS + down.reach) * pitch
    return len(down.planes) * len(across.planes) * plane, 16 * vectors

def pixel_floats(p, t):
    """The planes, with what vectors of a last block may read behind them."""
    return -(-(min(t.CHANNELS, p.ins) * sizes(p, t)[0] + 16 * t.VECTORS) // 16) * 16

def filter_floats(p, t):
    return -(-t.FILTERS * p.window[0] * p.window[1] // 16) * 16 if copied(p) else 0

def sum_floats(p, t):
    """Results are kept until the last channels are in."""
    down, across = axes(p)
    kept = t.FILTERS if t.CHANNELS >= p.ins else -(-p.outs // t.FILTERS) * t.FILTERS
    return kept * min(down.out_step, down.results) * min(across.out_step, across.results) * sizes(p, t)[1]

def row_floats(p):
    """A row of results in order, where those of two remainders take turns."""
    _, across = axes(p)
    return 32 * -(-across.steps // 16) if pairs(p) else 0

def pairs(p):
    return axes(p)[1].out_step == 2 and p.results[1] > 1

def local_bytes(p, t):
    return 4 * (pixel_floats(p, t) + filter_floats(p, t) + sum_floats(p, t) + row_floats(p))

def copied(p):
    """Whether filters are copied to where the sums are stored, too. Of a single channel the compiler would otherwise load all
    elements before the loop over pixels, and spill them."""
    return p.ins == 1 and p.window[0] * p.window[1] > 12

def block(p, t, target):
    """Filters and vectors of a register block: up to 24 accumulators that waste few lanes."""
    wide = target.vector_width >= 16
    most = 12 if wide else 6            # more spill, although there are 32 registers of 16 (or two halves in 16 of 8)
    total = sizes(p, t)[1] // 16
    best = None
    for filters in (1, 2, 3, 4, 6, 8):
        for vectors in (1, 2, 3, 4, 6, 8):
            if filters * vectors > most or filters > p.outs or vectors > total:
                continue
            lanes = -(-p.outs // filters) * filters * -(-total // vectors) * vectors
            # an unaligned load costs about as much as two multiply-adds; few chains leave the pipelines empty
            cost = lanes * (1 + 0.6 / filters + 0.6 / vectors + 2.0 / (filters * vectors))
            if best is None or cost < best[0]:
                best = cost, filters, vectors
    return {"FILTERS": best[1], "VECTORS": best[2]}

def choose(p, target):
    down, _ = axes(p)
    at_once = max(LONGEST // (p.window[0] * p.window[1]), 1)
    t = SimpleNamespace(ROWS=down.steps, CHANNELS=-(-p.ins // -(-p.ins // at_once)), FILTERS=min(p.outs, 4), VECTORS=4, CHUNK=1)
    least = max(4, 2 * down.reach)
    room = min(target.local_memory, NEAR if p.ins == p.outs == 1 else FAR)
    while t.ROWS > least and (local_bytes(p, t) > room or units(p, t) < 4 * target.compute_units):
        t.ROWS = -(-t.ROWS // 2)
    while t.CHANNELS > 8 and local_bytes(p, t) > room:
        t.CHANNELS = -(-t.CHANNELS // 2)
    while t.ROWS > 1 and local_bytes(p, t) > target.local_memory:
        t.ROWS = -(-t.ROWS // 2)
    t.ROWS = -(-down.steps // bands(p, t))
    return {**vars(t), **block(p, t, target), "CHUNK": max(1, -(-units(p, t) // (8 * target.compute_units)))}

#: bytes that stay in the first level of cache, and in the second
NEAR, FAR = 32 << 10, 256 << 10

KERNEL = Kernel(
    summary="Convolution of few channels, or its gradient in the image, on CPUs: runs of results by taps over padded planes of pixels.",
    reads=("x", "f"),
    stores=("y",),
    problem=SIDES,
    tunables=(Tunable("ROWS", (1, 2, 4, 7, 8, 14, 16, 28, 32, 56), 8, 2, "steps of rows that are made together"),
              Tunable("CHANNELS", (1, 2, 4, 8, 16, 32, 64), 8, 2, "channels whose planes are in local memory together"),
              Tunable("FILTERS", (1, 2, 3, 4, 6, 8), 4, 3, "result channels of a register block"),
              Tunable("VECTORS", (1, 2, 3, 4, 6, 8), 4, 2, "vectors of 16 results of a register block"),
              Tunable("CHUNK", (1, 2, 4, 8, 16, 32, 64, 256), 1, 3, "bands that one item makes")),
    constraints=(Constraint(lambda p, t, target: t.FILTERS * t.VECTORS <= (24 if target.vector_width >= 16 else 12),
                            "the register block must fit into the vector registers"),),
    choose=choose,
    global_size=lambda p, t: (-(-units(p, t) // t.CHUNK),),
    local_size=lambda p, t: (1,),
    local_bytes=local_bytes,
)
%>
<%namespace name="planes" file="/lib/planes.mako"/>
<%
down, across = axes(p)
image, run = sizes(p, t)
width = len(across.planes)
pitch = across.steps + across.reach
plane = image // (len(down.planes) * width)
taps = p.window[0] * p.window[1]
staged = min(t.CHANNELS, p.ins)
parts = staged < p.ins
most_rows, most_cols = min(down.out_step, p.results[0]), min(across.out_step, p.results[1])
made = most_rows * most_cols
whole, rest = divmod(run // 16, t.VECTORS)
# where the weights of a group, of a result channel and of an input channel lie
of_group = p.ins * p.outs * taps
of_out, of_in = (taps, p.outs * taps) if p.backwards else (p.ins * taps, taps)
filters_at = pixel_floats(p, t)
sums_at = filters_at + filter_floats(p, t)
row_at = sums_at + sum_floats(p, t)        # also what vectors read behind the last sum

def rows_of(a):
    """The filter's rows that results of remainder ``a`` meet: (row, offset of their pixels)."""
    return [(u.tap, down.planes.index(u.plane) * width * plane + (u.shift - down.low) * pitch) for u in down.uses if u.result == a]

def cols_of(a):
    return [(u.tap, across.planes.index(u.plane) * plane + u.shift - across.low) for u in across.uses if u.result == a]
%>
${planes.functions()}
${signature}
{
    typedef float4 loose4 __attribute__((aligned(4)));
    typedef float8 loose8 __attribute__((aligned(4)));
    typedef float16 loose16 __attribute__((aligned(4)));
    // planes of pixels, then filters, then sums: [channel][remainder of row, of column][run], then a row of results
    __local float X[${local_bytes(p, t) // 4}] __attribute__((aligned(64)));
    for (int i = 0; i < ${pixel_floats(p, t)}; ++i) X[i] = 0.0f;      // margins stay so
    const int first = get_global_id(0) * ${t.CHUNK};
    const int last = first + ${t.CHUNK} < ${units(p, t)} ? first + ${t.CHUNK} : ${units(p, t)};
    for (int unit = first; unit < last; ++unit) {
        const int step = unit % ${bands(p, t)} * ${t.ROWS}, outer = unit / ${bands(p, t)};       // outer counts groups of images
        __global const float* filters = f + (index_t)(outer % ${p.groups}) * ${of_group};
% if parts:
        for (int c0 = 0; c0 < ${p.ins}; c0 += ${staged}) {
        const int channels = ${p.ins} - c0 < ${staged} ? ${p.ins} - c0 : ${staged};
% else:
        const int c0 = 0, channels = ${p.ins};
% endif
        for (int c = 0; c < channels; ++c) {
            __global const float* from_image = x + ((index_t)outer * ${p.ins} + c0 + c) * ${p.pixels[0] * p.pixels[1]};
            __local float* to_planes = X + c * ${image};
            for (int row = 0; row < ${t.ROWS + down.reach}; ++row) {
                ${planes.row(down, across, "to_planes", "from_image", "row", "step", plane, pitch)}
            }
        }
        for (int k0 = 0; k0 < ${p.outs}; k0 += ${t.FILTERS}) {
% for k in range(t.FILTERS):
            __global const float* f${k} = filters + (index_t)(${f"k0 + {k} < {p.outs} ? k0 + {k} : {p.outs - 1}" if p.outs % t.FILTERS else f"k0 + {k}"}) * ${of_out} + c0 * ${of_in};
% endfor
            __local float* const made = X + ${sums_at}${f" + k0 * {made * run}" if parts else ""};
% if copied(p):
% for k in range(t.FILTERS):
            for (int i = 0; i < ${taps}; ++i) X[${filters_at + k * taps} + i] = f${k}[i];
% endfor
% endif
% for a in range(most_rows):
% for b in range(most_cols):
            {
                __local float* const Y = made + ${(a * most_cols + b) * run};
% if whole:
                for (int v = 0; v < ${whole * t.VECTORS * 16}; v += ${t.VECTORS * 16}) { ${block_of(a, b, t.VECTORS)} }
% endif
% if rest:
                { const int v = ${whole * t.VECTORS * 16}; ${block_of(a, b, rest)} }
% endif
            }
% endfor
% endfor
% if not parts:
            ${finish()}
% endif
        }
% if parts:
        }
        for (int k0 = 0; k0 < ${p.outs}; k0 += ${t.FILTERS}) {
            __local float* const made = X + ${sums_at} + k0 * ${made * run};
            ${finish()}
        }
% endif
    }
}

## Makes a register block of results of one remainder, or adds to them what further channels give.
<%def name="block_of(a, b, vectors)">
<% rows, cols = rows_of(a), cols_of(b) %>
                    float16 ${", ".join(f"a{k}_{v} = (float16)(0.0f)" for k in range(t.FILTERS) for v in range(vectors))};
% if rows and cols:
                    for (int c = 0; c < channels; ++c) {
                        __local const float* at = X + c * ${image} + v;
% if taps <= UNROLLED:
% for r, down_by in rows:
% for s, across_by in cols:
                        ${tap(f"c * {of_in} + {r * p.window[1] + s}", f"at + {down_by + across_by}", vectors)}
% endfor
% endfor
% else:
                        const int of_rows[] = {${", ".join(str(r * p.window[1]) for r, _ in rows)}}, down_by[] = {${", ".join(str(d) for _, d in rows)}};
                        for (int r = 0; r < ${len(rows)}; ++r) {
% for s, across_by in cols:
                            ${tap(f"c * {of_in} + of_rows[r] + {s}", f"at + down_by[r] + {across_by}", vectors)}
% endfor
                        }
% endif
                    }
% endif
% for k in range(t.FILTERS):
% for v in range(vectors):
<% to = f"*(__local float16*)(Y + {k * made * run + 16 * v} + v)" %>
                    ${to} = ${f"c0 > 0 ? {to} + a{k}_{v} : a{k}_{v}" if parts else f"a{k}_{v}"};
% endfor
% endfor
</%def>
<%!
UNROLLED = 49       # most taps that are spelled out; of larger filters, the rows are a loop
%>
<%def name="tap(weight, at, vectors)">
                        {
                            const float16 ${", ".join(f"x{v} = *(__local const loose16*)({at} + {16 * v})" for v in range(vectors))};
% for k in range(t.FILTERS):
                            { const float w = ${f"X[{filters_at + k * taps} + {weight}]" if copied(p) else f"f{k}[{weight}]"}; ${" ".join(f"a{k}_{v} = clnn_plane_multiply_add(w, x{v}, a{k}_{v});" for v in range(vectors))} }
% endfor
                        }
</%def>

## Stores the finished results of a block of channels.
<%def name="finish()">
            for (int k = 0; k < ${t.FILTERS}${f" && k0 + k < {p.outs}" if p.outs % t.FILTERS else ""}; ++k)
                for (int i = 0; i < ${t.ROWS}${f" && step + i < {down.steps}" if down.steps % t.ROWS else ""}; ++i) {
% for a in range(most_rows):
                    ${"if" if down.made(a) < down.steps else ""} ${f"(step + i < {down.made(a)})" if down.made(a) < down.steps else ""} {
                        const index_t start = (((index_t)outer * ${p.outs} + k0 + k) * ${p.results[0]} + (step + i) * ${down.out_step} + ${a}) * ${p.results[1]};
                        __local const float* line = made + (k * ${made} + ${a * most_cols}) * ${run} + i * ${pitch};
% if pairs(p):
                        for (int j = 0; j < ${across.steps}; j += 16) {
                            const float16 even = *(__local const loose16*)(line + j), odd = *(__local const loose16*)(line + ${run} + j);
                            *(__local float16*)(X + ${row_at} + 2 * j) = clnn_plane_first_pairs(even, odd);
                            *(__local float16*)(X + ${row_at} + 2 * j + 16) = clnn_plane_last_pairs(even, odd);
                        }
                        for (int j = 0; j < ${p.results[1]}; ++j) ${store("y", "start + j", f"X[{row_at} + j]", row="start")}
% else:
% for b in range(most_cols):
                        for (int j = 0; j < ${across.made(b)}; ++j) ${store("y", f"start + j * {across.out_step} + {b}", f"line[{b * run} + j]", row="start")}
% endfor
% endif
                    }
% endfor
                }
</%def>
