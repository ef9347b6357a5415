<%doc>
Walks over the elements of a channel in a tensor seen as (outer, C, inner); see clnn/codegen/channels.py. An item of its own (LANES 1, CPUs) reads
vectors; vector types are loaded by plain dereferencing, because vload is a real call on some CPU runtimes.
</%doc>
<%! from clnn.codegen.channels import channel_blocks %>
<%def name="locate(p, t)">
% if t.VECTOR > 1:
    typedef float${t.VECTOR} __attribute__((aligned(4))) loose_t;      // a vector that may lie anywhere
% endif
    // This item's channel c, its part, and the outer range [first, last) of that part.
    const int block = get_group_id(0) % ${channel_blocks(p, t)}, part = get_group_id(0) / ${channel_blocks(p, t)};
    const int first = part * ${p.span}, last = first + ${p.span} < ${p.outer} ? first + ${p.span} : ${p.outer};
% if t.LANES == 1:
    const int c = block${f" * {t.VECTOR}" if p.inner == 1 and t.VECTOR > 1 else ""};
% else:
    const int item = get_local_id(0), lane = item / ${t.CHANNELS};
    const int c = block * ${t.CHANNELS} + item % ${t.CHANNELS};
    const int elements = c < ${p.C} ? (last - first) * ${p.inner} : 0;
% endif
</%def>
<%def name="at(p, k)"><% split = p.inner > 1 %>\
((index_t)(first + ${f"({k}) / {p.inner}" if split else k}) * ${p.C} + c)${f" * {p.inner} + ({k}) % {p.inner}" if split else ""}\
</%def>
<%def name="sweep(p, t)">
<% rows = max(1, 1024 // p.inner) %>
    // Sums of at most ${rows * p.inner} elements are flushed, which keeps the rounding error of long sums small.
    for (int top = first; top < last; top += ${rows}) {
        const int stop = top + ${rows} < last ? top + ${rows} : last;
        for (int o = top; o < stop; ++o) {
            const index_t row = ((index_t)o * ${p.C} + c) * ${p.inner};
% if p.inner == 1:
            const index_t at = row;
            ${caller.vector()}
% else:
            for (index_t at = row; at < row + ${p.inner - p.inner % t.VECTOR}; at += ${t.VECTOR}) {
                ${caller.vector()}
            }
% if p.inner % t.VECTOR:
            for (index_t at = row + ${p.inner - p.inner % t.VECTOR}; at < row + ${p.inner}; ++at) {
                ${caller.single()}
            }
% endif
% endif
        }
        ${caller.flush()}
    }
</%def>
