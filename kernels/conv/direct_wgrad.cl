<%!
from clnn.codegen.convolution import SHAPE
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Gradient of a convolution in its filters by the definition, one item per filter element, and in its bias.",
    reads=("x", "dy"),
    stores=("dw", "db"),
    problem={**SHAPE, "x_strides": "of (N, C, H, W) in x", "dy_strides": "of (N, K, P, Q) in dy"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.K * p.C // p.groups * p.R * p.S, target, cost=2 * p.N * p.P * p.Q),
    global_size=lambda p, t: walk_items(p.K * p.C // p.groups * p.R * p.S, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
cg, kg = p.C // p.groups, p.K // p.groups
xn, xc, xh, xw = p.x_strides
yn, yk, yp, yq = p.dy_strides
%>
${signature}
{
<%loops:each n="${p.K * cg * p.R * p.S}" index="i" t="${t}">
        const int s = i % ${p.S}, r = i / ${p.S} % ${p.R}, c = i / ${p.S * p.R} % ${cg}, k = i / ${p.S * p.R * cg};
        __global const float* image = x + (index_t)(k / ${kg} * ${cg} + c) * ${xc};
        __global const float* g = dy + (index_t)k * ${yk};
        float total = 0.0f;
        for (int n = 0; n < ${p.N}; ++n)
            for (int p = 0; p < ${p.P}; ++p) {
                const int h = p * ${p.stride[0]} - ${p.padding[0]} + r * ${p.dilation[0]};
                if (h < 0 || h >= ${p.H}) continue;
                float part = 0.0f;
                for (int q = 0; q < ${p.Q}; ++q) {
                    const int w = q * ${p.stride[1]} - ${p.padding[2]} + s * ${p.dilation[1]};
                    if (w < 0 || w >= ${p.W}) continue;
                    part += image[(index_t)n * ${xn} + (index_t)h * ${xh} + w * ${xw}] * g[(index_t)n * ${yn} + (index_t)p * ${yp} + q * ${yq}];
                }
                total += part;
            }
        ${store("dw", "i", "total")}
% if has("db"):
        if (c == 0 && r == 0 && s == 0) {
            float sum = 0.0f;
            for (int n = 0; n < ${p.N}; ++n)
                for (int p = 0; p < ${p.P}; ++p) {
                    float part = 0.0f;
                    for (int q = 0; q < ${p.Q}; ++q) part += g[(index_t)n * ${yn} + (index_t)p * ${yp} + q * ${yq}];
                    sum += part;
                }
            ${store("db", "k", "sum")}
        }
% endif
</%loops:each>
}
