<%doc>
Work-groups that hold a part of a channel each, and need what all parts of the channel sum up to; see clnn/codegen/held.py. The sums are handed on through
a ``board`` of ints, zeros at first, written by atomics alone: an entry is a float, and 0 until it is known (a float of +0 is written as -0). A group that has
waited too long for a part, as when not all parts of a channel run at a time, sums that part up itself, with the same instructions and so to the same bits.
</%doc>
<%!
from clnn.codegen.channels import component
from clnn.codegen.held import entry, part_size
def vector(t):
    """The type of what an item loads at once."""
    return "float" if t.VECTOR == 1 else f"float{t.VECTOR}"
def split(name, t):
    """The elements of a vector variable."""
    return [component(name, i, t.VECTOR) for i in range(t.VECTOR)]
%>
<%! TRIES, PATIENCE, FAN = 4096, 256, 8 %>
<%def name="locate(p)">
    const int item = get_local_id(0), lane = item / ${p.across};
    const int c = get_group_id(0) / ${p.parts} * ${p.across} + item % ${p.across}, part = get_group_id(0) % ${p.parts};
</%def>
<%def name="each(p, t)">
<%doc>
The body for every vector that an item holds: ``u``, its number, and the C texts of its offset and of whether it exists. Only the last part may hold less
than it could: others ask nothing.
</%doc>
<%
cut = p.outer * p.inner % part_size(p)
channels = f"c < {p.C}" if p.C % p.across else ""
%>
% if cut and p.parts > 1:
    if (begin - lane${f" * {t.VECTOR}" if t.VECTOR > 1 else ""} < ${p.outer * p.inner - cut}) {
        ${vectors(p, t, caller.body, channels)}
    } else {
        ${vectors(p, t, caller.body, channels, p.outer * p.inner)}
    }
% else:
    ${vectors(p, t, caller.body, channels, p.outer * p.inner if cut else None)}
% endif
</%def>
<%def name="vectors(p, t, body, channels, count=None)">
% for u in range(p.held // t.VECTOR):
<%
k = f"(begin + {u * (p.items // p.across) * t.VECTOR})"
if p.inner == 1:
    at = f"(index_t){k} * {p.C} + c"
else:
    at = f"((index_t)({k} / {p.inner}) * {p.C} + c) * {p.inner} + {k} % {p.inner}"
checks = ([f"{k} < {count}"] if count else []) + ([channels] if channels else [])
%>
    ${body(u=u, at=at, there=f"({' && '.join(checks)})" if checks else "")}
% endfor
</%def>
<%def name="fetch(t, pointer, at, there, less='')">\
${f"{there} ? *(const __global {vector(t)}*)({pointer} + {at}){less} : ({vector(t)})(0.0f)" if there else f"*(const __global {vector(t)}*)({pointer} + {at}){less}"}\
</%def>
<%def name="put(t, name, at, there, values)">\
${f"if {there}" if there else ""} ${store(name, at, values[0]) if t.VECTOR == 1 else store_vector(name, at, values)}\
</%def>
<%def name="begin(p, t, part)">${part} * ${part_size(p)} + lane${f" * {t.VECTOR}" if t.VECTOR > 1 else ""}</%def>
<%def name="tell(entry, value, first=False)">{ const int bits = as_int((float)(${value})), told = bits == 0 ? (int)0x80000000 : bits; \
${f"atomic_cmpxchg(board + {entry}, 0, told)" if first else f"atomic_xchg(board + {entry}, told)"}; }</%def>
<%def name="agree(p, t, load, sum_up, join)">
<%doc>
Sums up this group's part, and whatever other part it has waited too long for, until all parts of the channel are known; then it holds its own part again.
Its turn to load it waits for by plain loads alone, a little while: with the atomics of ``look`` there a compiler held 25 registers more.
``load(part)`` loads a part, ``sum_up`` leaves what it sums up to with lane 0, which is to ``tell`` it; an item ``begin``s with nothing, adds the part
``other`` where it ``look``s, and ``end``s by leaving all that in local memory for ``join(entries)``.
</%doc>
    __local int missing;
    volatile __global int* const board = (volatile __global int*)board_out0;
% if t.READING:
    // This part waits for its turn, which only saves time: where no loads see what others write, it goes on after a while.
    const int earlier = c - ${t.READING * p.across};
    if (lane == 0 && earlier >= 0 && c < ${p.C}) {
        for (int tries = 0; tries < ${PATIENCE} && board[${entry(p, 0, "part", "earlier")}] == 0; ++tries) ;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
% endif
    int mine = part, next = part;
    while (next < ${p.parts}) {
        mine = next;
        ${load("mine")}
        ${sum_up()}
        if (lane == 0 && c < ${p.C}) {
            ${caller.tell()}
        }
        if (item == 0) missing = ${p.parts};
        barrier(CLK_LOCAL_MEM_FENCE);
        ${caller.begin()}
        for (int other = lane; other < ${p.parts} && c < ${p.C}; other += ${p.items // p.across}) {
            ${caller.look()}
        }
        ${caller.end()}
        barrier(CLK_LOCAL_MEM_FENCE);
        next = missing;
        ${join(p.parts)}
    }
    if (mine != part) {
        ${load("part")}
    }
</%def>
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
<%def name="find(entries)">
<%doc>In ``look``: waits for entries of the part ``other``, and where that takes too long notes that it is missing and looks no further.</%doc>
            ${look(entries)}
            if (${" || ".join(f"{name}_bits == 0" for name in entries)}) {
                atomic_min(&missing, other);
                break;
            }
</%def>
<%def name="fold(p, entries=None)">
<%doc>
Joins the entries that the items left in local memory, some at a time and in a fixed order, into those of lane 0. The body joins ``n`` entries, the j-th of
which is at ``item + j * step`` and counts ``if`` the text ``there`` says so, into the entry ``item``. Only the first ``entries`` lanes have left any. A barrier
comes before and after.
</%doc>
        barrier(CLK_LOCAL_MEM_FENCE);
<% lanes = p.items // p.across; left = min(lanes, entries or lanes) %>
% while left > 1:
<% into = -(-left // FAN) %>
        if (lane < ${into}) {
            ${caller.body(n=-(-left // into), step=into * p.across, there=f"if (lane + j * {into} < {left}) " if left % into else "")}
        }
        barrier(CLK_LOCAL_MEM_FENCE);
<% left = into %>
% endwhile
</%def>
