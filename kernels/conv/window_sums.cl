<%!
from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.window_sums import choose, chunks, cut

KERNEL = Kernel(
    summary="Gradient of few-channel filters: a work-group sums all their elements over part of the results; rows of the image, which"
            " many windows share, lie in local memory.",
    reads=("x", "dy"),
    stores=("part", "sums"),
    problem={"N": "images", "groups": "independent groups of channels", "C": "channels of a group of the image",
             "K": "channels of a group of the results", "H": "rows of the image", "W": "columns of the image",
             "P": "rows of results", "Q": "columns of results", "R": "filter rows", "S": "filter columns",
             "stride": "(vertical, horizontal)", "padding": "(top, left)", "dilation": "(vertical, horizontal)",
             "x_strides": "of (N, C, H, W) in x", "dy_strides": "of (N, K, P, Q) in dy",
             "parts": "into which the results are cut", "bias": "1 if the results are summed as well, else 0"},
    tunables=(Tunable("TM", (2, 4, 8), 8, 3, "output channels of an item"),
              Tunable("TN", (1, 2, 3, 4, 5, 6, 7, 8), 4, 2, "filter elements of an item, for each of these"),
              Tunable("COLS", (8, 16, 32, 64), 32, 12, "results of a row that are in local memory at once"),
              Tunable("LIMIT", (64, 128, 256), 256, 70, "items of a work-group, at most")),
    constraints=(Constraint(lambda p, t, target: cut(p, t).items <= t.LIMIT, "a work-group must have all elements of a filter"),),
    choose=choose,
    global_size=lambda p, t: (p.groups * -(-p.K // cut(p, t).block) * p.parts * cut(p, t).items,),
    local_size=lambda p, t: (cut(p, t).items,),
    local_bytes=lambda p, t: 4 * cut(p, t).floats,
    seeds=tuple({"TM": tm, "TN": tn, "COLS": cols} for tm in (4, 8) for tn in (3, 4, 5, 7) for cols in (16, 32, 64)),
)
%>
<%
c = cut(p, t)
xn, xc, xh, xw = p.x_strides
yn, yk, yp, yq = p.dy_strides
window = p.C * p.R * p.S
blocks = -(-p.K // c.block)
pieces = -(-p.Q // t.COLS)
total = chunks(p, t.COLS)
share = -(-total // p.parts)
quads = t.COLS // 4
wide = yq == 1 and p.Q % 4 == 0 and all(step % 4 == 0 for step in (yn, yk, yp))
loads_y = -(-(c.block * (quads if wide else t.COLS)) // c.items)
loads_x = -(-(p.C * p.R * c.span) // c.items)
kind = "float4" if wide else "float"

def fetch(chunk):
    """Statements that load what a chunk needs into registers; what lies outside is zero."""
    lines = [f"const int piece = {chunk} % {pieces}, row = {chunk} / {pieces}, p = row % {p.P}, n = row / {p.P};",
             f"const int q0 = piece * {t.COLS}, top = p * {p.stride[0]} - {p.padding[0]}, left = q0 * {p.stride[1]} - {p.padding[1]};",
             f"__global const float* from_y = dy + ((index_t)n * {yn} + (index_t)(g * {p.K} + k0) * {yk} + (index_t)p * {yp} + (index_t)q0 * {yq});",
             f"__global const float* from_x = x + ((index_t)n * {xn} + (index_t)(g * {p.C}) * {xc});"]
    per_row = quads if wide else t.COLS
    for i in range(loads_y):
        e = f"item + {i * c.items}"
        guards = [f"{e} < {c.block * per_row}"] if (i + 1) * c.items > c.block * per_row else []
        guards += [f"k0 + k < {p.K}"] if p.K % c.block else []
        guards += [f"q0 + q < {p.Q}"] if p.Q % t.COLS else []
        at = f"from_y + ((index_t)k * {yk} + q{'' if yq == 1 else f' * {yq}'})"
        value = f"*(__global const {kind}*)({at})"
        lines.append(f"{{ const int k = ({e}) / {per_row}, q = ({e}) % {per_row}{' * 4' if wide else ''}; "
                     f"next_y{i} = {' && '.join(guards)} ? {value} : ({kind})(0.0f); }}" if guards else
                     f"{{ const int k = ({e}) / {per_row}, q = ({e}) % {per_row}{' * 4' if wide else ''}; next_y{i} = {value}; }}")
    for i in range(loads_x):
        e = f"item + {i * c.items}"
        guards = [f"{e} < {p.C * p.R * c.span}"] if (i + 1) * c.items > p.C * p.R * c.span else []
        guards += [f"(uint)h < {p.H}u", f"(uint)w < {p.W}u"]
        lines.append(f"{{ const int line = ({e}) / {c.span}, h = top + line % {p.R} * {p.dilation[0]}, w = left + ({e}) % {c.span}; "
                     f"next_x{i} = {' && '.join(guards)} ? from_x[(index_t)(line / {p.R}) * {xc} + (index_t)h * {xh} + w * {xw}] : 0.0f; }}")
    return "\n            ".join(lines)

def stage():
    """Statements that bring the loaded elements to local memory."""
    lines, per_row = [], quads if wide else t.COLS
    for i in range(loads_y):
        e = f"item + {i * c.items}"
        text = (f"*(__local {kind}*)(grads + ({e}) / {per_row} * {c.pitch_y} + ({e}) % {per_row}{' * 4' if wide else ''}) = next_y{i};")
        lines.append(f"if ({e} < {c.block * per_row}) {text}" if (i + 1) * c.items > c.block * per_row else text)
    for i in range(loads_x):
        e = f"item + {i * c.items}"
        text = f"pixels[({e}) / {c.span} * {c.pitch} + ({e}) % {c.span}] = next_x{i};"
        lines.append(f"if ({e} < {p.C * p.R * c.span}) {text}" if (i + 1) * c.items > p.C * p.R * c.span else text)
    return "\n            ".join(lines)
%>
${signature}
{
    __local float grads[${c.block * c.pitch_y}] __attribute__((aligned(16)));
    __local float pixels[${c.area}];
    __local float shared_sums[${c.items}];
    const int item = get_local_id(0), lane = item % ${c.lanes}, filter = item / ${c.lanes} % ${c.filters}, slice = item / ${c.lanes * c.filters};
    const int block = get_group_id(0) % ${blocks * p.groups}, part = get_group_id(0) / ${blocks * p.groups};
    const int g = block / ${blocks}, k0 = block % ${blocks} * ${c.block};
    const int start = part * ${share}, stop = start + ${share} < ${total} ? start + ${share} : ${total};
    ${" ".join(f"float a{m}_{n} = 0.0f;" for m in range(t.TM) for n in range(t.TN))}
    // Where an item's filter elements look in the rows of pixels, and those that hang over, anywhere.
% for n in range(t.TN):
    const int tap${n} = lane + ${n * c.lanes};
    const int look${n} = slice * ${t.COLS // c.slices * p.stride[1]} + (tap${n} < ${window} ? tap${n} / ${p.S} * ${c.pitch} + tap${n} % ${p.S} * ${p.dilation[1]} : ${f"tap{n} == {window} ? {p.C * p.R * c.pitch} : 0" if p.bias else 0});
% endfor
% if p.bias:
    // The element that follows the filter's own sees only ones: so it becomes the gradient of the bias.
    for (int e = item; e < ${c.span}; e += ${c.items}) pixels[${p.C * p.R * c.pitch} + e] = 1.0f;
% endif
    ${" ".join(f"{kind} next_y{i} = ({kind})(0.0f);" for i in range(loads_y))}
    ${" ".join(f"float next_x{i} = 0.0f;" for i in range(loads_x))}
    if (start < stop) {
            ${fetch("start")}
    }
    for (int chunk = start; chunk < stop; ++chunk) {
            ${stage()}
        barrier(CLK_LOCAL_MEM_FENCE);
        if (chunk + 1 < stop) {
            ${fetch("(chunk + 1)")}
        }
        __local const float* grad = grads + filter * ${c.pitch_y} + slice * ${t.COLS // c.slices};
        __local const float* pixel = pixels;
        #pragma unroll 1
        for (int q = 0; q < ${t.COLS // c.slices}; q += 4, grad += 4, pixel += ${4 * p.stride[1]}) {
            ${" ".join(f"const float4 g{m} = *(__local const float4*)(grad + {m * c.filters * c.pitch_y});" for m in range(t.TM))}
% for n in range(t.TN):
            {
                ${" ".join(f"const float v{u} = pixel[look{n} + {u * p.stride[1]}];" for u in range(4))}
                ${" ".join(f"a{m}_{n} += g{m}.s{u} * v{u};" for u in range(4) for m in range(t.TM))}
            }
% endfor
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
% for m in range(t.TM):
% for n in range(t.TN):
    {
% if c.slices > 1:
        shared_sums[item] = a${m}_${n};
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice == 0) a${m}_${n} = ${" + ".join(f"shared_sums[item + {s * c.lanes * c.filters}]" for s in range(c.slices))};
        barrier(CLK_LOCAL_MEM_FENCE);
% endif
        const int k = k0 + filter + ${m * c.filters};
        if (slice == 0 && k < ${p.K}) {
            const index_t row = (index_t)part * ${p.groups * p.K} + g * ${p.K} + k;
            if (tap${n} < ${window}) ${store("part", f"row * {window} + tap{n}", f"a{m}_{n}")}
% if has("sums"):
            else if (tap${n} == ${window}) ${store("sums", "row", f"a{m}_{n}")}
% endif
        }
    }
% endfor
% endfor
}
