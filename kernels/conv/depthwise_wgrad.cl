<%!
from clnn.codegen.convolution import SHAPE
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.taps import Taps

def choose(p, target):
    if target.is_cpu:
        vector = next(v for v in (16, 8, 4, 1) if p.K % v == 0) if p.inner == "channels" and p.K == p.C else 1
        return {"LANES": 1, "CHANNELS": 1, "VECTOR": vector if p.inner == "channels" else 8}
    return {"LANES": 128, "CHANNELS": 1} if p.inner == "columns" else {"LANES": 8, "CHANNELS": 32}

def channels_of(t, p):
    """Channels of a work-group."""
    return t.VECTOR if t.LANES == 1 and p.inner == "channels" else t.CHANNELS

KERNEL = Kernel(
    summary="Gradient of a depthwise convolution in its filters: the sums over part of the rows of all images, all taps at once.",
    reads=("x", "dy"),
    stores=("part", "sums"),
    problem={**SHAPE, "x_strides": "of (N, C, H, W) in x", "dy_strides": "of (N, K, P, Q) in dy",
             "parts": "into which the N P rows are cut", "inner": "what lies side by side: columns or channels"},
    tunables=(Tunable("LANES", (1, 8, 32, 64, 128, 256), 128, 4, "items that share a channel; 1 on CPUs"),
              Tunable("CHANNELS", (1, 8, 16, 32), 1, 3, "channels of a work-group"),
              Tunable("VECTOR", (1, 4, 8, 16), 1, 1, "with LANES 1: columns, or channels, that an item takes together")),
    constraints=(Constraint(lambda p, t, target: t.LANES & (t.LANES - 1) == 0, "the tree needs a power of two of items"),
                 Constraint(lambda p, t, target: t.LANES > 1 or t.CHANNELS == 1,
                            "an item of its own takes one channel or one vector of them"),
                 Constraint(lambda p, t, target: t.VECTOR == 1 or t.LANES == 1,
                            "items that share a channel read single elements"),
                 Constraint(lambda p, t, target: t.VECTOR == 1 or p.inner == "columns" or p.K == p.C and p.K % t.VECTOR == 0,
                            "the vector does not fit the channels")),
    choose=choose,
    global_size=lambda p, t: (-(-p.K // channels_of(t, p)) * p.parts * t.LANES * t.CHANNELS,),
    local_size=lambda p, t: (t.LANES * t.CHANNELS,),
    local_bytes=lambda p, t: 4 * t.LANES * t.CHANNELS if t.LANES > 1 else 0,
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
${signature}
{
    const int block = get_group_id(0) % ${-(-p.K // over)}, part = get_group_id(0) / ${-(-p.K // over)};
    const int start = part * ${span}, stop = start + ${span} < ${p.N * p.P} ? start + ${span} : ${p.N * p.P};
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
