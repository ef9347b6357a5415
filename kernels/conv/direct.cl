<%!
from clnn.codegen.convolution import SHAPE, decode
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Convolution by its definition, one item per output element; applies to any shape, and suits depthwise filters.",
    reads=("x", "f"),
    stores=("y",),
    problem={**SHAPE, "x_strides": "of (N, C, H, W) in x", "dims": "(letter, extent) of the result, outermost first"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N * p.K * p.P * p.Q, target, cost=2 * p.C // p.groups * p.R * p.S),
    global_size=lambda p, t: walk_items(p.N * p.K * p.P * p.Q, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
cg, kg = p.C // p.groups, p.K // p.groups
xn, xc, xh, xw = p.x_strides
%>
${signature}
{
<%loops:each n="${p.N * p.K * p.P * p.Q}" index="i" t="${t}">
        // c, h and w are the output's channel, row and column here
        ${decode(p.dims, "i")}
        const int top = h * ${p.stride[0]} - ${p.padding[0]}, left = w * ${p.stride[1]} - ${p.padding[2]};
        __global const float* image = x + (index_t)n * ${xn} + (index_t)(c / ${kg} * ${cg}) * ${xc};
        __global const float* filter = f + (index_t)c * ${cg * p.R * p.S};
        float total = 0.0f;
        for (int channel = 0; channel < ${cg}; ++channel) {
            float part = 0.0f;
            for (int r = 0; r < ${p.R}; ++r) {
                const int row = top + r * ${p.dilation[0]};
                if (row < 0 || row >= ${p.H}) continue;
                for (int s = 0; s < ${p.S}; ++s) {
                    const int col = left + s * ${p.dilation[1]};
                    if (col < 0 || col >= ${p.W}) continue;
                    part += image[(index_t)channel * ${xc} + (index_t)row * ${xh} + col * ${xw}] * filter[(channel * ${p.R} + r) * ${p.S} + s];
                }
            }
            total += part;
        }
        ${store("y", "i", "total")}
</%loops:each>
}
