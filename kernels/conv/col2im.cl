<%!
from clnn.codegen.convolution import SHAPE, decode
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    auxiliary=True,
    summary="Adds up, for each pixel, the columns of the windows that cover it; the gather form, so no atomics.",
    reads=("columns",),
    stores=("dx",),
    problem={**SHAPE, "dims": "(letter, extent) of the result, outermost first"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N * p.C * p.H * p.W, target, cost=2 * p.R * p.S),
    global_size=lambda p, t: walk_items(p.N * p.C * p.H * p.W, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<% pixels = p.N * p.P * p.Q %>
${signature}
{
<%loops:each n="${p.N * p.C * p.H * p.W}" index="i" t="${t}">
        ${decode(p.dims, "i")}
        float total = 0.0f;
        for (int r = 0; r < ${p.R}; ++r) {
            const int above = h + ${p.padding[0]} - r * ${p.dilation[0]};
            if (above < 0 || above % ${p.stride[0]} != 0 || above / ${p.stride[0]} >= ${p.P}) continue;
            for (int s = 0; s < ${p.S}; ++s) {
                const int left = w + ${p.padding[2]} - s * ${p.dilation[1]};
                if (left < 0 || left % ${p.stride[1]} != 0 || left / ${p.stride[1]} >= ${p.Q}) continue;
                const index_t row = ((index_t)c * ${p.R} + r) * ${p.S} + s;
                total += columns[row * ${pixels} + (n * ${p.P} + above / ${p.stride[0]}) * ${p.Q} + left / ${p.stride[1]}];
            }
        }
        ${store("dx", "i", "total")}
</%loops:each>
}
