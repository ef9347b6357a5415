<%!
from clnn.codegen.header import Kernel
from clnn.codegen.rowwise import CONSTRAINTS, PROBLEM, TUNABLES, choose_rows, held, keeps, row_group, row_items

KERNEL = Kernel(
    summary="Softmax and log-softmax of rows, and their gradients from the result x and its gradient g.",
    reads=("x", "g"),
    stores=("y",),
    problem=PROBLEM | {"kind": "softmax, log_softmax, softmax_grad or log_softmax_grad"},
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_rows,
    global_size=row_items,
    local_size=row_group,
    local_bytes=lambda p, t: 8 * t.LANES if t.LANES > 1 else 0,
)
%>
<%namespace name="rows" file="/lib/rowwise.mako"/>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
forward = p.kind in ("softmax", "log_softmax")
kept, in_registers = p.kind == "softmax" and keeps(p, t), held(p, t) > 0
xv, gv = ("xs[u]", "gs[u]") if in_registers else ("x[at]", "g[at]")
# what is summed over the row, and the result for one element
term = {"softmax": f"exp({xv} - top)", "log_softmax": f"exp({xv} - top)", "softmax_grad": f"{gv} * {xv}", "log_softmax_grad": gv}[p.kind]
if p.kind == "softmax" and in_registers:
    term, result = "(xs[u] = exp(xs[u] - top))", "xs[u] * scale"
else:
    result = {"softmax": f"{'kept[k]' if kept else 'exp(x[at] - top)'} * scale", "log_softmax": f"({xv} - top) - scale",
              "softmax_grad": f"{xv} * ({gv} - total)", "log_softmax_grad": f"{gv} - exp({xv}) * total"}[p.kind]
scale = {"softmax": "1.0f / total", "log_softmax": "log(total)"}.get(p.kind)
%>
${signature}
{
% if t.LANES > 1:
    __local float tops[${t.LANES}], totals[${t.LANES}];
% endif
<%rows:each p="${p}" t="${t}">
% if in_registers:
        // Each element is read once.
        float xs[${held(p, t)}]${"" if forward else f", gs[{held(p, t)}]"};
<%rows:elements p="${p}" t="${t}">
            xs[u] = x[at];${"" if forward else " gs[u] = g[at];"}
</%rows:elements>
% endif
% if forward:
        // The largest element is taken off first, so that no exponential overflows.
        float top = x[start];
<%rows:elements p="${p}" t="${t}">
            top = (${xv} > top || ${xv} != ${xv}) ? ${xv} : top;
</%rows:elements>
% if t.LANES > 1:
        tops[item] = top;
<%tree:join lanes="${t.LANES}">
            tops[item] = (tops[other] > tops[item] || tops[other] != tops[other]) ? tops[other] : tops[item];
</%tree:join>
        top = tops[0];
% endif
% endif
        float total = 0.0f;
% if kept:
        float kept[${p.extent}];
% endif
<%rows:elements p="${p}" t="${t}">
            ${f"kept[k] = {term}; total += kept[k];" if kept else f"total += {term};"}
</%rows:elements>
% if t.LANES > 1:
        totals[item] = total;
<%tree:join lanes="${t.LANES}">
            totals[item] += totals[other];
</%tree:join>
        total = totals[0];
% endif
% if scale:
        const float scale = ${scale};
% endif
<%rows:elements p="${p}" t="${t}">
            ${store("y", "at", result)}
</%rows:elements>
</%rows:each>
}
