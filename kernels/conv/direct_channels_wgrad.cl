<%!
from types import SimpleNamespace

from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.register_blocks import fits, turns

def run(p):
    """Floats of a row of a filter: neighbours in the image."""
    return p.window[1] * p.C

def wide(p, t):
    """Vectors of such a row; what the last one holds too much is never stored."""
    return -(-run(p) // t.ACROSS)

def line(p, t):
    """Floats of a row of pixels with its margins, and what the last vector reads behind them."""
    return max((p.results[1] - 1) * p.stride[1] * p.C + wide(p, t) * t.ACROSS, (p.padding[1] + p.pixels[1]) * p.C)

def filters(p, t):
    return -(-p.K // t.FILTERS) * t.FILTERS

def layout(p, t):
    """Where rows of pixels, sums of products and sums of gradients begin in local memory, and its end."""
    places, at = [], 0
    for floats in (p.window[0] * line(p, t), filters(p, t) * p.window[0] * wide(p, t) * t.ACROSS, p.K):
        places.append(at)
        at += -(-floats // 16) * 16
    return (*places, at)

def registers(p, t, target):
    return fits(t.FILTERS, wide(p, t), t.ACROSS, target)

def choose(p, target):
    across = 16 if target.vector_width >= 16 and run(p) > 8 else 8
    fitting = [n for n in FILTERS if registers(p, SimpleNamespace(FILTERS=n, ACROSS=across), target)] or [1]
    vectors = wide(p, SimpleNamespace(ACROSS=across))
    return {"ACROSS": across, "FILTERS": min(fitting, key=lambda n: turns(n, vectors) * -(-p.K // n))}

#: result channels that a register block may have
FILTERS = (1, 2, 3, 4, 6, 8, 10, 12)

KERNEL = Kernel(
    summary="Gradient of a convolution of few channels in its filters, on CPUs, channels innermost: rows of filters as vectors of neighbours.",
    reads=("x", "dy"),
    stores=("part", "sums"),
    problem={"N": "images", "C": "image channels", "K": "result channels", "pixels": "(rows, columns) of the image",
             "results": "(rows, columns) of the result", "window": "(rows, columns) of a filter",
             "stride": "(vertical, horizontal)", "padding": "(top, left)",
             "parts": "into which the rows of all results are cut, each with sums of its own"},
    tunables=(Tunable("ACROSS", (4, 8, 16), 8, 4, "neighbours of a vector"),
              Tunable("FILTERS", FILTERS, 2, 1, "result channels of a register block")),
    constraints=(Constraint(registers, "the register block must fit into the vector registers"),),
    choose=choose,
    global_size=lambda p, t: (p.parts,),
    local_size=lambda p, t: (1,),
    local_bytes=lambda p, t: 4 * layout(p, t)[-1],
)
%>
<%namespace name="vectors" file="/lib/vectors.mako"/>
<%
A, kind, V = t.ACROSS, f"float{t.ACROSS}", range(wide(p, t))
many, (down, across), (P, Q), (R, S) = range(t.FILTERS), p.stride, p.results, p.window
(height, width), (top, left) = p.pixels, p.padding
pitch, row_of = line(p, t), wide(p, t) * t.ACROSS       # floats of a row of pixels, of a row of a filter
_, products_at, sums_at, end = layout(p, t)
share = -(-p.N * P // p.parts)
%>
${vectors.multiply_add(A)}
${signature}
{
    typedef ${kind} loose_t __attribute__((aligned(4)));
    __local float L[${end}] __attribute__((aligned(64)));      // rows of pixels, products [filter][row][neighbour], sums
    for (int i = 0; i < ${end}; ++i) L[i] = 0.0f;      // margins stay so
    const int part = get_global_id(0);
    const int stop = (part + 1) * ${share} < ${p.N * P} ? (part + 1) * ${share} : ${p.N * P};
    for (int row = part * ${share}; row < stop; ++row) {
        const int n = row / ${P}, first = row % ${P} * ${down} - ${top};
        for (int r = 0; r < ${R}; ++r) {
            __local float* const to = L + r * ${pitch} + ${left * p.C};
            const bool there = (uint)(first + r) < ${height}u;
            __global const float* const from = x + ((index_t)n * ${height} + (there ? first + r : 0)) * ${width * p.C};
            if (there) for (int i = 0; i < ${width * p.C}; ++i) to[i] = from[i];
            else for (int i = 0; i < ${width * p.C}; ++i) to[i] = 0.0f;
        }
        __global const float* const gradients = dy + (index_t)row * ${Q * p.K};
% if has("sums"):
        for (int q = 0; q < ${Q}; ++q)
            for (int k = 0; k < ${p.K}; ++k) L[${sums_at} + k] += gradients[q * ${p.K} + k];
% endif
        for (int k = 0; k < ${p.K}; k += ${t.FILTERS}) {
% for j in many:
            __global const float* const g${j} = gradients + ${f"(k + {j} < {p.K} ? k + {j} : {p.K - 1})" if p.K % t.FILTERS and j else f"k + {j}"};
% endfor
            for (int r = 0; r < ${R}; ++r) {
                ${kind} ${", ".join(f"a{j}_{v} = ({kind})(0.0f)" for j in many for v in V)};
                __local const float* at = L + r * ${pitch};
                #pragma unroll 2
                for (int q = 0; q < ${Q}; ++q, at += ${across * p.C}) {
                    const ${kind} ${", ".join(f"x{v} = *(__local const loose_t*)(at + {v * A})" for v in V)};
% for j in many:
                    { const float e = g${j}[q * ${p.K}]; ${" ".join(f"a{j}_{v} = clnn_multiply_add{A}(e, x{v}, a{j}_{v});" for v in V)} }
% endfor
                }
% for j in many:
                { __local ${kind}* const to = (__local ${kind}*)(L + ${products_at} + ((k + ${j}) * ${R} + r) * ${row_of}); ${" ".join(f"to[{v}] += a{j}_{v};" for v in V)} }
% endfor
            }
        }
    }
    for (int k = 0; k < ${p.K}; ++k)
        for (int c = 0; c < ${p.C}; ++c)
            for (int r = 0; r < ${R}; ++r)
                for (int s = 0; s < ${S}; ++s)
                    ${store("part", f"(((index_t)part * {p.K} + k) * {p.C} + c) * {R * S} + r * {S} + s", f"L[{products_at} + (k * {R} + r) * {row_of} + s * {p.C} + c]")}
% if has("sums"):
    for (int k = 0; k < ${p.K}; ++k) ${store("sums", f"part * {p.K} + k", f"L[{sums_at} + k]")}
% endif
}
