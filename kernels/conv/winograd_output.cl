<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.image_tiles import first_pixel, left_of
from clnn.codegen.linear import sandwich
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

def sides(p):
    """(extent of what lies side by side, extent of the other)."""
    tiles = p.N * p.rows * p.cols
    return (tiles, p.K) if p.lanes == "tiles" else (p.K, tiles)

def units(p, t):
    inner, outer = sides(p)
    return -(-inner // t.VECTOR) * outer

def choose(p, target):
    vector = 16 if target.is_cpu else 1
    inner, outer = sides(p)
    walk = choose_walk(-(-inner // vector) * outer, target, cost=64)
    return {"VECTOR": vector, **walk, **({} if target.is_cpu else {"CHUNK": 1})}

KERNEL = Kernel(
    summary="The last step of a Winograd convolution: transforms each tile of products back, L m Lᵀ, and stores its pixels.",
    reads=("m",),
    stores=("y",),
    problem={"N": "images", "K": "channels", "P": "rows of a result", "Q": "its columns",
             "strides": "of (N, K, P, Q) in the result", "rows": "tiles down", "cols": "tiles across",
             "matrix": "L of L m Lᵀ, the transform of a tile m",
             "lanes": "what lies side by side in m: tiles or channels",
             "places": "strides of (element of a tile, channel, tile) in m"},
    tunables=(*WALK, Tunable("VECTOR", (1, 4, 8, 16), 1, 4, "neighbouring tiles or channels that an item transforms together")),
    constraints=(Constraint(lambda p, t, target: t.VECTOR in (1, 2, 4, 8, 16), "VECTOR must be a vector width"),),
    choose=choose,
    global_size=lambda p, t: walk_items(units(p, t), t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%namespace name="winograd" file="/lib/winograd.mako"/>
<%
# Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: Y = Aᵀ M A.
L = t.VECTOR
size, made = len(p.matrix[0]), len(p.matrix)
inner, outer = (p.N * p.rows * p.cols, p.K) if p.lanes == "tiles" else (p.K, p.N * p.rows * p.cols)
groups = -(-inner // L)
sn, sk, sp, sq = p.strides
me, mc, mt = p.places
kind = "float" if L == 1 else f"float{L}"
ragged_h, ragged_w = p.rows * made != p.P, p.cols * made != p.Q

def locate(tile):
    return first_pixel(tile, p.rows, p.cols, made, p.strides)

def element(e):
    """A vector of elements e, collected or straight from memory."""
    return f"*(const {kind}*)(part + {e * L})" if inner % L else f"*(__global const loose_t*)(m + from + (index_t){e * me})"

def guard(i, j):
    checks = [f"{n} + {k} < {e}" for n, k, e, ragged in (("h", i, p.P, ragged_h), ("w", j, p.Q, ragged_w)) if ragged]
    return f"if ({' && '.join(checks)}) " if checks else ""
%>
${signature}
{
% if L > 1:
    typedef float${L} loose_t __attribute__((aligned(4)));
    float part[${size ** 2 * L}] __attribute__((aligned(64)));      // [element][lane]
% endif
<%loops:each n="${groups * outer}" index="unit" t="${t}">
% if L == 1:
        const int near = unit % ${inner}, far = unit / ${inner};
        const int ${"tile = near, k = far" if p.lanes == "tiles" else "k = near, tile = far"};
        const index_t from = (index_t)k * ${mc} + (index_t)tile * ${mt};
% for i in range(size):
% for j in range(size):
        const float m${i}_${j} = m[from + (index_t)${(i * size + j) * me}];
% endfor
% endfor
% else:
        const int start = unit % ${groups} * ${L}, other = unit / ${groups};
        const int count = ${inner} - start < ${L} ? ${inner} - start : ${L};
        const index_t from = (index_t)other * ${mc if p.lanes == "tiles" else mt} + start;
% if inner % L:
        // spare lanes repeat the last one
        for (int e = 0; e < ${size * size}; ++e) {
            __global const float* row = m + from + (index_t)e * ${me};
            if (count == ${L}) {
                *(loose_t*)(part + e * ${L}) = *(__global const loose_t*)row;
                continue;
            }
            for (int lane = 0; lane < ${L}; ++lane) part[e * ${L} + lane] = row[lane < count ? lane : count - 1];
        }
% endif
% for i in range(size):
% for j in range(size):
        const ${kind} m${i}_${j} = ${element(i * size + j)};
% endfor
% endfor
% endif
        ${sandwich(p.matrix, "m", "y", kind)}
% if L == 1:
        ${locate("tile")} + (index_t)k * ${sk};
% for i in range(made):
% for j in range(made):
        ${guard(i, j)}${store("y", f"at + (index_t){i * sp + j * sq}", f"y{i}_{j}")}
% endfor
% endfor
% else:
        ${winograd.keep("y", made, L)}
% if p.lanes == "tiles":
        for (int lane = 0; lane < count; ++lane) {
            const int tile = start + lane;
            ${locate("tile")} + (index_t)other * ${sk};
            for (int i = 0; i < ${left_of("h", p.P, p.rows, made)}; ++i)
                for (int j = 0; j < ${left_of("w", p.Q, p.cols, made)}; ++j)
                    ${store("y", f"at + i * {sp} + j * {sq}", f"part[(i * {made} + j) * {L} + lane]")}
        }
% else:
        ${winograd.spread(store, (p.P, p.Q), p.strides, made, p.rows, p.cols, "other", "start", L, "count" if inner % L else L)}
% endif
% endif
</%loops:each>
}
