<%!
from clnn.codegen.header import Kernel
from clnn.codegen.held import CONSTRAINTS, PROBLEM, TUNABLES, channel_entry, choose_held, held_group, held_items

KERNEL = Kernel(
    summary="The gradient of batch normalisation, reading memory once: each group holds its part of a channel until the sums are known.",
    reads=("dy", "x", "mean", "var", "gamma"),
    stores=("dx", "dgamma", "dbeta", "board"),
    problem=PROBLEM,
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=lambda p, target: choose_held(p, target, tensors=2),
    # gamma is read only to be told on the board, once, and dgamma is stored by the group that has found it told
    in_place=(("dgamma", "gamma"),),
    global_size=held_items,
    local_size=held_group,
    local_bytes=lambda p, t: 8 * p.items + 4 * p.across + 4 + t.KEPT * 4 * p.items * p.held,
)
%>
<%namespace name="held" file="/lib/held.mako"/>
<%
vec, split, vectors = held.module.vector(t), held.module.split, range(p.held // t.VECTOR)
scale = "gamma[c] * invstd"
x = [f"kept[{u * p.items} + item]" if t.KEPT else f"v{u}" for u in vectors]
%>
<%def name="load(part)">
        begin = ${held.begin(p, t, part)};
<%held:each p="${p}" t="${t}" args="u, at, there">
        ${x[u]} = ${held.fetch(t, "x", at, there, " - m")};
</%held:each>
<%held:each p="${p}" t="${t}" args="u, at, there">
        g${u} = ${held.fetch(t, "dy", at, there)};
</%held:each>
</%def>
<%def name="join(entries=None)">
<%held:fold p="${p}" entries="${entries}" args="n, step, there">
            float sum = 0.0f, product = 0.0f;
            #pragma unroll
            for (int j = 0; j < ${n}; ++j) ${there}{
                sum += sums[item + j * ${step}];
                product += products[item + j * ${step}];
            }
            sums[item] = sum;
            products[item] = product;
</%held:fold>
</%def>
<%def name="sum_up()">
        // Of dy, and of dy (x - mean): what this item holds, then the whole part.
        ${vec} total = 0.0f, weighted = 0.0f;
% for u in vectors:
        total += g${u};
        weighted += g${u} * ${x[u]};
% endfor
        sums[item] = ${" + ".join(split("total", t))};
        products[item] = ${" + ".join(split("weighted", t))};
        ${join()}
</%def>
${signature}
{
    __local float sums[${p.items}], products[${p.items}];
    ${held.locate(p)}
    const float m = c < ${p.C} ? mean[c] : 0.0f, invstd = c < ${p.C} ? 1.0f / sqrt(var[c] + ${repr(p.eps)}f) : 0.0f;
    ${vec} ${", ".join(f"g{u}" for u in vectors)};
    ${f"__local {vec} kept[{len(vectors) * p.items}]" if t.KEPT else f"{vec} " + ", ".join(x)};
    int begin;
% if p.parts == 1:
    ${load("0")}
    ${sum_up()}
    const float scale = c < ${p.C} ? ${scale} : 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);      // before dgamma may overwrite gamma
% else:
    __local float scales[${p.across}];
<%held:agree p="${p}" t="${t}" load="${load}" sum_up="${sum_up}" join="${join}" others="${1}">
<%def name="tell()">
            if (mine == 0) ${held.tell_first(channel_entry(p), scale)}
            ${held.tell(p, "sums[item]", "products[item]")}
</%def>
<%def name="begin()">
        float sum = 0.0f, product = 0.0f;
</%def>
<%def name="look()">
            ${held.find(p, "its_sum", "its_product")}
            sum += its_sum;
            product += its_product;
</%def>
<%def name="end()">
        if (lane == ${p.items // p.across - 1} && c < ${p.C}) {       // which mostly has no part to look for
            ${held.look(["its_scale"], channel_entry(p))}
            scales[item % ${p.across}] = its_scale;
            if (found == 0) missing = 0;
        }
        sums[item] = sum;
        products[item] = product;
</%def>
</%held:agree>
    const float scale = scales[item % ${p.across}];
% endif

    if (c < ${p.C}) {
        const float sum = sums[item % ${p.across}];
        const float product = products[item % ${p.across}] * invstd, share = -scale * ${repr(1 / (p.outer * p.inner))}f;
        const float slope = share * invstd * product, offset = share * sum;
        if (part == 0 && lane == 0) {
            ${store("dgamma", "c", "product")}
            ${store("dbeta", "c", "sum")}
        }
<%held:each p="${p}" t="${t}" args="u, at, there">
        ${held.put(t, "dx", at, there, [f"{g} * scale + {a} * slope + offset" for g, a in zip(split(f"g{u}", t), split(x[u], t))])}
</%held:each>
    }
% if p.parts > 1:
    ${held.leave(p, t, 1)}
% endif
}
