<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.image_tiles import WHOLE, first_pixel, inside, tiles
from clnn.codegen.linear import sandwich
from clnn.codegen.store import by_vector
from clnn.codegen.winograd_fused import choose, items, local_bytes, loads, pitch, round_of, staged

KERNEL = Kernel(
    summary="A whole Winograd convolution on GPUs: a work-group transforms tiles into local memory, channel by channel, multiplies them by the "
            "filters in registers, and transforms the results back.",
    reads=("x", "u"),
    stores=("y",),
    problem=WHOLE,      # the filters in u are (element of a tile, channel that is read, channel that is made)
    tunables=(Tunable("OUTS", (32, 64), 64, 32, "channels of the result of a work-group"),
              Tunable("TILES", (16, 32), 32, 16, "tiles of a work-group"),
              Tunable("DEPTH", (4, 8), 4, 8, "channels that are in local memory at once"),
              Tunable("STAGES", (1, 2), 2, 1, "channels times DEPTH in local memory: with 2 a barrier less per step"),
              Tunable("SHARE", (1, 2, 4), 2, 4, "elements of the transformed tiles that an item multiplies"),
              Tunable("TK", (4, 8, 16), 8, 4, "channels of an item's block"),
              Tunable("TT", (4, 8), 8, 4, "tiles of an item's block"),
              Tunable("UNROLL", (1, 2, 4, 8), 8, 2, "channels that the compiler sees at once")),
    constraints=(Constraint(lambda p, t, target: p.outs % t.OUTS == 0, "OUTS must divide the channels that are made"),
                 Constraint(lambda p, t, target: p.ins % t.DEPTH == 0, "DEPTH must divide the channels that are read"),
                 Constraint(lambda p, t, target: items(p, t) % (t.OUTS // 4 * t.DEPTH) == 0 and items(p, t) % t.TILES == 0,
                            "all items must load equally much")),
    choose=choose,
    local_size=lambda p, t: (items(p, t),),
    global_size=lambda p, t: (-(-tiles(p) // t.TILES) * (p.outs // t.OUTS) * items(p, t),),
    local_bytes=local_bytes,
    seeds=tuple({"OUTS": outs, "TILES": tiles, "DEPTH": depth, "STAGES": stages, "SHARE": share, "TK": tk, "TT": tt}
                for outs, tiles, depth, stages, share, tk, tt in (
        (64, 32, 4, 2, 2, 8, 8), (64, 32, 4, 1, 2, 8, 8), (64, 32, 4, 2, 1, 16, 8), (64, 32, 8, 1, 2, 8, 8), (64, 16, 4, 2, 2, 8, 8),
        (32, 32, 4, 2, 2, 8, 8), (32, 32, 4, 1, 2, 8, 8), (32, 32, 4, 2, 2, 8, 4), (32, 16, 8, 1, 4, 4, 4))),
)
%>
<%
# Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016. Work is shared out as in Yan, Wang and Chu, "Optimizing batched
# Winograd convolution on GPUs", 2020: an item has blocks of products of SHARE elements, so that sums of a tile meet in local memory at the end.
size, made = len(p.images), len(p.back)
elements = size ** 2
group = items(p, t)
lanes_k, lanes_t = t.OUTS // t.TK, t.TILES // t.TT
vk, vt = t.TK // 4, t.TT // 4
per_round = round_of(p, t)                  # channels of an item that meet at a time
met = lanes_k * per_round                   # of a work-group
near_c = group // t.TILES                   # channels whose tiles are loaded at once
fetched = loads(p, t)
quads = t.OUTS // 4                         # vectors of filters of a channel
step_e = group // (quads * t.DEPTH)         # elements whose filters are loaded at once
total = tiles(p)
_, xc, xh, xw = p.x_strides
_, yk, yh, yw = p.y_strides
whole_h, whole_w = inside(p.pixels, p.origin, (p.rows, p.cols), made, size)
ragged_h, ragged_w = p.rows * made != p.results[0], p.cols * made != p.results[1]
some = t.TILES * t.DEPTH < group            # not every item loads pixels

def pixel(i, j, n):
    checks = [name for name, sure in ((f"h{i}", whole_h), (f"w{j}", whole_w)) if not sure]
    value = f"pixels[(index_t){n * near_c * xc} + {i * xh + j * xw}]"
    return f"{' && '.join(checks)} ? {value} : 0.0f" if checks else value

def fetch():
    """Statements that load the pixels and filters of the next channels into registers."""
    lines = [f"p{n}_{i}_{j} = {pixel(i, j, n)};" for n in range(fetched) for i in range(size) for j in range(size)]
    if some:
        lines = [f"if (item < {t.TILES * t.DEPTH}) {{", *lines, "}"]
    lines += [f"f{n} = *(__global const float4*)(filters + (index_t){n * step_e * p.ins * p.outs});" for n in range(elements // step_e)]
    return "\n        ".join([*lines, f"pixels += (index_t){t.DEPTH * xc};", f"filters += (index_t){t.DEPTH * p.outs};"])

def stage():
    """Statements that transform the pixels and bring all into local memory."""
    lines = ["if (item < %d) {" % (t.TILES * t.DEPTH)] if some else []
    for n in range(fetched):
        lines += ["{", sandwich(p.images, f"p{n}_", "v", "float")]
        lines += [f"image_to[{((i * size + j) * t.DEPTH + n * near_c) * t.TILES}] = v{i}_{j};" for i in range(size) for j in range(size)]
        lines.append("}")
    lines += ["}"] if some else []
    lines += [f"*(__local float4*)(filter_to + {4 * n * group}) = f{n};" for n in range(elements // step_e)]
    return "\n        ".join(lines)

def stored(i, j):
    checks = [f"{n} + {k} < {e}" for n, k, e, ragged in (("h", i, p.results[0], ragged_h), ("w", j, p.results[1], ragged_w)) if ragged]
    text = store("y", f"to + {i * yh + j * yw}", f"r{i}_{j}")
    return f"if ({' && '.join(checks)}) {{ {text} }}" if checks else text

together = by_vector(made, p.y_strides) and not ragged_w

def stored_row(i):
    if not together:
        return "\n                ".join(stored(i, j) for j in range(made))
    text = store_vector("y", f"to + {i * yh}", [f"r{i}_{j}" for j in range(made)])
    return f"if (h + {i} < {p.results[0]}) {{ {text} }}" if ragged_h else text
%>
${signature}
{
    __local float staged[${local_bytes(p, t) // 4}] __attribute__((aligned(16)));
    const int item = get_local_id(0), kq = item % ${lanes_k}, tq = item / ${lanes_k} % ${lanes_t}, part = item / ${lanes_k * lanes_t};
    const int o0 = get_group_id(0) % ${p.outs // t.OUTS} * ${t.OUTS}, t0 = get_group_id(0) / ${p.outs // t.OUTS} * ${t.TILES};
    // in local memory: tiles as [element][DEPTH][TILES], then filters as [element][DEPTH][OUTS]
    __local const float* image = staged + part * ${t.SHARE * t.DEPTH * t.TILES} + tq * 4;
    __local const float* filter = staged + ${elements * t.DEPTH * t.TILES} + part * ${t.SHARE * t.DEPTH * t.OUTS} + kq * 4;
    __local float* image_to = staged + item;
    __local float* filter_to = staged + ${elements * t.DEPTH * t.TILES} + item * 4;
% if t.STAGES > 1:
    bool turn = false;
% endif
    // the tile that this item loads, and whose results it stores; the last group may have some that do not exist
    const int wanted = t0 + item % ${t.TILES}, tile = ${f"wanted < {total} ? wanted : {total - 1}" if total % t.TILES else "wanted"};
    __global const float* filters = u + ((index_t)(item / ${quads * t.DEPTH}) * ${p.ins} + item / ${quads} % ${t.DEPTH}) * ${p.outs} + o0 + item % ${quads} * 4;
    __global const float* pixels;
% for axis, whole in (("h", whole_h), ("w", whole_w)):
% if not whole:
    bool ${", ".join(f"{axis}{i}" for i in range(size))};                // whether these pixels of the tile are on the image
% endif
% endfor
    {
        ${first_pixel("tile", p.rows, p.cols, made, p.x_strides, p.origin)};
        pixels = x + (at + (index_t)(item / ${t.TILES}) * ${xc});
% for axis, whole, extent in (("h", whole_h, p.pixels[0]), ("w", whole_w, p.pixels[1])):
% if not whole:
        ${" ".join(f"{axis}{i} = (uint)({axis} + {i}) < {extent}u;" for i in range(size))}
% endif
% endfor
    }
% for e in range(t.SHARE):
% for k in range(t.TK):
% for v in range(vt):
    float4 a${e}_${k}_${v} = (float4)(0.0f);
% endfor
% endfor
% endfor
    float ${", ".join(f"p{n}_{i}_{j}" for n in range(fetched) for i in range(size) for j in range(size))};
    float4 ${", ".join(f"f{n}" for n in range(elements // step_e))};

        ${fetch()}
        ${stage()}
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int in0 = 0; in0 < ${p.ins}; in0 += ${t.DEPTH}) {
        const bool more = in0 + ${t.DEPTH} < ${p.ins};
        if (more) {
        ${fetch()}
        }
        #pragma unroll ${min(t.UNROLL, t.DEPTH)}
        for (int c = 0; c < ${t.DEPTH}; ++c) {
% for e in range(t.SHARE):
            {
% for v in range(vk):
                const float4 k${v} = *(__local const float4*)(filter + c * ${t.OUTS} + ${e * t.DEPTH * t.OUTS + v * 4 * lanes_k});
% endfor
% for v in range(vt):
                const float4 t${v} = *(__local const float4*)(image + c * ${t.TILES} + ${e * t.DEPTH * t.TILES + v * 4 * lanes_t});
% endfor
% for k in range(t.TK):
% for v in range(vt):
                a${e}_${k}_${v} += k${k // 4}.s${k % 4} * t${v};
% endfor
% endfor
            }
% endfor
        }
% if t.STAGES == 1:
        barrier(CLK_LOCAL_MEM_FENCE);
% else:
        const int other = turn ? -${staged(p, t)} : ${staged(p, t)};
        turn = !turn;
        image += other;
        filter += other;
        image_to += other;
        filter_to += other;
% endif
        if (more) {
        ${stage()}
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    {
        ${first_pixel("tile", p.rows, p.cols, made, p.y_strides)};
        // what all items have of some channels meets, element by element: [element][channel][pitch]
% for first in range(0, t.TK, per_round):
% if first:
        barrier(CLK_LOCAL_MEM_FENCE);
% endif
% for e in range(t.SHARE):
% for k in range(per_round):
% for v in range(vt):
        *(__local float4*)(staged + ((part * ${t.SHARE} + ${e}) * ${met} + kq + ${k * lanes_k}) * ${pitch(t)} + tq * 4 + ${v * 4 * lanes_t}) = a${e}_${first + k}_${v};
% endfor
% endfor
% endfor
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int one = item / ${t.TILES}; one < ${met}; one += ${near_c}) {
            __local const float* from = staged + one * ${pitch(t)} + item % ${t.TILES};
% for i in range(size):
% for j in range(size):
            const float m${i}_${j} = from[${(i * size + j) * met * pitch(t)}];
% endfor
% endfor
        ${sandwich(p.back, "m", "r", "float")}
            const int k = one / ${lanes_k} + ${first}, o = o0 + one % ${lanes_k} * 4 + k / 4 * ${4 * lanes_k} + k % 4;
            const index_t to = at + (index_t)o * ${yk};
            ${f"if (wanted < {total}) {{" if total % t.TILES else "{"}
% for i in range(made):
                ${stored_row(i)}
% endfor
            }
        }
% endfor
    }
}
