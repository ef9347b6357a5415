<%!
from clnn.codegen.header import Kernel
from clnn.codegen.held import CONSTRAINTS, PROBLEM, TUNABLES, choose_held, held_group, held_items, last_size, part_size

KERNEL = Kernel(
    summary="Batch normalisation that reads memory once: each group holds its part of a channel until the statistics are known.",
    reads=("x", "gamma", "beta"),
    stores=("y", "mean", "var", "board"),
    problem=PROBLEM,
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_held,
    global_size=held_items,
    local_size=held_group,
    local_bytes=lambda p, t: 12 * p.items + 4 + 4 * t.KEPT * p.items * (p.held - p.held // t.VECTOR // 2 * t.VECTOR),
)
%>
<%namespace name="held" file="/lib/held.mako"/>
<%
V, vec, split = t.VECTOR, held.module.vector(t), held.module.split
vectors = p.held // V
close = vectors // 2 if t.KEPT else vectors         # those in registers
def v(u):
    """C text for a vector by its number, or by the variable that has it."""
    return f"kept[({u} - {close}) * {p.items} + item]" if u == "u" else f"v{u}"
%>
<%def name="load(part)">
        begin = ${held.begin(p, t, part)};
<%held:each p="${p}" t="${t}" close="${close}" args="u, at, there">
        ${v(u)} = ${held.fetch(t, "x", at, there)};
</%held:each>
</%def>
<%def name="join(entries=None)">
<%held:fold p="${p}" entries="${entries}" args="n, step, there">
            float amount = 0.0f, mean = 0.0f, square = 0.0f;
            #pragma unroll
            for (int j = 0; j < ${n}; ++j) ${there}{
                const float here = counts[item + j * ${step}];
                amount += here;
                mean += here * means[item + j * ${step}];
            }
            mean = amount > 0.0f ? mean / amount : 0.0f;
            #pragma unroll
            for (int j = 0; j < ${n}; ++j) ${there}{
                const float away = means[item + j * ${step}] - mean;
                square += squares[item + j * ${step}] + counts[item + j * ${step}] * away * away;
            }
            means[item] = mean;
            squares[item] = square;
            counts[item] = amount;
</%held:fold>
</%def>
<%def name="sum_up()">
        // The mean of what this item holds, and the squares of the deviations from it; then those of the whole part.
        float own = 0.0f;
        ${vec} total = 0.0f, squared = 0.0f;
        int known = 0;
<%held:each p="${p}" t="${t}" close="${close}" args="u, at, there">
        total += ${v(u)};
        known += ${there or 1};
</%held:each>
        own = known > 0 ? (${" + ".join(split("total", t))}) / (known * ${V}.0f) : 0.0f;
<%held:each p="${p}" t="${t}" close="${close}" args="u, at, there">
        { const ${vec} d = ${f"{there} ? {v(u)} - own : ({vec})(0.0f)" if there else f"{v(u)} - own"}; squared += d * d; }
</%held:each>
        means[item] = own;
        squares[item] = ${" + ".join(split("squared", t))};
        counts[item] = known * ${V}.0f;
        ${join()}
</%def>
${signature}
{
    __local float means[${p.items}], squares[${p.items}], counts[${p.items}];
    ${held.locate(p)}
    const float weight = c < ${p.C} ? gamma[c] : 0.0f, offset = c < ${p.C} ? beta[c] : 0.0f;
    ${f"{vec} " + ", ".join(map(v, range(close))) + ";" if close else ""}
    ${f"__local {vec} kept[{(vectors - close) * p.items}];" if t.KEPT else ""}
    int begin;
% if p.parts == 1:
    ${load("0")}
    ${sum_up()}
% else:
<%held:agree p="${p}" t="${t}" load="${load}" sum_up="${sum_up}" join="${join}">
<%def name="tell()">
            ${held.tell(p, "means[item]", "squares[item]")}
</%def>
<%def name="begin()">
        // Item by item the parts that it looks for, which are one or none where there are as many items.
        float amount = 0.0f, mean = 0.0f, square = 0.0f;
</%def>
<%def name="look()">
            ${held.find(p, "its_mean", "its_square")}
            const float here = other == ${p.parts - 1} ? ${last_size(p)}.0f : ${part_size(p)}.0f, away = its_mean - mean, weight = here / (amount + here);
            mean += away * weight;
            square += its_square + away * away * amount * weight;
            amount += here;
</%def>
<%def name="end()">
        means[item] = mean;
        squares[item] = square;
        counts[item] = amount;
</%def>
</%held:agree>
% endif
    if (c < ${p.C}) {
        const float m = means[item % ${p.across}], variance = squares[item % ${p.across}] * ${repr(1 / (p.outer * p.inner))}f;
        const float slope = weight / sqrt(variance + ${repr(p.eps)}f);
        if (part == 0 && lane == 0) {
            ${store("mean", "c", "m")}
            ${store("var", "c", "variance")}
        }
<%held:each p="${p}" t="${t}" close="${close}" args="u, at, there">
        ${held.put(t, "y", at, there, [f"({element} - m) * slope + offset" for element in split(v(u), t)])}
</%held:each>
    }
% if p.parts > 1:
    ${held.leave(p, t)}
% endif
}
