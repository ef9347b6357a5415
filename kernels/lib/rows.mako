<%doc>
How a kernel walks over the elements of a tensor whose coordinates it needs. `axes` are its physical dimensions (clnn.codegen.windows.Axis), outermost
first; the body sees the position i and a variable named after each axis. With GROUP 1 (CPUs) an item takes whole rows, that is runs of the innermost
dimension, so that the inner loop divides nothing and can be vectorised; with larger groups (GPUs) neighbouring items take neighbouring elements.
</%doc>
<%!
from clnn.codegen.windows import walk_text
%>
<%def name="each(n, axes, t)">
<%
inner = axes[-1]
rows = n // inner.extent
per_item = max(t.CHUNK // inner.extent, 1)
%>
% if t.GROUP == 1:
    const index_t first_row = (index_t)get_global_id(0) * ${per_item};
    const index_t last_row = first_row + ${per_item} < ${rows} ? first_row + ${per_item} : ${rows};
    for (index_t row = first_row; row < last_row; ++row) {
        ${"\n        ".join(walk_text(axes[:-1], "row"))}
        for (int ${inner.name} = 0; ${inner.name} < ${inner.extent}; ++${inner.name}) {
            const index_t i = row * ${inner.extent} + ${inner.name};
            ${caller.body()}
        }
    }
% else:
    for (index_t i = get_global_id(0); i < ${n}; i += get_global_size(0)) {
        ${"\n        ".join(walk_text(axes, "i"))}
        ${caller.body()}
    }
% endif
</%def>
