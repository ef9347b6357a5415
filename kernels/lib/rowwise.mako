<%doc>
Walks over rows and over the elements of a row; see clnn/codegen/rowwise.py. With LANES 1 an item takes whole rows, otherwise the items of a work-group
share a row and declare what they join in local memory before the walk.
</%doc>
<%! from clnn.codegen.rowwise import held, row_start %>
<%namespace name="loops" file="/lib/loops.mako"/>
<%def name="each(p, t)">
% if t.LANES == 1:
<%loops:each n="${p.rows}" index="row" t="${t}">
        const index_t start = ${row_start(p, "row")};
        ${caller.body()}
</%loops:each>
% else:
        const int row = get_group_id(0), item = get_local_id(0), lane = item;
        const index_t start = ${row_start(p, "row")};
        ${caller.body()}
% endif
</%def>
## The elements of a row. Where ``held(p, t)``, the body may keep what belongs to each in arrays at ``u``, which are registers then.
<%def name="elements(p, t)">
% if held(p, t):
        #pragma unroll
        for (int u = 0; u < ${held(p, t)}; ++u) {
            const int k = lane + u * ${t.LANES};
            const index_t at = start + (index_t)k${f" * {p.inner}" if p.inner > 1 else ""};
            ${f"if (k < {p.extent}) " if p.extent % t.LANES else ""}{ ${caller.body()} }
        }
% else:
        for (int k = ${"0" if t.LANES == 1 else "lane"}; k < ${p.extent}; k += ${t.LANES}) {
            const index_t at = start + (index_t)k${f" * {p.inner}" if p.inner > 1 else ""};
            ${caller.body()}
        }
% endif
</%def>
