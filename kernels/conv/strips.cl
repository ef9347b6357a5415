<%!
from clnn.codegen.convolution import SIDES
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.store import by_vector
from clnn.codegen.strips import MOST_TEXT, axes, blocks, cells, choose, load

KERNEL = Kernel(
    summary="Convolution with few channels on one side, or its gradient in the image: an item sums a strip of pixels down a column, for"
            " several channels, in registers; filters lie in local memory.",
    reads=("x", "f"),
    stores=("y",),
    problem={**SIDES, "x_strides": "of (N, C, H, W) in x", "strides": "of (N, C, H, W) in the result"},
    tunables=(Tunable("ROWS", (1, 2, 3, 4, 6, 8, 12), 4, 3, "results, or strides of them, down a column that an item sums"),
              Tunable("OUTS", (1, 2, 3, 4, 6, 8), 4, 3, "channels of the result that an item sums"),
              Tunable("DEPTH", (1, 2, 4, 8, 16), 4, 3, "channels that are read whose filters are in local memory at once"),
              Tunable("GROUP", (32, 64, 128, 256), 128, 5, "items of a work-group")),
    constraints=(Constraint(lambda p, t, target: t.ROWS == 1 or load(p, t.ROWS, t.OUTS).products <= 2 * MOST_TEXT,
                            "the strips would make the kernel's text too long"),),
    choose=choose,
    global_size=lambda p, t: (blocks(p, t) * -(-cells(p, t.ROWS) // t.GROUP) * t.GROUP,),
    local_size=lambda p, t: (t.GROUP,),
    local_bytes=lambda p, t: 4 * t.DEPTH * t.OUTS * p.window[0] * p.window[1],
    seeds=tuple({"ROWS": rows, "OUTS": outs, "GROUP": group} for rows in (2, 4, 8) for outs in (1, 3, 4, 8) for group in (64, 128)),
)
%>
<%
down, across = axes(p, t.ROWS)
columns = p.window[1]
taps = p.window[0] * columns
xn, xc, xh, xw = p.x_strides
yn, yc, yh, yw = p.strides
per_group = -(-p.outs // t.OUTS)
total = cells(p, t.ROWS)
wide = next(v for v in (4, 2, 1) if t.OUTS % v == 0)
vector = {1: "float", 2: "float2", 4: "float4"}[wide]
first, last = down.interior
cut_h = (first, last) != (0, down.blocks)
def column_checked(w):
    return w < 0 or (across.blocks - 1) * across.advance + w >= p.pixels[1]

# Columns of large windows are looped over: compilers that see all of them load too many pixels ahead.
looped = across.block == 1 and len(down.needed) * len(across.needed) > 64
direction = -1 if p.backwards else 1

def multiplied(j, tap_row, filter_at):
    """Statements that add the products of one filter element, or one of each channel, with a column of pixels."""
    found = [(i, at) for i, r, at in down.uses if r == tap_row]
    if not found:
        return []
    lines = ["{"]
    for o in range(0, t.OUTS, wide):
        lines.append(f"const {vector} f{o} = *(__local const {vector}*)(filter + {filter_at} + {o});")
    for i, at in found:
        for o in range(t.OUTS):
            part = f"f{o // wide * wide}" + (f".s{o % wide}" if wide > 1 else "")
            lines.append(f"a{i}_{j}_{o} += v{at + 512} * {part};")
    return [*lines, "}"]

def swept_in_loop(check_h):
    """The same as ``swept``, as a loop over the columns of the filter."""
    lines = ["", "#pragma unroll 1", f"for (int s = 0; s < {columns}; ++s) {{",
             f"const int w = s * {direction * p.dilation[1]} + {-direction * p.padding[1]};",
             f"const bool on = (uint)(j * {across.advance} + w) < {p.pixels[1]}u;",
             f"__global const float* column = here + w * {xw};"]
    for h in down.needed:
        lines.append(f"const float v{h + 512} = {f'h{h + 512} && ' if check_h else ''}on ? column[{h * xh}] : 0.0f;")
    for r in range(p.window[0]):
        lines += multiplied(0, r, f"({r * columns} + s) * {t.OUTS}")
    return "\n                ".join([*lines, "}"])

def swept(check_h):
    """Statements that add what one channel contributes, column by column, so that few pixels are held at once."""
    if looped:
        return swept_in_loop(check_h)
    lines = []
    for w in across.needed:
        lines.append("{")
        for h in down.needed:
            checks = [f"h{h + 512}"] if check_h else []
            checks += [f"w{w + 512}"] if column_checked(w) else []
            value = f"here[{h * xh + w * xw}]"
            lines.append(f"const float v{h + 512} = {' && '.join(checks)} ? {value} : 0.0f;" if checks else f"const float v{h + 512} = {value};")
        for j, s, left in across.uses:
            if left != w:
                continue
            for r in range(p.window[0]):
                lines += multiplied(j, r, (r * columns + s) * t.OUTS)
        lines.append("}")
    return "\n                ".join(lines)

# a stride of columns that an item has made backwards leaves it as one vector
together = across.block if by_vector(across.block, p.strides) and not across.ragged else 1
def stored():
    lines = []
    for o in range(t.OUTS):
        for i in range(down.block):
            for j in range(0, across.block, together):
                guards = [f"o0 + {o} < {p.outs}"] if p.outs % t.OUTS else []
                guards += [f"i * {down.block} + {i} < {p.results[0]}"] if down.ragged else []
                guards += [f"j * {across.block} + {j} < {p.results[1]}"] if across.ragged else []
                to = f"to + {o * yc + i * yh + j * yw}"
                text = (store("y", to, f"a{i}_{j}_{o}") if together == 1 else
                        store_vector("y", to, [f"a{i}_{j + q}_{o}" for q in range(together)]))
                lines.append(f"if ({' && '.join(guards)}) {{ {text} }}" if guards else text)
    return "\n        ".join(lines)
%>
${signature}
{
    __local float filters[${t.DEPTH * taps * t.OUTS}] __attribute__((aligned(16)));
    const int item = get_local_id(0), block = get_group_id(0) % ${p.groups * per_group};
    const int g = block / ${per_group}, o0 = block % ${per_group} * ${t.OUTS};
    // Items of the last work-group that have no strip of their own repeat the last one, since all must meet at the barriers.
    const int wanted = (int)get_group_id(0) / ${p.groups * per_group} * ${t.GROUP} + item;
    const int cell = wanted < ${total} ? wanted : ${total - 1};
    const int j = cell % ${across.blocks}, i = cell / ${across.blocks} % ${down.blocks}, n = cell / ${across.blocks * down.blocks};
% for w in () if looped else across.needed:
% if column_checked(w):
    const bool w${w + 512} = (uint)(j * ${across.advance} + ${w}) < ${p.pixels[1]}u;
% endif
% endfor
    __global const float* here = x + ((index_t)n * ${xn} + (index_t)(g * ${p.ins}) * ${xc} + (index_t)i * ${down.advance * xh} + (index_t)j * ${across.advance * xw});
    ${" ".join(f"float a{a}_{b}_{o} = 0.0f;" for a in range(down.block) for b in range(across.block) for o in range(t.OUTS))}
% if cut_h:
    // Rows are checked by all items of a work-group or by none: whether the rows of strips from its first to its last are whole.
    const int head = wanted - item, tail = head + ${t.GROUP - 1} < ${total} ? head + ${t.GROUP - 1} : ${total - 1};
    const int i_head = head / ${across.blocks}, i_tail = tail / ${across.blocks};
    const bool whole = i_head / ${down.blocks} == i_tail / ${down.blocks} && i_head % ${down.blocks} >= ${first} && i_tail % ${down.blocks} < ${last};
% endif
    for (int in0 = 0; in0 < ${p.ins}; in0 += ${t.DEPTH}) {
        const int count = in0 + ${t.DEPTH} < ${p.ins} ? ${t.DEPTH} : ${p.ins} - in0;
% if p.ins > t.DEPTH:
        barrier(CLK_LOCAL_MEM_FENCE);
% endif
        for (int e = item; e < count * ${taps * t.OUTS}; e += ${t.GROUP}) {
            const int o = o0 + e % ${t.OUTS}, tap = e / ${t.OUTS} % ${taps}, in = in0 + e / ${t.OUTS * taps};
% if p.backwards:
            const index_t at = ((index_t)(g * ${p.ins} + in) * ${p.outs} + o) * ${taps} + tap;
% else:
            const index_t at = ((index_t)(g * ${p.outs} + o) * ${p.ins} + in) * ${taps} + tap;
% endif
            filters[e] = ${f"o < {p.outs} ? f[at] : 0.0f" if p.outs % t.OUTS else "f[at]"};
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        __local const float* filter = filters;
% if cut_h:
        if (!whole) {
% for h in down.needed:
            const bool h${h + 512} = (uint)(i * ${down.advance} + ${h}) < ${p.pixels[0]}u;
% endfor
            #pragma unroll 1
            for (int m = 0; m < count; ++m, here += ${xc}, filter += ${taps * t.OUTS}) {
                ${swept(True)}
            }
        } else
% endif
            #pragma unroll 1
            for (int m = 0; m < count; ++m, here += ${xc}, filter += ${taps * t.OUTS}) {
                ${swept(False)}
            }
    }
    if (wanted < ${total}) {
        const index_t to = (index_t)n * ${yn} + (index_t)(g * ${p.outs} + o0) * ${yc} + (index_t)i * ${down.block * yh} + (index_t)j * ${across.block * yw};
        ${stored()}
    }
}
