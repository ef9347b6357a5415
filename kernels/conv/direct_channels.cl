<%!
from types import SimpleNamespace

from clnn.codegen.channels import component
from clnn.codegen.convolution import LONGEST, SIDES
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.register_blocks import candidates, fits, turns

def blocks(p, t):
    """Register blocks of a row of results."""
    return -(-p.results[1] // t.PIXELS)

def bands(p, t):
    return -(-p.results[0] // t.ROWS)

def units(p, t):
    return p.N * p.groups * bands(p, t)

def rows(p, t):
    """Rows of pixels that a band of results reads."""
    return (t.ROWS - 1) * p.stride[0] + (p.window[0] - 1) * p.dilation[0] + 1

def pitch(p, t):
    """Floats of such a row, with its margins and what a last block reads behind them."""
    pixels = (blocks(p, t) * t.PIXELS - 1) * p.stride[1] + (p.window[1] - 1) * p.dilation[1] + 1
    return p.ins * max(pixels, p.padding[1] + p.pixels[1])

def pixel_floats(p, t):
    return -(-rows(p, t) * pitch(p, t) // 16) * 16

def local_bytes(p, t):
    return 4 * (pixel_floats(p, t) + t.PIXELS * t.VECTORS * t.ACROSS)

def registers(p, t, target):
    return fits(t.PIXELS, t.VECTORS, t.ACROSS, target)

def block(p, target):
    """Lanes, vectors and pixels of a register block: those that take the fewest turns of the multipliers."""
    across = p.beside or next(v for v in (16, 8, 4) if p.outs % v == 0 and v <= max(target.vector_width, 4))

    def cost(block):
        pixels, vectors = block
        return turns(pixels, vectors) * blocks(p, SimpleNamespace(PIXELS=pixels)) * p.outs // vectors

    pixels, vectors = min(candidates(p.outs, across, target), key=cost)
    return {"ACROSS": across, "VECTORS": vectors, "PIXELS": pixels}

def choose(p, target):
    t = SimpleNamespace(**block(p, target), ROWS=min(p.results[0], 8), CHUNK=1)
    while t.ROWS > 1 and (local_bytes(p, t) > min(target.local_memory, NEAR) or units(p, t) < 4 * target.compute_units):
        t.ROWS = -(-t.ROWS // 2)
    return {**vars(t), "CHUNK": max(1, -(-units(p, t) // (8 * target.compute_units)))}

#: bytes that leave room for others in the second level of cache
NEAR = 256 << 10
#: most channels that are spelled out
UNROLLED = 4

KERNEL = Kernel(
    summary="Convolution of few channels on CPUs, channels innermost: vectors of result channels by single elements of zero-padded pixels.",
    reads=("x", "f"),
    stores=("y",),
    # backwards, the filters lie by the channels that are read, and are turned about
    problem={**SIDES, "beside": "result channels of a block, where they lie in such, else 0"},
    tunables=(Tunable("ROWS", (1, 2, 4, 7, 8, 14, 16, 28), 4, 3, "rows of results that are made together"),
              Tunable("PIXELS", (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24), 4, 3, "results of a row in a register block"),
              Tunable("ACROSS", (4, 8, 16), 8, 4, "result channels of a vector"),
              Tunable("VECTORS", (1, 2, 3, 4), 2, 1, "vectors of a register block"),
              Tunable("CHUNK", (1, 2, 4, 8, 16, 32, 64), 1, 3, "bands that one item makes")),
    constraints=(Constraint(lambda p, t, target: p.outs % (t.ACROSS * t.VECTORS) == 0, "the vectors do not fit the channels"),
                 Constraint(lambda p, t, target: p.beside in (0, t.ACROSS), "a vector is a block of result channels"),
                 Constraint(registers, "the register block must fit into the vector registers")),
    choose=choose,
    global_size=lambda p, t: (-(-units(p, t) // t.CHUNK),),
    local_size=lambda p, t: (1,),
    local_bytes=local_bytes,
)
%>
<%namespace name="vectors" file="/lib/vectors.mako"/>
<%
V, kind = t.ACROSS, f"float{t.ACROSS}"
wide, high = range(t.PIXELS), range(t.VECTORS)
line, spread = pitch(p, t), p.groups * p.ins
(down, across), (step_down, step_across) = p.dilation, p.stride
area = p.results[0] * p.results[1]
# elements between the results of neighbouring pixels, and of neighbouring vectors
pixel, vector = (p.beside, area * p.beside) if p.beside else (p.groups * p.outs, V)
made, every = p.groups * p.outs, p.window[0] * p.window[1]
# where the filters of a group, of a channel and of a tap lie
of_group, of_tap = (p.ins * every * p.outs, p.outs) if p.backwards else (p.outs, made)
of_channel = every * of_tap
step = max(LONGEST // every, 1)

def kept(i, v):
    """Statement that adds a sum of some channels to the others."""
    to = f"*(__local {kind}*)(Y + {(i * t.VECTORS + v) * V})"
    return f"{to} = c0 > 0 ? {to} + a{i}_{v} : a{i}_{v};" if step < p.ins else f"{to} = a{i}_{v};"

ragged = p.results[1] % t.PIXELS
%>
${vectors.multiply_add(V)}
${signature}
{
    typedef ${kind} loose_t __attribute__((aligned(4)));
    __local float X[${local_bytes(p, t) // 4}] __attribute__((aligned(64)));      // rows of pixels, then a block of results
    __local float* const Y = X + ${pixel_floats(p, t)};
    for (int i = 0; i < ${pixel_floats(p, t)}; ++i) X[i] = 0.0f;      // margins stay so
    const int first = get_global_id(0) * ${t.CHUNK};
    const int last = first + ${t.CHUNK} < ${units(p, t)} ? first + ${t.CHUNK} : ${units(p, t)};
    for (int unit = first; unit < last; ++unit) {
        const int band = unit % ${bands(p, t)} * ${t.ROWS}, g = unit / ${bands(p, t)} % ${p.groups}, n = unit / ${bands(p, t) * p.groups};
        for (int row = 0; row < ${rows(p, t)}; ++row) {
            const int h = band * ${step_down} - ${p.padding[0]} + row;
            __local float* const to = X + row * ${line} + ${p.padding[1] * p.ins};
            if ((uint)h < ${p.pixels[0]}u) {
                __global const float* const from = x + ((index_t)n * ${p.pixels[0]} + h) * ${p.pixels[1] * spread} + g * ${p.ins};
% if p.groups == 1:
                for (int i = 0; i < ${p.pixels[1] * p.ins}; ++i) to[i] = from[i];
% else:
                for (int w = 0; w < ${p.pixels[1]}; ++w)
                    for (int c = 0; c < ${p.ins}; ++c) to[w * ${p.ins} + c] = from[w * ${spread} + c];
% endif
            } else {
                for (int i = 0; i < ${p.pixels[1] * p.ins}; ++i) to[i] = 0.0f;
            }
        }
        const int stop = ${p.results[0]} - band < ${t.ROWS} ? ${p.results[0]} - band : ${t.ROWS};
        for (int k = 0; k < ${p.outs}; k += ${V * t.VECTORS})
            for (int row = 0; row < stop; ++row)
                for (int col = 0; col < ${p.results[1]}; col += ${t.PIXELS}) {
% if p.beside:
                    const index_t to = (((index_t)n * ${made} + g * ${p.outs} + k) * ${p.results[0]} + (band + row) * ${p.beside}) * ${p.results[1]} + col * ${p.beside};
% else:
                    const index_t to = (((index_t)n * ${p.results[0]} + band + row) * ${p.results[1]} + col) * ${made} + g * ${p.outs} + k;
% endif
% if step < p.ins:
                    for (int c0 = 0; c0 < ${p.ins}; c0 += ${step}) {
                    const int channels = ${p.ins} - c0 < ${step} ? ${p.ins} - c0 : ${step};
% else:
                    const int c0 = 0, channels = ${p.ins};
% endif
                    ${kind} ${", ".join(f"a{i}_{v} = ({kind})(0.0f)" for i in wide for v in high)};
                    for (int r = 0; r < ${p.window[0]}; ++r) {
                        __local const float* at = X + (row * ${step_down} + r * ${down}) * ${line} + col * ${step_across * p.ins} + c0;
                        __global const float* filters = f + g * ${of_group} + c0 * ${of_channel} + ${f"({every - 1} - r * {p.window[1]})" if p.backwards else f"r * {p.window[1]}"} * ${of_tap} + k;
                        // A loop in which no pixel is met twice: compilers would keep it for later, and spill others.
                        #pragma unroll 1
                        for (int s = 0; s < ${p.window[1]}; ++s, at += ${across * p.ins}, filters ${"-" if p.backwards else "+"}= ${of_tap}) {
% if p.ins > UNROLLED:
                            #pragma unroll ${UNROLLED}
                            for (int c = 0; c < channels; ++c) { ${products("c")} }
% else:
% for c in range(p.ins):
                            ${products(c)}
% endfor
% endif
                        }
                    }
                    ${" ".join(kept(i, v) for i in wide for v in high)}
% if step < p.ins:
                    }
% endif
                    for (int i = 0; i < ${f"({p.results[1]} - col < {t.PIXELS} ? {p.results[1]} - col : {t.PIXELS})" if ragged else t.PIXELS}; ++i) {
% for v in high:
                        { const ${kind} made = *(__local const ${kind}*)(Y + i * ${t.VECTORS * V} + ${v * V});
                          ${store_vector("y", f"to + i * {pixel} + {v * vector}", [component("made", j, V) for j in range(V)])} }
% endfor
                    }
                }
    }
}

## Adds the products of one filter element of all results with channel ``c`` of their pixels.
<%def name="products(c)">
                            {
                                const ${kind} ${", ".join(f"f{v} = *(__global const loose_t*)(filters + {c} * {of_channel} + {v * V})" for v in high)};
% for i in wide:
                                { const float e = at[${i * step_across * p.ins} + ${c}]; ${" ".join(f"a{i}_{v} = clnn_multiply_add{V}(e, f{v}, a{i}_{v});" for v in high)} }
% endfor
                            }
</%def>
