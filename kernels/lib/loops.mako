<%doc>
How a kernel walks over n independent elements. With GROUP 1 (CPUs) each item takes CHUNK neighbours in one plain loop that the compiler can vectorise;
with larger groups (GPUs) neighbouring items take neighbouring elements, CHUNK rounds of them; ``backwards``, the last groups come first.
</%doc>
<%def name="each(n, index, t, backwards=False)">
% if t.GROUP == 1:
    const index_t ${index}_first = (index_t)get_global_id(0) * ${t.CHUNK};
    const index_t ${index}_last = ${index}_first + ${t.CHUNK} < ${n} ? ${index}_first + ${t.CHUNK} : ${n};
    for (index_t ${index} = ${index}_first; ${index} < ${index}_last; ++${index}) {
        ${caller.body()}
    }
% else:
<% whole = str(n).isdigit() and int(n) % (t.CHUNK * t.GROUP) == 0 %>
    const index_t ${index}_first = (index_t)${"(get_num_groups(0) - 1 - get_group_id(0))" if backwards else "get_group_id(0)"} * ${t.CHUNK * t.GROUP} + get_local_id(0);
    #pragma unroll
    for (int ${index}_round = 0; ${index}_round < ${t.CHUNK}; ++${index}_round) {
        const index_t ${index} = ${index}_first + ${index}_round * ${t.GROUP};
% if not whole:
        if (${index} >= ${n}) break;
% endif
        ${caller.body()}
    }
% endif
</%def>
