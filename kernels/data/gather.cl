<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Takes a batch out of a data set on the device: gather by index, scale, normalise, crop and flip.",
    reads=("images", "labels", "order", "cursor", "seed", "step"),
    stores=("x", "y"),
    problem={"batch": "samples taken", "total": "samples there are", "C": "channels", "H": "rows", "W": "columns",
             "factor": "per channel", "offset": "per channel", "crop": "largest shift in pixels", "flip": "mirror every other image"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.batch * p.C * p.H * p.W, target),
    global_size=lambda p, t: walk_items(p.batch * p.C * p.H * p.W, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%namespace name="philox" file="/lib/philox.mako"/>
<%
sample = p.C * p.H * p.W
random = p.crop or p.flip
def per_channel(values):
    """C text that picks a channel's constant."""
    if len(set(values)) == 1:
        return f"{values[0]!r}f"
    text = f"{values[-1]!r}f"
    for number in reversed(range(len(values) - 1)):
        text = f"(c == {number} ? {values[number]!r}f : {text})"
    return text
%>
% if random:
${philox.functions()}
% endif
${signature}
{
    const int first = cursor[0];
<%loops:each n="${p.batch * sample}" index="i" t="${t}">
        const int b = i / ${sample};
        const index_t picked = order[(first + b) % ${p.total}];
        const int c = i / ${p.H * p.W} % ${p.C};
% if random:
        // three numbers per image, the same for all its pixels
        int h = i / ${p.W} % ${p.H}, w = i % ${p.W};
% if p.flip:
        if (clnn_uniform((uint)seed[0], (uint)step[0], 0xC0DEu, (uint)(b * 4 + 2)) < 0.5f) w = ${p.W - 1} - w;
% endif
% if p.crop:
        h += (int)(clnn_uniform((uint)seed[0], (uint)step[0], 0xC0DEu, (uint)(b * 4)) * ${2 * p.crop + 1}.0f) - ${p.crop};
        w += (int)(clnn_uniform((uint)seed[0], (uint)step[0], 0xC0DEu, (uint)(b * 4 + 1)) * ${2 * p.crop + 1}.0f) - ${p.crop};
% endif
        const bool inside = h >= 0 && h < ${p.H} && w >= 0 && w < ${p.W};
        const float v = inside ? (float)images[picked * ${sample} + (c * ${p.H} + h) * ${p.W} + w] : 0.0f;
% else:
        const float v = (float)images[picked * ${sample} + i % ${sample}];
% endif
        ${store("x", "i", f"v * {per_channel(p.factor)} + ({per_channel(p.offset)})")}
        if (i % ${sample} == 0) {
            ${store("y", "b", "labels[picked]")}
        }
</%loops:each>
}
