<%!
from clnn.codegen.channels import CONSTRAINTS, PROBLEM, TUNABLES, channel_group, channel_items, choose_channels, component, load
from clnn.codegen.header import Kernel

KERNEL = Kernel(
    summary="Mean and sum of squared deviations of each part of each channel, stable where the mean is far larger than the deviation.",
    reads=("x",),
    stores=("means", "squares"),
    problem=PROBLEM,
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_channels,
    global_size=channel_items,
    local_size=channel_group,
    local_bytes=lambda p, t: 12 * t.LANES * t.CHANNELS if t.LANES > 1 else 0,
)
CHUNK = 8
%>
<%namespace name="channels" file="/lib/channels.mako"/>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
V, planes = t.VECTOR, p.inner > 1
vec = "float" if V == 1 else f"float{V}"
stat = "float" if planes else vec
def fold(name, rest):
    return "(" + " + ".join([rest, *(component(name, v, V) for v in range(V))]) + ")" if planes else name
%>
${signature}
{
${channels.locate(p, t)}
% if t.LANES == 1:
    // Two passes: the mean, then the deviations from it; the sum of the deviations corrects the rounding error of the first pass.
    const float count = (float)(last - first) * ${p.inner}.0f;
    ${vec} total = 0.0f, run = 0.0f;
    float rest = 0.0f;
<%channels:sweep p="${p}" t="${t}">
<%def name="vector()">run += ${load("x", "at", V)};</%def>
<%def name="single()">rest += x[at];</%def>
<%def name="flush()">total += run; run = 0.0f;</%def>
</%channels:sweep>
    const ${stat} guess = ${fold("total", "rest")} / count;
    ${vec} drift = 0.0f, square = 0.0f, square_run = 0.0f;
    float rest_drift = 0.0f, rest_square = 0.0f;
    run = 0.0f;
<%channels:sweep p="${p}" t="${t}">
<%def name="vector()">const ${vec} d = ${load("x", "at", V)} - guess; run += d; square_run += d * d;</%def>
<%def name="single()">const float d = x[at] - guess; rest_drift += d; rest_square += d * d;</%def>
<%def name="flush()">drift += run; run = 0.0f; square += square_run; square_run = 0.0f;</%def>
</%channels:sweep>
    const ${stat} shift = ${fold("drift", "rest_drift")} / count;
    const ${stat} mean = guess + shift, m2 = ${fold("square", "rest_square")} - shift * shift * count;
% for v in range(1 if planes else V):
    ${store("means", f"part * {p.C} + c + {v}", component("mean", v, 1 if planes else V))}
    ${store("squares", f"part * {p.C} + c + {v}", component("m2", v, 1 if planes else V))}
% endfor
% else:
    // One pass: each item joins the statistics of ${CHUNK} elements at a time to its own (Chan, Golub and LeVeque, 1979).
    __local float means[${t.LANES * t.CHANNELS}], squares[${t.LANES * t.CHANNELS}], counts[${t.LANES * t.CHANNELS}];
    float count = 0.0f, mean = 0.0f, m2 = 0.0f;
    int k = lane;
    for (; k + ${(CHUNK - 1) * t.LANES} < elements; k += ${CHUNK * t.LANES}) {
% for u in range(CHUNK):
        const float v${u} = x[${channels.at(p, f"k + {u * t.LANES}")}];
% endfor
        const float middle = (${" + ".join(f"v{u}" for u in range(CHUNK))}) * ${1 / CHUNK}f;
        float spread = 0.0f;
% for u in range(CHUNK):
        spread += (v${u} - middle) * (v${u} - middle);
% endfor
        const float delta = middle - mean, weight = ${CHUNK}.0f / (count + ${CHUNK}.0f);
        mean += delta * weight;
        m2 += spread + delta * delta * count * weight;
        count += ${CHUNK}.0f;
    }
    for (; k < elements; k += ${t.LANES}) {
        const float v = x[${channels.at(p, "k")}], delta = v - mean;
        count += 1.0f;
        mean += delta / count;
        m2 += delta * (v - mean);
    }
    means[item] = mean;
    squares[item] = m2;
    counts[item] = count;
<%tree:join lanes="${t.LANES}" spread="${t.CHANNELS}">
            const float both = counts[item] + counts[other], delta = means[other] - means[item];
            const float weight = both > 0.0f ? counts[other] / both : 0.0f;
            means[item] += delta * weight;
            squares[item] += squares[other] + delta * delta * counts[item] * weight;
            counts[item] = both;
</%tree:join>
    if (lane == 0 && c < ${p.C}) {
        ${store("means", f"part * {p.C} + c", "means[item]")}
        ${store("squares", f"part * {p.C} + c", "squares[item]")}
    }
% endif
}
