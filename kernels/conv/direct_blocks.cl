<%!
from types import SimpleNamespace

from clnn.codegen.channels import component
from clnn.codegen.convolution import SIDES
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.register_blocks import fits, turns

def reach(p, axis):
    """Pixels from the first to the last that one result reads."""
    return (p.window[axis] - 1) * p.dilation[axis] + 1

def spanned(p, axis, results):
    """Pixels that so many neighbouring results read."""
    return (results - 1) * p.stride[axis] + reach(p, axis)

def line(p):
    """Pixels of a row with its margins."""
    return max(spanned(p, 1, p.results[1]), p.padding[1] + p.pixels[1])

def copied(p):
    """Whether rows must be copied to get margins of zeros."""
    return max(p.padding) > 0 or any(spanned(p, axis, p.results[axis]) > p.pixels[axis] for axis in (0, 1))

def results(p, t):
    """Results of an item in a channel, in whole register blocks."""
    return -(-t.IMAGES * t.ROWS * p.results[1] // t.PIXELS) * t.PIXELS

def pixel_floats(p, t):
    return t.CHUNK * p.block * t.IMAGES * spanned(p, 0, t.ROWS) * line(p) if copied(p) else 0

def sum_floats(p, t):
    """One register block where all channels are summed at once; else all sums wait for the next channels."""
    return min(t.PANELS, panels(p)) * p.panel * results(p, t) if t.CHUNK * p.block < p.ins else p.panel * t.PIXELS

def local_bytes(p, t):
    return 4 * (pixel_floats(p, t) + sum_floats(p, t))

def panels(p):
    """Panels of a group's filters."""
    return p.outs // p.panel

def parts(p, t):
    """Items that share a band of results."""
    return -(-panels(p) // t.PANELS)

def bands(p, t):
    return -(-p.results[0] // t.ROWS)

def units(p, t):
    return -(-p.N // t.IMAGES) * p.groups * bands(p, t) * parts(p, t)

def choose_chunk(p):
    every = p.window[0] * p.window[1]
    return max(1, min(p.ins, (TOGETHER if every > 1 else TOGETHER_SINGLE) // every) // p.block)

def grown(p, t, target):
    """An item with as many rows, then images, as leave room in the cache, and work for all."""
    def larger():
        if t.ROWS < p.results[0]:
            more = {"ROWS": -(-p.results[0] // (bands(p, t) - 1))}
        elif t.IMAGES < p.N:
            more = {"IMAGES": t.IMAGES + 1}
        else:
            return None
        more = SimpleNamespace(**{**vars(t), **more})
        near = local_bytes(p, more) + (0 if copied(p) else 4 * p.ins * more.IMAGES * spanned(p, 0, more.ROWS) * line(p))
        return more if near <= NEAR * target.local_memory and units(p, more) >= SHARES * target.compute_units else None

    while results(p, t) < ENOUGH and (more := larger()) is not None:
        t = more
    return t

def choose(p, target):
    vectors = p.panel // p.block
    pixels = min((n for n in range(1, 25) if fits(n, vectors, p.block, target)), key=lambda n: turns(n, vectors) / n)
    tried, share = [], panels(p)
    while not tried or results(p, tried[-1]) < ENOUGH // 2 and share > 1:
        share = -(-share // 2) if tried else share
        tried.append(grown(p, SimpleNamespace(PIXELS=pixels, CHUNK=choose_chunk(p), ROWS=1, IMAGES=1, PANELS=share), target))
    return vars(max(tried, key=lambda t: (min(units(p, t), SHARES * target.compute_units), results(p, t))))

#: products that are summed up before they are added to the others, so that the filters of so many stay in the first cache; of single taps
TOGETHER, TOGETHER_SINGLE = 288, 512
#: results after which reading the filters anew no longer counts
ENOUGH = 192
#: share of the second cache, which PoCL tells as local memory, that leaves room for others
NEAR = 0.6
#: items for each compute unit
SHARES = 4

KERNEL = Kernel(
    summary="Convolution on CPUs where channels lie in blocks: vectors of result channels by single elements of pixels.",
    reads=("x", "f"),
    stores=("y",),
    # backwards, the filters lie by the channels that are read, and are turned about
    problem={**SIDES,
             "block": "channels of a block",
             "panel": "result channels of a panel of filters, which lie as (group, panel, channel that is read, tap, the panel's channels)"},
    tunables=(Tunable("ROWS", (1, 2, 3, 4, 6, 7, 8, 14, 16, 28), 2, 3, "rows of results that are made together"),
              Tunable("IMAGES", (1, 2, 3, 4, 8), 1, 2, "images whose results are made together"),
              Tunable("PIXELS", (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 24), 4, 2, "results in a register block"),
              Tunable("PANELS", (1, 2, 4, 8, 16, 32, 64), 8, 1, "panels of filters that an item takes"),
              Tunable("CHUNK", (1, 2, 3, 4, 8, 16, 32, 36, 64, 128), 4, 1, "blocks of channels that are summed up before the next ones are read")),
    constraints=(Constraint(lambda p, t, target: fits(t.PIXELS, p.panel // p.block, p.block, target),
                            "the register block must fit into the vector registers"),),
    choose=choose,
    global_size=lambda p, t: (units(p, t),),
    local_size=lambda p, t: (1,),
    local_bytes=local_bytes,
)
%>
<%namespace name="vectors" file="/lib/vectors.mako"/>
<%
B, kind, lanes = p.block, f"float{p.block}", range(p.block)
wide, high = range(t.PIXELS), range(p.panel // p.block)
read, made = p.ins // B, p.outs // B                # blocks of a group
(height, width), (tall, across) = p.pixels, p.results
(top, left), taps = p.padding, p.window[0] * p.window[1]
chunk, many = min(t.CHUNK, read), t.CHUNK < read
lines, margins = spanned(p, 0, t.ROWS), copied(p)
pitch = line(p) if margins else width
space, plane = ("__local", t.IMAGES * lines * pitch * B) if margins else ("__global", height * width * B)
of_image = lines * pitch * B if margins else p.groups * read * plane
single, shares = t.IMAGES == 1, parts(p, t)
image, row = ("0", f"q / {across}") if single else ("q / every", f"q % every / {across}")

def tap(letter, axis, step):
    """How far a tap is from the first one; backwards, filters are turned about."""
    count = f"({p.window[axis] - 1} - {letter})" if p.backwards else letter
    return f"{count} * {p.dilation[axis] * step * B}"
%>
${vectors.multiply_add(B)}
${signature}
{
    typedef ${kind} loose_t __attribute__((aligned(4)));
% if margins:
    __local float X[${pixel_floats(p, t)}] __attribute__((aligned(64)));      // [block][image][row][pixel][channel]
% endif
    __local float Y[${sum_floats(p, t)}] __attribute__((aligned(64)));      // [panel][result][vector][channel]
    const int unit = get_global_id(0);
    const int band = unit / ${shares} % ${bands(p, t)} * ${t.ROWS}, g = unit / ${shares * bands(p, t)} % ${p.groups}, n = unit / ${shares * bands(p, t) * p.groups} * ${t.IMAGES};
    const int rows = ${f"{tall} - band < {t.ROWS} ? {tall} - band : {t.ROWS}" if tall % t.ROWS else t.ROWS}, every = rows * ${across};
    const int results = ${"every" if single else f"({p.N} - n < {t.IMAGES} ? {p.N} - n : {t.IMAGES}) * every"};
% if shares > 1:
    const int panel0 = unit % ${shares} * ${t.PANELS}, panel1 = panel0 + ${t.PANELS} < ${panels(p)} ? panel0 + ${t.PANELS} : ${panels(p)};
% else:
    const int panel0 = 0, panel1 = ${panels(p)};
% endif
    for (int b0 = 0; b0 < ${read}; b0 += ${chunk}) {
        const int blocks = ${f"{read} - b0 < {chunk} ? {read} - b0 : {chunk}" if read % chunk else chunk};
        __global const float* const from = x + ((index_t)n * ${p.groups * read} + g * ${read} + b0) * ${height * width * B};
% if margins:
        for (int b = 0; b < blocks; ++b)
            for (int i = 0; i < ${1 if single else "results / every"}; ++i)
                for (int row = 0; row < ${lines}; ++row) {
                    const int h = band * ${p.stride[0]} - ${top} + row;
                    __local float* const to = X + ((b * ${t.IMAGES} + i) * ${lines} + row) * ${pitch * B};
                    int at = 0;
                    if ((uint)h < ${height}u) {
                        for (; at < ${left * B}; ++at) to[at] = 0.0f;
                        __global const float* const pixels = from + ((index_t)i * ${p.groups * read * height} + b * ${height} + h) * ${width * B} - ${left * B};
                        for (; at < ${(left + width) * B}; ++at) to[at] = pixels[at];
                    }
                    for (; at < ${pitch * B}; ++at) to[at] = 0.0f;
                }
% endif
        for (int panel = panel0; panel < panel1; ++panel)
            for (int first = 0; first < results; first += ${t.PIXELS}) {
                __local float* const to = Y${f" + ((panel - panel0) * {results(p, t)} + first) * {p.panel}" if many else ""};
% for i in wide:
                ${space} const float* x${i};
                { const int q = first + ${i} < results ? first + ${i} : results - 1;      // what fills up a register block repeats the last result
                  x${i} = ${"X" if margins else "from"} + (index_t)(${image}) * ${of_image} + ((${row if margins else f"(band + {row})"}) * ${p.stride[0] * pitch} + q % ${across} * ${p.stride[1]}) * ${B}; }
% endfor
                __global const float* filters = f + (((index_t)g * ${panels(p)} + panel) * ${read} + b0) * ${taps * B * p.panel};
                ${kind} ${", ".join(f"a{i}_{v} = ({kind})(0.0f)" for i in wide for v in high)};
                for (int b = 0; b < blocks; ++b) {
% if taps == 1:
                    { { const int at = 0;
% else:
                    for (int r = 0; r < ${p.window[0]}; ++r) {
                    #pragma unroll 1
                    for (int s = 0; s < ${p.window[1]}; ++s) {
                        const int at = ${tap("r", 0, pitch)} + ${tap("s", 1, 1)};
% endif
                        #pragma unroll
                        for (int c = 0; c < ${B}; ++c) {
                            const ${kind} ${", ".join(f"f{v} = *(__global const loose_t*)(filters + c * {taps * p.panel} + {v * B})" for v in high)};
% for i in wide:
                            { const float e = x${i}[at + c]; ${" ".join(f"a{i}_{v} = clnn_multiply_add{B}(e, f{v}, a{i}_{v});" for v in high)} }
% endfor
                        }
                        filters += ${p.panel};
                    } }
                    filters += ${(B - 1) * taps * p.panel};
                    ${" ".join(f"x{i} += {plane};" for i in wide)}
                }
% if many:
                if (b0 > 0) { ${" ".join(f"a{i}_{v} += *(__local const {kind}*)(to + {i * p.panel + v * B});" for i in wide for v in high)} }
% endif
                ${" ".join(f"*(__local {kind}*)(to + {i * p.panel + v * B}) = a{i}_{v};" for i in wide for v in high)}
% if many:
                if (b0 + blocks < ${read}) continue;
% endif
                const int stop = ${f"results - first < {t.PIXELS} ? results - first : {t.PIXELS}"};
% for v in high:
                for (int i = 0; i < stop; ++i) {
                    const int q = first + i;
                    const ${kind} sum = *(__local const ${kind}*)(to + i * ${p.panel} + ${v * B});
                    const index_t at = (((index_t)(n + ${image}) * ${p.groups * made} + g * ${made} + panel * ${len(high)} + ${v}) * ${tall * across} + band * ${across} + ${"q" if single else "q % every"}) * ${B};
                    ${store_vector("y", "at", [component("sum", j, B) for j in lanes])}
                }
% endfor
            }
    }
}
