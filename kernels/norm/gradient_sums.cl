<%!
from clnn.codegen.channels import CONSTRAINTS, PROBLEM, TUNABLES, channel_group, channel_items, choose_channels, component, load
from clnn.codegen.header import Kernel

KERNEL = Kernel(
    summary="Sums of dy and of dy (x - mean) of each part of each channel; the first part also writes gamma / sqrt(var + eps).",
    reads=("dy", "x", "mean", "var", "gamma"),
    stores=("sums", "dots", "scale"),
    problem=PROBLEM | {"eps": "added to the variance"},
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_channels,
    global_size=channel_items,
    local_size=channel_group,
    local_bytes=lambda p, t: 8 * t.LANES * t.CHANNELS if t.LANES > 1 else 0,
)
UNROLL = 4
%>
<%namespace name="channels" file="/lib/channels.mako"/>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
V, planes = t.VECTOR, p.inner > 1
vec = "float" if V == 1 else f"float{V}"
def fold(name, rest):
    return "(" + " + ".join([rest, *(component(name, v, V) for v in range(V))]) + ")"
def scale(c):
    return f"gamma[{c}] / sqrt(var[{c}] + {p.eps!r}f)"
%>
${signature}
{
${channels.locate(p, t)}
% if t.LANES == 1:
    const ${"float" if planes else vec} m = ${"mean[c]" if planes else load("mean", "c", V)};
    ${vec} sum = 0.0f, product = 0.0f, sum_run = 0.0f, product_run = 0.0f;
    float sum_rest = 0.0f, product_rest = 0.0f;
<%channels:sweep p="${p}" t="${t}">
<%def name="vector()">const ${vec} g = ${load("dy", "at", V)}; sum_run += g; product_run += g * (${load("x", "at", V)} - m);</%def>
<%def name="single()">sum_rest += dy[at]; product_rest += dy[at] * (x[at] - m);</%def>
<%def name="flush()">sum += sum_run; sum_run = 0.0f; product += product_run; product_run = 0.0f;</%def>
</%channels:sweep>
% for v in range(1 if planes else V):
    ${store("sums", f"part * {p.C} + c + {v}", fold("sum", "sum_rest") if planes else component("sum", v, V))}
    ${store("dots", f"part * {p.C} + c + {v}", fold("product", "product_rest") if planes else component("product", v, V))}
% endfor
    if (part == 0) {
% for v in range(1 if planes else V):
        ${store("scale", f"c + {v}", scale(f"c + {v}"))}
% endfor
    }
% else:
    // ${UNROLL} loads at a time hide the latency of memory; a tree joins what the items have found.
    __local float sum[${t.LANES * t.CHANNELS}], product[${t.LANES * t.CHANNELS}];
    const float m = c < ${p.C} ? mean[c] : 0.0f;
% for u in range(UNROLL):
    float sum${u} = 0.0f, product${u} = 0.0f;
% endfor
    int k = lane;
    for (; k + ${(UNROLL - 1) * t.LANES} < elements; k += ${UNROLL * t.LANES}) {
% for u in range(UNROLL):
        const index_t at${u} = ${channels.at(p, f"k + {u * t.LANES}")};
        const float g${u} = dy[at${u}], v${u} = x[at${u}];
% endfor
% for u in range(UNROLL):
        sum${u} += g${u};
        product${u} += g${u} * (v${u} - m);
% endfor
    }
    for (; k < elements; k += ${t.LANES}) {
        const index_t at = ${channels.at(p, "k")};
        sum0 += dy[at];
        product0 += dy[at] * (x[at] - m);
    }
    sum[item] = ${" + ".join(f"sum{u}" for u in range(UNROLL))};
    product[item] = ${" + ".join(f"product{u}" for u in range(UNROLL))};
<%tree:join lanes="${t.LANES}" spread="${t.CHANNELS}">
            sum[item] += sum[other];
            product[item] += product[other];
</%tree:join>
    if (lane == 0 && c < ${p.C}) {
        ${store("sums", f"part * {p.C} + c", "sum[item]")}
        ${store("dots", f"part * {p.C} + c", "product[item]")}
        if (part == 0) {
            ${store("scale", "c", scale("c"))}
        }
    }
% endif
}
