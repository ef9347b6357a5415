<%!
from clnn.codegen.convolution import SHAPE
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.taps import Taps, chunks

def choose(p, target):
    if target.is_cpu:
        vector = next(v for v in (16, 8, 4, 1) if p.K % v == 0) if p.inner == "channels" and p.K == p.C else 1
        return {"LANES": 1, "CHANNELS": 1, "VECTOR": vector if p.inner == "channels" else 8}
    if p.inner == "channels":
        return {"LANES": 8, "CHANNELS": 32}
    return {"LANES": 128, "CHANNELS": 1, "VECTOR": next(v for v in (4, 2, 1) if p.Q % v == 0),
            "ROWS": 8 if p.P >= 28 and p.R * p.S <= 9 and p.stride[0] == 1 else 4}

def channels_of(t, p):
    """Channels of a work-group."""
    return t.VECTOR if t.LANES == 1 and p.inner == "channels" else t.CHANNELS

TOGETHER = 4    # results whose windows are read together where vectors of channels are
BATCH = 10      # sums that a tree joins at once

def strips(p, t):
    """Whether the items of a work-group take blocks of rows and columns of one channel."""
    return t.LANES > 1 and t.CHANNELS == 1 and p.inner == "columns"

KERNEL = Kernel(
    summary="Gradient of a depthwise convolution in its filters: the sums over part of the rows of all images, all taps at once.",
    reads=("x", "dy"),
    stores=("part", "sums"),
    problem={**SHAPE, "x_strides": "of (N, C, H, W) in x", "dy_strides": "of (N, K, P, Q) in dy",
             "parts": "into which the N P rows are cut", "inner": "what lies side by side: columns or channels"},
    tunables=(Tunable("LANES", (1, 8, 32, 64, 128, 256), 128, 4, "items that share a channel; 1 on CPUs"),
              Tunable("CHANNELS", (1, 8, 16, 32), 1, 3, "channels of a work-group"),
              Tunable("VECTOR", (1, 2, 4, 8, 16), 1, 2, "columns, or on CPUs channels, that an item takes together"),
              Tunable("ROWS", (1, 2, 4, 8), 1, 3, "with LANES > 1: rows of results that share the pixels that an item loads")),
    constraints=(Constraint(lambda p, t, target: t.LANES & (t.LANES - 1) == 0, "the tree needs a power of two of items"),
                 Constraint(lambda p, t, target: t.LANES > 1 or t.CHANNELS == 1,
                            "an item of its own takes one channel or one vector of them"),
                 Constraint(lambda p, t, target: t.LANES == 1 or t.VECTOR <= 4, "items that share a channel take at most four columns"),
                 Constraint(lambda p, t, target: t.VECTOR == 1 or t.LANES > 1 or p.inner == "columns" or p.K == p.C and p.K % t.VECTOR == 0,
                            "the vector does not fit the channels")),
    choose=choose,
    global_size=lambda p, t: (-(-p.K // channels_of(t, p)) * p.parts * t.LANES * t.CHANNELS,),
    local_size=lambda p, t: (t.LANES * t.CHANNELS,),
    local_bytes=lambda p, t: 4 * t.LANES * t.CHANNELS * (BATCH if strips(p, t) else 1) if t.LANES > 1 else 0,
)
%>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
xn, xc, xh, xw = p.x_strides
yn, yk, yp, yq = p.dy_strides
taps = p.R * p.S
spread = p.K // p.C
across = Taps(p.W, p.Q, p.S, p.stride[1], p.padding[2], p.dilation[1], False)
first, last = across.interior
span = -(-(p.N * p.P) // p.parts)           # rows of a part
over = channels_of(t, p)
vector = t.VECTOR if t.LANES == 1 else 1
lanes_are_columns = vector > 1 and p.inner == "columns"
kind = "float" if vector == 1 or lanes_are_columns else f"float{vector}"
loads = "*(__global const loose_t*)&" if kind != "float" else ""
names = [f"t{i}" for i in range(taps)] + (["bias"] if has("sums") else [])
cells = [(r, s, r * p.dilation[0] * xh + s * p.dilation[1] * xw) for r in range(p.R) for s in range(p.S)]
wide = [f"w{i}" for i in range(taps)] + (["wbias"] if has("sums") else [])

def stores(values, k):
    """Statements that store the sums of channel k."""
    lines = [store("part", f"((index_t)part * {p.K} + {k}) * {taps} + {i}", values[i]) for i in range(taps)]
    return "\n        ".join(lines + ([store("sums", f"part * {p.K} + {k}", values[taps])] if has("sums") else []))

def inside(count):
    """Statements for ``count`` neighbouring results whose windows lie in the image: what two windows share is loaded once."""
    lines = [f"const index_t at = row_x + (index_t)q * {p.stride[1] * xw};"]
    for j in range(count):
        lines.append(f"const {kind} g{j} = {loads}dy[row_y + (index_t)q * {yq} + {j * yq}];")
        lines += [f"t{i} += g{j} * {loads}x[at + {to + j * p.stride[1] * xw}];" for i, (r, s, to) in enumerate(cells)]
        lines += [f"bias += g{j};"] if has("sums") else []
    return "\n                ".join(lines)

def position():
    """Statements for one result: its gradient times each pixel under its window."""
    lines = [f"const {kind} g = {loads}dy[row_y + (index_t)q * {yq}];",
             f"const index_t at = row_x + (index_t)q * {p.stride[1] * xw};"]
    lines += [f"const bool in_w{s} = (uint)(q * {p.stride[1]} + {s * p.dilation[1] - p.padding[2]}) < {p.W}u;"
              for s in range(p.S)]
    lines += [f"t{i} += in_h{r} && in_w{s} ? g * {loads}x[at + {to}] : ({kind})(0.0f);" for i, (r, s, to) in enumerate(cells)]
    return "\n            ".join(lines + (["bias += g;"] if has("sums") else []))

def locate_row():
    """Statements that declare where the row of results and the pixels under its first window lie."""
    source = f"k / {spread}" if spread > 1 else "k"
    lines = [f"const int n = row / {p.P}, h = row % {p.P};",
             f"const index_t row_y = (index_t)n * {yn} + (index_t)k * {yk} + (index_t)h * {yp};",
             f"const index_t row_x = (index_t)n * {xn} + (index_t)({source}) * {xc} "
             f"+ (index_t)(h * {p.stride[0]} - {p.padding[0]}) * {xh} - {p.padding[2] * xw};"]
    lines += [f"const bool in_h{r} = (uint)(h * {p.stride[0]} + {r * p.dilation[0] - p.padding[0]}) < {p.H}u;"
              for r in range(p.R)]
    return "\n        ".join(lines)
%>
<%
blocks = strips(p, t)
if blocks:
    down = Taps(p.H, p.P, p.R, p.stride[0], p.padding[0], p.dilation[0], False, t.ROWS)
    side = Taps(p.W, p.Q, p.S, p.stride[1], p.padding[2], p.dilation[1], False, t.VECTOR)
    pieces = chunks(side, (xn, xc, xh))
    aligned = t.VECTOR in (2, 4) and not side.ragged and all(step % t.VECTOR == 0 for step in (yn, yk, yp))
    share = -(-(p.N * down.blocks) // p.parts)

def tile():
    """Statements for block (i, j) of image n: each of its results times the pixels under its window, which are read once."""
    lines = [f"__global const float* from = dy + ((index_t)n * {yn} + (index_t)k * {yk} + (index_t)i * {t.ROWS * yp} + j * {t.VECTOR});",
             f"__global const float* here = x + ((index_t)n * {xn} + (index_t)(k / {spread}) * {xc} "
             f"+ (index_t)i * {down.advance * xh} + j * {side.advance});"]
    for i in range(t.ROWS):
        on = f"i * {t.ROWS} + {i} < {p.P}" if down.ragged else ""
        for j in range(0, t.VECTOR, t.VECTOR if aligned else 1):
            kind = f"float{t.VECTOR}" if aligned else "float"
            guards = [on] * bool(on) + ([f"j * {t.VECTOR} + {j} < {p.Q}"] if side.ragged else [])
            value = f"*(__global const {kind}*)(from + {i * yp + j})"
            lines.append(f"const {kind} g{i}_{j} = {' && '.join(guards)} ? {value} : ({kind})(0.0f);" if guards else
                         f"const {kind} g{i}_{j} = {value};")
    grad = {(i, j): f"g{i}_0.s{j}" if aligned else f"g{i}_{j}" for i in range(t.ROWS) for j in range(t.VECTOR)}
    if has("sums"):
        lines.append(f"bias += {' + '.join(grad.values())};")
    lines += [f"const bool w{part.first + 512} = (uint)(j * {side.advance} + {part.first}) < {p.W}u;" for part in pieces]
    for h in down.needed:
        lines.append(f"{{ const bool on = (uint)(i * {down.advance} + {h}) < {p.H}u;")
        for part in pieces:
            kind = "float" if part.width == 1 else f"float{part.width}"
            lines.append(f"const {kind} v{part.first + 512} = on && w{part.first + 512} ? "
                         f"*(__global const {kind}*)(here + {h * xh + part.first}) : ({kind})(0.0f);")
        for i, r, at in down.uses:
            if at != h:
                continue
            for j, s, left in side.uses:
                part = next(part for part in pieces if part.first <= left < part.first + part.width)
                value = f"v{part.first + 512}" + (f".s{left - part.first}" if part.width > 1 else "")
                lines.append(f"t{r * p.S + s} += {grad[i, j]} * {value};")
        lines.append("}")
    return "\n            ".join(lines)
%>
${signature}
{
    const int block = get_group_id(0) % ${-(-p.K // over)}, part = get_group_id(0) / ${-(-p.K // over)};
% if not blocks:
    const int start = part * ${span}, stop = start + ${span} < ${p.N * p.P} ? start + ${span} : ${p.N * p.P};
% endif
    ${" ".join(f"{kind} {name} = 0.0f;" for name in names)}
% if t.LANES == 1:
% if vector > 1:
    typedef float${vector} loose_t __attribute__((aligned(4)));
% endif
    const int k = block${f" * {over}" if over > 1 else ""};
    // Each row is added up on its own, which keeps the rounding error of long sums small.
    ${" ".join(f"{kind} all_{name} = 0.0f;" for name in names)}
    for (int row = start; row < stop; ++row) {
        ${locate_row()}
        int q = 0;
        ${" ".join(f"{name} = 0.0f;" for name in names)}
% if lanes_are_columns and last - first >= vector:
        if (${" && ".join(f"in_h{r}" for r in range(p.R))}) {
            for (; q < ${first}; ++q) { ${position()} }
            ${" ".join(f"float{vector} {name} = 0.0f;" for name in wide)}
            for (; q + ${vector} <= ${last}; q += ${vector}) {
                const float${vector} g = *(__global const loose_t*)(dy + row_y + q);
                const index_t at = row_x + q * ${p.stride[1]};
% for i, (r, s, step_to) in enumerate(cells):
% if p.stride[1] == 1:
                w${i} += g * *(__global const loose_t*)(x + at + ${step_to});
% else:
                w${i} += g * (float${vector})(${", ".join(f"x[at + {step_to + v * p.stride[1]}]" for v in range(vector))});
% endif
% endfor
                ${"wbias += g;" if has("sums") else ""}
            }
% for name, sums in zip(names, wide):
            ${name} += ${" + ".join(f"{sums}.s{'0123456789abcdef'[v]}" for v in range(vector))};
% endfor
        }
% elif vector > 1 and last > first:
        if (${" && ".join(f"in_h{r}" for r in range(p.R))}) {
            for (; q < ${first}; ++q) { ${position()} }
            for (; q + ${TOGETHER} <= ${last}; q += ${TOGETHER}) {
                ${inside(TOGETHER)}
            }
        }
% endif
        for (; q < ${p.Q}; ++q) { ${position()} }
        ${" ".join(f"all_{name} += {name};" for name in names)}
    }
% if kind == "float":
        ${stores([f"all_{name}" for name in names], "k")}
% else:
    ${" ".join(f"const float* of_{name} = (const float*)&all_{name};" for name in names)}
    for (int v = 0; v < ${vector}; ++v) {
        ${stores([f"of_{name}[v]" for name in names], "(k + v)")}
    }
% endif
% elif blocks:
    // The items of a work-group stride through the blocks of the part; trees join their sums.
    __local float shared_sums[${t.LANES * min(BATCH, len(names))}];
    const int item = get_local_id(0), lane = item, k = block;
    const int start = part * ${share}, stop = start + ${share} < ${p.N * down.blocks} ? start + ${share} : ${p.N * down.blocks};
    for (int e = lane; e < (stop - start) * ${side.blocks}; e += ${t.LANES}) {
        const int j = e % ${side.blocks}, row = start + e / ${side.blocks}, i = row % ${down.blocks}, n = row / ${down.blocks};
            ${tile()}
    }
% for batch in [names[at:at + BATCH] for at in range(0, len(names), BATCH)]:
    ${" ".join(f"shared_sums[{i * t.LANES} + item] = {name};" for i, name in enumerate(batch))}
<%tree:join lanes="${t.LANES}">
            ${" ".join(f"shared_sums[{i * t.LANES} + item] += shared_sums[{i * t.LANES} + other];" for i in range(len(batch)))}
</%tree:join>
    ${" ".join(f"{name} = shared_sums[{i * t.LANES} + item];" for i, name in enumerate(batch))}
    barrier(CLK_LOCAL_MEM_FENCE);
% endfor
    if (lane == 0) {
        ${stores(names, "k")}
    }
% else:
    // The items of a work-group stride through the positions of the part; a tree joins their sums, one tap after the other.
    __local float shared_sums[${t.LANES * t.CHANNELS}];
    const int item = get_local_id(0), lane = item / ${t.CHANNELS};
    const int k = block * ${t.CHANNELS} + item % ${t.CHANNELS};
    const int positions = k < ${p.K} ? (stop - start) * ${p.Q} : 0;
    for (int e = lane; e < positions; e += ${t.LANES}) {
        const int row = start + e / ${p.Q}, q = e % ${p.Q};
        ${locate_row()}
        { ${position()} }
    }
% for i, name in enumerate(names):
    shared_sums[item] = ${name};
<%tree:join lanes="${t.LANES}" spread="${t.CHANNELS}">
            shared_sums[item] += shared_sums[other];
</%tree:join>
    ${name} = shared_sums[item];
    barrier(CLK_LOCAL_MEM_FENCE);
% endfor
    if (lane == 0 && k < ${p.K}) {
        ${stores(names, "k")}
    }
% endif
}
