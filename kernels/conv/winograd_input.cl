<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.image_tiles import first_pixel, inside
from clnn.codegen.linear import sandwich
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def units(p, t):
    """Vectors of neighbouring tiles (or channels), over all channels (or tiles)."""
    tiles = p.N * p.rows * p.cols
    inner, outer = (tiles, p.C) if p.lanes == "tiles" else (p.C, tiles)
    return -(-inner // t.VECTOR) * outer

def choose(p, target):
    vector = 16 if target.is_cpu else 1
    tiles = p.N * p.rows * p.cols
    inner, outer = (tiles, p.C) if p.lanes == "tiles" else (p.C, tiles)
    n = -(-inner // vector) * outer
    return {"VECTOR": vector, **choose_walk(n, target, cost=64), **({} if target.is_cpu else {"CHUNK": 1})}

KERNEL = Kernel(
    summary="Cuts images, or filters, into tiles and transforms each: the first step of a Winograd convolution.",
    reads=("x",),
    stores=("v",),
    problem={"N": "images", "C": "channels", "H": "rows of an image", "W": "its columns", "strides": "of (N, C, H, W) in x",
             "origin": "(row, column) of the first pixel of the first tile", "rows": "tiles down", "cols": "tiles across",
             "hop": "pixels from one tile to the next", "matrix": "L of L d Lᵀ, the transform of a tile d",
             "lanes": "what lies side by side in the result: tiles or channels",
             "places": "strides of (element of a tile, channel, tile) in the result",
             "panel": "1, or how many of what lies side by side make a panel: its stride is then from panel to panel"},
    tunables=(*WALK, Tunable("VECTOR", (1, 4, 8, 16), 1, 4, "neighbouring tiles or channels that an item transforms together")),
    constraints=(Constraint(lambda p, t, target: t.VECTOR in (1, 2, 4, 8, 16), "VECTOR must be a vector width"),
                 Constraint(lambda p, t, target: p.panel == 1 or p.panel % t.VECTOR == 0, "VECTOR must divide the panels")),
    choose=choose,
    global_size=lambda p, t: walk_items(units(p, t), t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%namespace name="winograd" file="/lib/winograd.mako"/>
<%
# Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: V = Bᵀ d B, and U = G g Gᵀ for the filters.
L = t.VECTOR
size = len(p.matrix[0])                     # of a tile
made = len(p.matrix)                        # of the transformed tile
tiles = p.N * p.rows * p.cols
inner, outer = (tiles, p.C) if p.lanes == "tiles" else (p.C, tiles)
groups = -(-inner // L)
sn, sc, sh, sw = p.strides
ve, vc, vt = p.places
kind = "float" if L == 1 else f"float{L}"
whole_h, whole_w = inside((p.H, p.W), p.origin, (p.rows, p.cols), p.hop, size)
cut = not (whole_h and whole_w)
whole = f"h >= 0 && h + {size} <= {p.H} && w >= 0 && w + {size} <= {p.W}"

def locate(tile):
    return first_pixel(tile, p.rows, p.cols, p.hop, p.strides, p.origin)

def place(c, tile):
    """Where the first element of a tile is stored."""
    def along(name, stride, near):
        return f"(index_t)({name} / {p.panel}) * {stride} + {name} % {p.panel}" if near and p.panel > 1 else f"(index_t){name} * {stride}"
    return f"{along(c, vc, p.lanes == 'channels')} + {along(tile, vt, p.lanes == 'tiles')}"

def pixel(i, j, where):
    """An element of the tile, zero outside the image."""
    checks = [f"(uint)({n} + {k}) < {e}u" for n, k, e, sure in (("h", i, p.H, whole_h), ("w", j, p.W, whole_w)) if not sure]
    value = f"x[{where} + {i * sh + j * sw}]"
    return f"{' && '.join(checks)} ? {value} : 0.0f" if checks else value
%>
${signature}
{
% if L > 1:
    typedef float${L} loose_t __attribute__((aligned(4)));
    float part[${max(size, made) ** 2 * L}] __attribute__((aligned(64)));      // [element][lane]
% endif
<%loops:each n="${groups * outer}" index="unit" t="${t}">
% if L == 1:
        const int near = unit % ${inner}, far = unit / ${inner};
        const int ${"tile = near, c = far" if p.lanes == "tiles" else "c = near, tile = far"};
        ${locate("tile")} + (index_t)c * ${sc};
% for i in range(size):
% for j in range(size):
        const float d${i}_${j} = ${pixel(i, j, "at")};
% endfor
% endfor
% else:
        const int start = unit % ${groups} * ${L}, other = unit / ${groups};
        const int count = ${inner} - start < ${L} ? ${inner} - start : ${L};
% if p.lanes == "tiles":
        // each lane collects its own tile; spare lanes repeat the last one
        for (int lane = 0; lane < ${L}; ++lane) {
            const int tile = start + (lane < count ? lane : count - 1);
            ${locate("tile")} + (index_t)other * ${sc};
% if cut:
            if (!(${whole})) {
                for (int i = 0; i < ${size}; ++i)
                    for (int j = 0; j < ${size}; ++j)
                        part[(i * ${size} + j) * ${L} + lane] = (uint)(h + i) < ${p.H}u && (uint)(w + j) < ${p.W}u
                                                                ? x[at + i * ${sh} + j * ${sw}] : 0.0f;
                continue;
            }
% endif
% for i in range(size):
% for j in range(size):
            part[${(i * size + j) * L} + lane] = x[at + ${i * sh + j * sw}];
% endfor
% endfor
        }
% for i in range(size):
% for j in range(size):
        const ${kind} d${i}_${j} = *(const ${kind}*)(part + ${(i * size + j) * L});
% endfor
% endfor
% else:
        ${winograd.collect((p.H, p.W), p.strides, p.origin, p.hop, p.rows, p.cols, size, "other", "start", L, "count" if inner % L else None)}
% endif
% endif
        ${sandwich(p.matrix, "d", "v", kind)}
% if L == 1:
        const index_t to = ${place("c", "tile")};
% for i in range(made):
% for j in range(made):
        ${store("v", f"to + (index_t){(i * made + j) * ve}", f"v{i}_{j}")}
% endfor
% endfor
% else:
        ${winograd.keep("v", made, L)}
        const index_t to = ${place(*(("other", "start") if p.lanes == "tiles" else ("start", "other")))};
        for (int e = 0; e < ${made * made}; ++e) {
% if inner % L:
            if (count < ${L}) {
                for (int lane = 0; lane < count; ++lane) ${store("v", f"to + (index_t)e * {ve} + lane", f"part[e * {L} + lane]")}
                continue;
            }
% endif
            for (int lane = 0; lane < ${L}; ++lane) ${store("v", f"to + (index_t)e * {ve} + lane", f"part[e * {L} + lane]")}
        }
% endif
</%loops:each>
}
