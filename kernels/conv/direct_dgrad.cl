<%!
from clnn.codegen.convolution import SHAPE, decode
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Gradient of a convolution in its image by the definition, one item per pixel.",
    reads=("dy", "f"),
    stores=("dx",),
    problem={**SHAPE, "dy_strides": "of (N, K, P, Q) in dy", "dims": "(letter, extent) of the result, outermost first"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N * p.C * p.H * p.W, target, cost=2 * p.K // p.groups * p.R * p.S),
    global_size=lambda p, t: walk_items(p.N * p.C * p.H * p.W, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
cg, kg = p.C // p.groups, p.K // p.groups
yn, yk, yp, yq = p.dy_strides
%>
${signature}
{
<%loops:each n="${p.N * p.C * p.H * p.W}" index="i" t="${t}">
        ${decode(p.dims, "i")}
        const int k_first = c / ${cg} * ${kg};
        float total = 0.0f;
        for (int r = 0; r < ${p.R}; ++r) {
            // the output row whose window has this pixel in its row r, if there is one
            const int above = h + ${p.padding[0]} - r * ${p.dilation[0]};
            if (above < 0 || above % ${p.stride[0]} != 0 || above / ${p.stride[0]} >= ${p.P}) continue;
            for (int s = 0; s < ${p.S}; ++s) {
                const int left = w + ${p.padding[2]} - s * ${p.dilation[1]};
                if (left < 0 || left % ${p.stride[1]} != 0 || left / ${p.stride[1]} >= ${p.Q}) continue;
                __global const float* g = dy + (index_t)n * ${yn} + (index_t)(above / ${p.stride[0]}) * ${yp} + left / ${p.stride[1]} * ${yq};
                __global const float* filter = f + (c % ${cg}) * ${p.R * p.S} + r * ${p.S} + s;
                float part = 0.0f;
                for (int k = k_first; k < k_first + ${kg}; ++k) part += g[(index_t)k * ${yk}] * filter[(index_t)k * ${cg * p.R * p.S}];
                total += part;
            }
        }
        ${store("dx", "i", "total")}
</%loops:each>
}
