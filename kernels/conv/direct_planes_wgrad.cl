<%!
from types import SimpleNamespace

from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.planes import Axis

def axes(p):
    """(vertical, horizontal)"""
    return tuple(Axis(p.pixels[i], p.results[i], p.window[i], p.stride[i], p.padding[i], p.dilation[i]) for i in (0, 1))

def bands(p, t):
    return -(-p.results[0] // t.ROWS)

def sizes(p, t):
    """Floats of (the planes of one channel of the image, one plane of the gradient)."""
    down, across = axes(p)
    pitch = across.steps + across.reach
    run = -(-((t.ROWS - 1) * pitch + across.steps) // 16) * 16
    return len(down.planes) * len(across.planes) * (t.ROWS + down.reach) * pitch, run

def layout(p, t):
    """Where planes of the image, planes of the gradient, sums of products and of gradients begin in local memory, and its end."""
    image, run = sizes(p, t)
    filters = -(-p.K // t.FILTERS) * t.FILTERS
    places, at = [], 0
    # vectors of a run's end may read behind the last plane, where what they read is multiplied by zero
    for floats in (t.BANDS * p.C * image + 16, t.BANDS * filters * run, 4 * filters * p.C * p.window[0] * p.window[1], 4 * filters):
        places.append(at)
        at += -(-floats // 16) * 16
    return (*places, at)

def block(p, wide):
    """Filters and taps of a register block: few loads for each multiply-add, no lanes without work."""
    taps = p.window[0] * p.window[1]
    def cost(shape):
        filters, at_once = shape
        loads = 1 / at_once + 1.9 / filters        # of an aligned vector and an unaligned one
        return -(-p.K // filters) * filters * (taps * (1 + loads) + -(-taps // at_once) * 4 / filters)
    shapes = [(k, s) for k in (1, 2, 3, 4, 6, 8) for s in (1, 2, 3, 4, 5, 6, 8, 9, 12)
              if k * s <= (MOST if wide else 6) and k <= p.K and s <= taps]
    return min(shapes, key=cost)

def choose(p, target):
    filters, taps = block(p, target.vector_width >= 16)
    t = SimpleNamespace(ROWS=p.results[0], FILTERS=filters, TAPS=taps, BANDS=1, CHUNK=1)
    def small(limit):
        return 4 * layout(p, t)[-1] <= min(target.local_memory, limit)
    while t.ROWS > 4 and (not small(NEAR if p.K * p.C == 1 else FAR) or p.N * bands(p, t) < p.parts):
        t.ROWS = -(-t.ROWS // 2)
    while t.ROWS > 1 and not small(target.local_memory):
        t.ROWS = -(-t.ROWS // 2)
    t.ROWS = -(-p.results[0] // bands(p, t))
    if p.K * p.C > 1:       # short runs leave the pipelines empty when they end
        while t.BANDS < 8 and t.BANDS * sizes(p, t)[1] < 16 * 32:
            t.BANDS *= 2
            if not small(FAR):
                t.BANDS //= 2
                break
    return {**vars(t), "CHUNK": max(1, -(-p.groups * p.parts // (8 * target.compute_units)))}

#: bytes that stay in the first level of cache, and in the second; accumulators of a register block
NEAR, FAR, MOST = 40 << 10, 256 << 10, 20

KERNEL = Kernel(
    summary="Gradient of a convolution of few channels in its filters, on CPUs: sums over runs of results, several taps at once.",
    reads=("x", "dy"),
    stores=("part", "sums"),
    problem={"N": "images", "groups": "independent groups of channels", "C": "image channels of a group",
             "K": "result channels of a group", "pixels": "(rows, columns) of the image",
             "results": "(rows, columns) of the result", "window": "(rows, columns) of a filter",
             "stride": "(vertical, horizontal)", "padding": "(top, left)", "dilation": "(vertical, horizontal)",
             "parts": "into which bands of all images are cut, each with sums of its own"},
    tunables=(Tunable("ROWS", (1, 2, 4, 7, 8, 14, 16, 28, 32, 56), 8, 2, "rows of results that form a run"),
              Tunable("BANDS", (1, 2, 4, 8), 1, 2, "runs that are in local memory together"),
              Tunable("FILTERS", (1, 2, 3, 4, 6, 8), 4, 3, "result channels of a register block"),
              Tunable("TAPS", (1, 2, 3, 4, 5, 6, 8, 9, 12), 4, 2, "filter elements of a register block"),
              Tunable("CHUNK", (1, 2, 4, 8, 16, 32, 64, 256), 1, 3, "groups, or parts of them, that one item sums up")),
    constraints=(Constraint(lambda p, t, target: t.FILTERS * t.TAPS <= (24 if target.vector_width >= 16 else 12),
                            "the register block must fit into the vector registers"),),
    choose=choose,
    global_size=lambda p, t: (-(-p.groups * p.parts // t.CHUNK),),
    local_size=lambda p, t: (1,),
    local_bytes=lambda p, t: 4 * layout(p, t)[-1],
)
%>
<%namespace name="planes" file="/lib/planes.mako"/>
<%
down, across = axes(p)
image, run = sizes(p, t)
image_at, run_at, products_at, sums_at, end = layout(p, t)
width = len(across.planes)
pitch = across.steps + across.reach
plane = image // (len(down.planes) * width)
filters = -(-p.K // t.FILTERS) * t.FILTERS
P, Q = p.results
taps = p.window[0] * p.window[1]
units = p.N * bands(p, t)
share = -(-units // p.parts)
offsets = [(down.planes.index(u.plane) * width + across.planes.index(v.plane)) * plane
           + (u.shift - down.low) * pitch + v.shift - across.low for u in down.uses for v in across.uses]
groups_of_taps = -(-taps // t.TAPS)

def fold(a):
    """Four sums of the elements of a vector."""
    return f"({a}.s0123 + {a}.s89ab) + ({a}.s4567 + {a}.scdef)"
cuts = [i * taps // groups_of_taps for i in range(groups_of_taps + 1)]
%>
${planes.functions()}
${signature}
{
    typedef float4 loose4 __attribute__((aligned(4)));
    typedef float8 loose8 __attribute__((aligned(4)));
    typedef float16 loose16 __attribute__((aligned(4)));
    __local float L[${end}] __attribute__((aligned(64)));
    for (int i = 0; i < ${products_at}; ++i) L[i] = 0.0f;       // what no row is copied to stays so
    const int first = get_global_id(0) * ${t.CHUNK};
    const int last = first + ${t.CHUNK} < ${p.groups * p.parts} ? first + ${t.CHUNK} : ${p.groups * p.parts};
    for (int sum = first; sum < last; ++sum) {
        const int g = sum % ${p.groups}, part = sum / ${p.groups};
        for (int i = ${products_at}; i < ${end}; ++i) L[i] = 0.0f;
        const int stop = (part + 1) * ${share} < ${units} ? (part + 1) * ${share} : ${units};
        for (int unit = part * ${share}; unit < stop; unit += ${t.BANDS}) {
            const int count = stop - unit < ${t.BANDS} ? stop - unit : ${t.BANDS};
            for (int u = 0; u < count; ++u) {
                const int n = (unit + u) / ${bands(p, t)}, step = (unit + u) % ${bands(p, t)} * ${t.ROWS};
                for (int c = 0; c < ${p.C}; ++c) {
                    __global const float* from_image = x + (((index_t)n * ${p.groups} + g) * ${p.C} + c) * ${p.pixels[0] * p.pixels[1]};
                    __local float* to_planes = L + ${image_at} + (u * ${p.C} + c) * ${image};
                    for (int row = 0; row < ${t.ROWS + down.reach}; ++row) {
                        ${planes.row(down, across, "to_planes", "from_image", "row", "step", plane, pitch)}
                    }
                }
                for (int k = 0; k < ${p.K}; ++k) {
                    __global const float* from_plane = dy + ((((index_t)n * ${p.groups} + g) * ${p.K} + k) * ${P} + step) * ${Q};
                    __local float* to_run = L + ${run_at} + (u * ${filters} + k) * ${run};
                    for (int row = 0; row < ${t.ROWS}; ++row) {
                        __global const float* from = from_plane + row * ${Q};
                        __local float* line = to_run + row * ${pitch};
% if P % t.ROWS:
                        if (step + row >= ${P}) {
                            for (int j = 0; j < ${Q}; ++j) line[j] = 0.0f;
                            continue;
                        }
% endif
                        ${planes.run("line", "from", Q)}
                    }
% if has("sums"):
                    float16 all = (float16)(0.0f);
                    for (int v = 0; v < ${run}; v += 16) all += *(__local const float16*)(to_run + v);
                    *(__local float4*)(L + ${sums_at} + 4 * k) += ${fold("all")};
% endif
                }
            }
            for (int k0 = 0; k0 < ${p.K}; k0 += ${t.FILTERS})
                for (int c = 0; c < ${p.C}; ++c) {
                    __local float* products = L + ${products_at} + 4 * (k0 * ${p.C} + c) * ${taps};
% for begin, stop in zip(cuts, cuts[1:]):
                    {
                        float16 ${", ".join(f"a{k}_{i} = (float16)(0.0f)" for k in range(t.FILTERS) for i in range(begin, stop))};
                        for (int u = 0; u < count; ++u) {
                            __local const float* runs = L + ${run_at} + (u * ${filters} + k0) * ${run};
                            __local const float* at = L + ${image_at} + (u * ${p.C} + c) * ${image};
                            for (int v = 0; v < ${run}; v += 16) {
                                const float16 ${", ".join(f"g{k} = *(__local const float16*)(runs + {k * run} + v)" for k in range(t.FILTERS))};
% for i in range(begin, stop):
                                { const float16 pixels = *(__local const loose16*)(at + ${offsets[i]} + v);
                                  ${" ".join(f"a{k}_{i} = clnn_plane_products(g{k}, pixels, a{k}_{i});" for k in range(t.FILTERS))} }
% endfor
                            }
                        }
% for k in range(t.FILTERS):
% for i in range(begin, stop):
                        *(__local float4*)(products + ${4 * (k * p.C * taps + i)}) += ${fold(f"a{k}_{i}")};
% endfor
% endfor
                    }
% endfor
                }
        }
        for (int i = 0; i < ${p.K * p.C * taps}; ++i) {
            __local const float* four = L + ${products_at} + 4 * i;
            ${store("part", f"((index_t)part * {p.groups} + g) * {p.K * p.C * taps} + i", "(four[0] + four[2]) + (four[1] + four[3])")}
        }
% if has("sums"):
        for (int k = 0; k < ${p.K}; ++k) {
            __local const float* four = L + ${sums_at} + 4 * k;
            ${store("sums", f"(part * {p.groups} + g) * {p.K} + k", "(four[0] + four[2]) + (four[1] + four[3])")}
        }
% endif
    }
}
