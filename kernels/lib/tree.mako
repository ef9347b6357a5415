<%doc>
Joins what the items of a work-group hold in local memory, pairwise and in a fixed order, into the entries of lane 0. ``item`` is the local id,
``lane`` = item / spread; the body joins entry ``other`` into entry ``item``.
</%doc>
<%def name="join(lanes, spread=1)">
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int reach = ${lanes // 2}; reach > 0; reach /= 2) {
        if (lane < reach) {
            const int other = item + reach${f" * {spread}" if spread > 1 else ""};
            ${caller.body()}
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
</%def>
