<%!
from clnn.codegen.channels import component
from clnn.codegen.header import Kernel
from clnn.codegen.held import CONSTRAINTS, PROBLEM, TUNABLES, choose_held, entry, held_group, held_items, part_size

KERNEL = Kernel(
    summary="The gradient of batch normalisation, reading memory once: each group holds its part of a channel until the sums are known.",
    reads=("dy", "x", "mean", "var", "gamma"),
    stores=("dx", "dgamma", "dbeta", "board"),
    problem=PROBLEM,
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_held,
    # gamma is read only to be told on the board, once, and dgamma is stored by the group that has found it told
    in_place=(("dgamma", "gamma"),),
    global_size=held_items,
    local_size=held_group,
    local_bytes=lambda p, t: 8 * p.items + 4 * p.across + 4,
)
%>
<%namespace name="held" file="/lib/held.mako"/>
<%
V, lanes, count, size = t.VECTOR, p.items // p.across, p.outer * p.inner, part_size(p)
vec = "float" if V == 1 else f"float{V}"
vectors = range(p.held // V)
last = count - (p.parts - 1) * size
def split(name):
    return [component(name, i, V) for i in range(V)]
def store_all(name, at, values):
    return store(name, at, values[0]) if V == 1 else store_vector(name, at, values)
%>
<%def name="load(part)">
        begin = ${held.begin(p, t, part)};
<%held:each p="${p}" t="${t}" args="u, at, there">
        g${u} = ${f"{there} ? *(const __global {vec}*)(dy + {at}) : ({vec})(0.0f)" if there else f"*(const __global {vec}*)(dy + {at})"};
        v${u} = ${f"{there} ? *(const __global {vec}*)(x + {at}) - m : ({vec})(0.0f)" if there else f"*(const __global {vec}*)(x + {at}) - m"};
</%held:each>
</%def>
<%def name="join(entries=None)">
<%held:fold lanes="${lanes}" across="${p.across}" entries="${entries}" args="n, step, there">
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
        weighted += g${u} * v${u};
% endfor
        sums[item] = ${" + ".join(split("total"))};
        products[item] = ${" + ".join(split("weighted"))};
        ${join()}
</%def>
<% scale = "gamma[c] * invstd"; scale_entry = f"{2 * p.parts * p.C} + c" %>
${signature}
{
    __local float sums[${p.items}], products[${p.items}];
    ${held.locate(p)}
    const float m = c < ${p.C} ? mean[c] : 0.0f, invstd = c < ${p.C} ? 1.0f / sqrt(var[c] + ${repr(p.eps)}f) : 0.0f;
    ${vec} ${", ".join(f"g{u}, v{u}" for u in vectors)};
    int begin;
% if p.parts == 1:
    ${load("0")}
    ${sum_up()}
    const float scale = c < ${p.C} ? ${scale} : 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);      // before dgamma may overwrite gamma
% else:
    __local float scales[${p.across}];
    __local int missing;
    volatile __global int* const board = (volatile __global int*)board_out0;
    int mine = part, next = part;
    while (next < ${p.parts}) {
        mine = next;
        ${load("mine")}
        ${sum_up()}
        if (lane == 0 && c < ${p.C}) {
            if (mine == 0) ${held.tell(scale_entry, scale, first=True)}
            ${held.tell(entry(p, 0, "mine"), "sums[item]")}
            ${held.tell(entry(p, 1, "mine"), "products[item]")}
        }
        if (item == 0) missing = ${p.parts};
        barrier(CLK_LOCAL_MEM_FENCE);
        float sum = 0.0f, product = 0.0f;
        for (int other = lane; other < ${p.parts} && c < ${p.C}; other += ${lanes}) {
            ${held.look({"found_sum": entry(p, 0, "other"), "found_product": entry(p, 1, "other")})}
            if (found_sum_bits == 0 || found_product_bits == 0) {
                atomic_min(&missing, other);
                break;
            }
            sum += found_sum;
            product += found_product;
        }
        if (lane == ${lanes - 1} && c < ${p.C}) {       // which mostly has no part to look for
            ${held.look({"found_scale": scale_entry})}
            scales[item % ${p.across}] = found_scale;
            if (found_scale_bits == 0) missing = 0;
        }
        sums[item] = sum;
        products[item] = product;
        barrier(CLK_LOCAL_MEM_FENCE);
        next = missing;
        ${join(p.parts)}
    }
    if (mine != part) {
        ${load("part")}
    }
    const float scale = scales[item % ${p.across}];
% endif
    if (c < ${p.C}) {
        const float sum = sums[item % ${p.across}];
        const float product = products[item % ${p.across}] * invstd, share = -scale * ${repr(1 / count)}f;
        const float slope = share * invstd * product, offset = share * sum;
        if (part == 0 && lane == 0) {
            ${store("dgamma", "c", "product")}
            ${store("dbeta", "c", "sum")}
        }
<%held:each p="${p}" t="${t}" args="u, at, there">
        ${f"if {there}" if there else ""} ${store_all("dx", at, [f"{g} * scale + {a} * slope + offset" for g, a in zip(split(f"g{u}"), split(f"v{u}"))])}
</%held:each>
    }
}
