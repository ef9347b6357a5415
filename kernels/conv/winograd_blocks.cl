<%!
from types import SimpleNamespace

from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.image_tiles import WHOLE, tiles
from clnn.codegen.linear import sandwich

#: channels that are transformed together
LANES = 16
#: shares of the second cache, which PoCL tells as local memory: what leaves room for filters and pixels, and the most that is not slower
NEAR, MOST = 0.6, 0.75

def elements(p):
    return len(p.images) ** 2

def local_bytes(p, t):
    return 4 * elements(p) * t.TILES * (p.ins + p.panel)

def registers(p, t, target):
    """Accumulators, a row of filters and an element of a tile: 32 registers of 16 floats, or 16 of 8."""
    lanes = max(min(target.vector_width, 16), 8)
    vectors = p.panel // lanes
    return (t.MR + 1) * vectors + 1 <= 2 * lanes

def choose(p, target):
    rows = 6 if target.vector_width < 16 else 8 if p.panel > 16 else 12
    t = SimpleNamespace(MR=rows, TILES=rows)
    while t.TILES < 96:
        more = SimpleNamespace(MR=rows, TILES=t.TILES + rows)
        if local_bytes(p, more) > NEAR * target.local_memory or -(-tiles(p) // more.TILES) < 8 * target.compute_units:
            break
        t = more
    return vars(t)

KERNEL = Kernel(
    summary="A whole Winograd convolution on CPUs: each item transforms some tiles, multiplies them by the filters, and transforms the "
            "results back, all in the second cache.",
    reads=("x", "u"),
    stores=("y",),
    problem={**WHOLE,
             "block": "products that are summed up before they are added to the others",
             "panel": "channels of a panel of filters, which lie as (panel, element of a tile, channel that is read, its channels)"},
    tunables=(Tunable("MR", (4, 6, 8, 12), 6, 4, "tiles of a register block"),
              Tunable("TILES", (6, 8, 12, 16, 24, 32, 36, 48, 64, 72, 96), 24, 8, "tiles of an item")),
    constraints=(Constraint(lambda p, t, target: t.TILES % t.MR == 0, "TILES must be a multiple of the tiles of a register block"),
                 Constraint(lambda p, t, target: local_bytes(p, t) <= MOST * target.local_memory,
                            "the tiles must leave the second cache room for filters and pixels"),
                 Constraint(registers, "the register block must fit into the vector registers")),
    choose=choose,
    global_size=lambda p, t: (-(-tiles(p) // t.TILES),),
    local_size=lambda p, t: (1,),
    local_bytes=local_bytes,
)
%>
<%namespace name="vectors" file="/lib/vectors.mako"/>
<%namespace name="winograd" file="/lib/winograd.mako"/>
<%
# Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: Y = Aᵀ [U ⊙ (Bᵀ d B)] A, summed over channels.
size, made, hop = len(p.images[0]), len(p.images), len(p.back)
vectors_of = range(p.panel // LANES)
every, step = made * made, min(p.block, p.ins)
%>
${vectors.multiply_add(LANES)}
${signature}
{
    typedef float16 loose_t __attribute__((aligned(4)));
    __local float V[${every * t.TILES * p.ins}] __attribute__((aligned(64)));        // [element][tile][channel]
    __local float M[${every * t.TILES * p.panel}] __attribute__((aligned(64)));      // [element][tile][channel of the panel]
    float part[${made * made * LANES}] __attribute__((aligned(64)));                 // [element][lane]
    const int first = get_global_id(0) * ${t.TILES};
    const int count = ${tiles(p)} - first < ${t.TILES} ? ${tiles(p)} - first : ${t.TILES};
    for (int c = 0; c < ${p.ins}; c += ${LANES})
% if tiles(p) % t.TILES:
        for (int block = 0; block < (count + ${t.MR - 1}) / ${t.MR} * ${t.MR}; ++block) {       // what fills up a register block repeats the last tile
            const int tile = first + (block < count ? block : count - 1);
% else:
        for (int block = 0; block < ${t.TILES}; ++block) {
            const int tile = first + block;
% endif
            ${winograd.collect(p.pixels, p.x_strides, p.origin, hop, p.rows, p.cols, size, "tile", "c", LANES, beside=p.beside)}
            ${sandwich(p.images, "d", "v", "float16")}
% for i in range(made):
% for j in range(made):
            *(__local float16*)(V + (${(i * made + j) * t.TILES} + block) * ${p.ins} + c) = v${i}_${j};
% endfor
% endfor
        }
    for (int k = 0; k < ${p.outs}; k += ${p.panel}) {
        for (int e = 0; e < ${every}; ++e)
            for (int block = 0; block < count; block += ${t.MR})
                for (int c0 = 0; c0 < ${p.ins}; c0 += ${step}) {
                    __local const float* a = V + (e * ${t.TILES} + block) * ${p.ins} + c0;
                    __global const float* b = u + ((index_t)k * ${every} + e * ${p.panel}) * ${p.ins} + c0 * ${p.panel};
                    __local float* to = M + (e * ${t.TILES} + block) * ${p.panel};
% for r in range(t.MR):
                    float16 ${", ".join(f"s{r}_{v} = (float16)(0.0f)" for v in vectors_of)};
% endfor
% if p.ins % step:
                    const int c1 = ${p.ins} - c0 < ${step} ? ${p.ins} - c0 : ${step};
% else:
                    const int c1 = ${step};
% endif
                    #pragma unroll 4
                    for (int c = 0; c < c1; ++c) {
                        const float16 ${", ".join(f"b{v} = *(__global const loose_t*)(b + {LANES * v})" for v in vectors_of)};
% for r in range(t.MR):
                        { const float e${r} = a[${r * p.ins}]; ${" ".join(f"s{r}_{v} = clnn_multiply_add16(e{r}, b{v}, s{r}_{v});" for v in vectors_of)} }
% endfor
                        ++a;
                        b += ${p.panel};
                    }
% if p.ins > step:
                    if (c0 > 0) {
% for r in range(t.MR):
                        ${" ".join(f"s{r}_{v} += *(__local const float16*)(to + {r * p.panel + LANES * v});" for v in vectors_of)}
% endfor
                    }
% endif
% for r in range(t.MR):
                    ${" ".join(f"*(__local float16*)(to + {r * p.panel + LANES * v}) = s{r}_{v};" for v in vectors_of)}
% endfor
                }
        for (int block = 0; block < count; ++block) {
            const int tile = first + block;
            for (int v = 0; v < ${p.panel}; v += ${LANES}) {
                __local const float* from = M + block * ${p.panel} + v;
% for i in range(made):
% for j in range(made):
                const float16 m${i}_${j} = *(__local const float16*)(from + ${(i * made + j) * t.TILES * p.panel});
% endfor
% endfor
                ${sandwich(p.back, "m", "y", "float16")}
                ${winograd.keep("y", hop, LANES)}
                ${winograd.spread(store, p.results, p.y_strides, hop, p.rows, p.cols, "tile", "k + v", LANES, LANES, p.beside)}
            }
        }
    }
}
