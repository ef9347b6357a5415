<%doc>
How a kernel walks over n independent elements. With GROUP 1 (CPUs) each item takes CHUNK neighbours in one plain loop that the compiler can vectorise;
with larger groups (GPUs) neighbouring items take neighbouring elements, CHUNK rounds of them.
</%doc>
<%def name="each(n, index, t)">
% if t.GROUP == 1:
    const index_t ${index}_first = (index_t)get_global_id(0) * ${t.CHUNK};
    const index_t ${index}_last = ${index}_first + ${t.CHUNK} < ${n} ? ${index}_first + ${t.CHUNK} : ${n};
    for (index_t ${index} = ${index}_first; ${index} < ${index}_last; ++${index}) {
        ${caller.body()}
    }
% else:
    for (index_t ${index} = get_global_id(0); ${index} < ${n}; ${index} += get_global_size(0)) {
        ${caller.body()}
    }
% endif
</%def>
