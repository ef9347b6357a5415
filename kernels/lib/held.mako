<%doc>
Work-groups that hold a part of a channel each, and need what all parts of the channel sum up to; see clnn/codegen/held.py. The sums are handed on through
a ``board`` of ints, zeros at first, by atomics alone: an entry is a float, and 0 until it is known (a float of +0 is written as -0). A group that has waited
too long for a part, as when not all parts of a channel run at a time, sums that part up itself, with the same instructions and so to the same bits.
</%doc>
<%! from clnn.codegen.held import part_size %>
<%! TRIES, FAN = 4096, 8 %>
<%def name="locate(p)">
    const int item = get_local_id(0), lane = item / ${p.across};
    const int c = get_group_id(0) / ${p.parts} * ${p.across} + item % ${p.across}, part = get_group_id(0) % ${p.parts};
</%def>
<%def name="each(p, t)">
<%doc>The body for every vector that an item holds: ``u``, its number, and the C texts of its offset and of whether it exists.</%doc>
<%
lanes, count = p.items // p.across, p.outer * p.inner
ragged = count % part_size(p) or p.C % p.across
%>
% for u in range(p.held // t.VECTOR):
<%
k = f"(begin + {u * lanes * t.VECTOR})"
if p.inner == 1:
    at = f"(index_t){k} * {p.C} + c"
else:
    at = f"((index_t)({k} / {p.inner}) * {p.C} + c) * {p.inner} + {k} % {p.inner}"
there = f"({k} < {count}" + (f" && c < {p.C}" if p.C % p.across else "") + ")"
%>
    ${caller.body(u=u, at=at, there=there if ragged else "")}
% endfor
</%def>
<%def name="begin(p, t, part)">${part} * ${part_size(p)} + lane${f" * {t.VECTOR}" if t.VECTOR > 1 else ""}</%def>
<%def name="tell(entry, value, first=False)">{ const int bits = as_int((float)(${value})), told = bits == 0 ? (int)0x80000000 : bits; \
${f"atomic_cmpxchg(board + {entry}, 0, told)" if first else f"atomic_xchg(board + {entry}, told)"}; }</%def>
<%def name="look(entries)">
<%doc>Waits for entries of the board: {name: entry}; a name with _bits is 0 where it was waited too long.</%doc>
        int ${", ".join(f"{name}_bits = 0" for name in entries)};
        for (int tries = 0; (${" || ".join(f"{name}_bits == 0" for name in entries)}) && tries < ${TRIES}; ++tries) {
            // Loads cost less than atomics, but a device may keep answering them from a cache of its own.
            const int sure = tries % 16 == 15;
% for name, entry in entries.items():
            ${name}_bits = sure ? atomic_or(board + ${entry}, 0) : board[${entry}];
% endfor
        }
        const float ${", ".join(f"{name} = as_float({name}_bits)" for name in entries)};
</%def>
<%def name="fold(lanes, across, entries=None)">
<%doc>
Joins the entries that the items left in local memory, some at a time and in a fixed order, into those of lane 0. The body joins ``n`` entries, the j-th of
which is at ``item + j * step`` and counts ``if`` the text ``there`` says so, into the entry ``item``. Only the first ``entries`` lanes have left any. A barrier
comes before and after.
</%doc>
        barrier(CLK_LOCAL_MEM_FENCE);
<% left = min(lanes, entries or lanes) %>
% while left > 1:
<% into = -(-left // FAN) %>
        if (lane < ${into}) {
            ${caller.body(n=-(-left // into), step=into * across, there=f"if (lane + j * {into} < {left}) " if left % into else "")}
        }
        barrier(CLK_LOCAL_MEM_FENCE);
<% left = into %>
% endwhile
</%def>
