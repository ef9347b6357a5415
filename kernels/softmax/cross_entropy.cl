<%!
from clnn.codegen.header import Kernel
from clnn.codegen.rowwise import CONSTRAINTS, PROBLEM, TUNABLES, choose_rows, keeps, row_group, row_items

KERNEL = Kernel(
    summary="Any of: the cross-entropy of each row, its gradient in the logits, whether the largest logit is the label.",
    reads=("x", "labels", "g"),
    stores=("rows", "grad", "hits"),
    problem=PROBLEM | {"soft": "whether labels are a weight per class instead of class numbers", "smoothing": "label smoothing",
                       "ignore": "the class number whose rows do not count, or None"},
    tunables=TUNABLES,
    constraints=CONSTRAINTS,
    choose=choose_rows,
    global_size=row_items,
    local_size=row_group,
    local_bytes=lambda p, t: 28 * t.LANES if t.LANES > 1 else 0,
)

def number(value):
    return f"{value!r}f"
%>
<%namespace name="rows" file="/lib/rowwise.mako"/>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
loss, grad, hits = has("rows"), has("grad"), has("hits")
kept = grad and keeps(p, t)
exponential = "kept[k]" if kept else "exp(x[at] - top)"
flat, sharp = number(p.smoothing / p.extent), number(1.0 - p.smoothing)     # what smoothing gives each class, and leaves the label
weight = f"(labels[at] * {sharp} + {flat})" if p.soft else flat
weighted = loss and (p.soft or p.smoothing)     # whether the loss needs the weighted sum of all logits
aimed = hits and p.soft                         # whether the class of the largest weight is needed
sums = [name for name, wanted in (("total", loss or grad), ("mass", p.soft and (loss or grad)), ("product", weighted)) if wanted]
target = weight if p.soft else f"(k == label ? {number(1.0 - p.smoothing + p.smoothing / p.extent)} : {flat})"
ignored = p.ignore is not None and not p.soft
lead = "if (lane == 0) " if t.LANES > 1 else ""
%>
${signature}
{
% if t.LANES > 1:
    __local float tops[${t.LANES}]${"".join(f", {name}_parts[{t.LANES}]" for name in sums)}${f", mosts[{t.LANES}]" if aimed else ""};
    __local int places[${t.LANES}]${f", aims[{t.LANES}]" if aimed else ""};
% endif
<%rows:each p="${p}" t="${t}">
        // The largest logit, the first of equals.
        float top = x[start]${", most = labels[start]" if aimed else ""};
        int place = 0${", aim = 0" if aimed else ""};
<%rows:elements p="${p}" t="${t}">
            if (x[at] > top) { top = x[at]; place = k; }
% if aimed:
            if (labels[at] > most) { most = labels[at]; aim = k; }
% endif
</%rows:elements>
% if t.LANES > 1:
        tops[item] = top;
        places[item] = place;
% if aimed:
        mosts[item] = most;
        aims[item] = aim;
% endif
<%tree:join lanes="${t.LANES}">
% for value, position in (("tops", "places"), ("mosts", "aims")) if aimed else (("tops", "places"),):
            if (${value}[other] > ${value}[item] || (${value}[other] == ${value}[item] && ${position}[other] < ${position}[item])) {
                ${value}[item] = ${value}[other];
                ${position}[item] = ${position}[other];
            }
% endfor
</%tree:join>
        top = tops[0];
        place = places[0];
% if aimed:
        aim = aims[0];
% endif
% endif
% if not p.soft:
        // A label that is no class makes the row NaN, and nothing is read for it.
        const int label = labels[row];
        const bool known = label >= 0 && label < ${p.extent};
% endif
% if sums:
% if kept:
        float kept[${p.extent}];
% endif
        float ${", ".join(f"{name} = 0.0f" for name in sums)};
<%rows:elements p="${p}" t="${t}">
% if kept:
            kept[k] = exp(x[at] - top);
% endif
            total += ${exponential};
% if "mass" in sums:
            mass += ${weight};
% endif
% if "product" in sums:
            product += ${weight} * (x[at] - top);
% endif
</%rows:elements>
% if t.LANES > 1:
% for name in sums:
        ${name}_parts[item] = ${name};
% endfor
<%tree:join lanes="${t.LANES}">
            ${" ".join(f"{name}_parts[item] += {name}_parts[other];" for name in sums)}
</%tree:join>
% for name in sums:
        ${name} = ${name}_parts[0];
% endfor
% endif
% endif
% if loss:
% if p.soft:
        const float loss = mass * log(total) - product;
% else:
        float loss = known ? log(total) - ${sharp} * (x[known ? start + (index_t)label * ${p.inner} : start] - top)${" - product" if weighted else ""} : NAN;
% if ignored:
        loss = label == ${p.ignore} ? 0.0f : loss;
% endif
% endif
        ${lead}{
            ${store("rows", "row", "loss")}
        }
% endif
% if grad:
        const float factor = ${"g[row]" if p.soft else "known ? g[row] : NAN"}, scale = ${"mass" if p.soft else "1.0f"} / total;
<%rows:elements p="${p}" t="${t}">
            float d = factor * (${exponential} * scale - ${target});
% if ignored:
            d = label == ${p.ignore} ? 0.0f : d;
% endif
            ${store("grad", "at", "d")}
</%rows:elements>
% endif
% if hits:
        ${lead}{
            ${store("hits", "row", f"(place == {'aim' if p.soft else 'label'} ? 1.0f : 0.0f)")}
        }
% endif
</%rows:each>
}
