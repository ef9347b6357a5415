<%doc>
Work-groups that hold a part of a channel each, and need what all parts of the channel sum up to; see clnn/codegen/held.py. The sums are handed on through
a ``board`` of ints, all zeros before a run and after it, told by atomics alone: an entry is a float, and 0 until it is known (a float of +0 is told as -0).
A group that has waited too long for a part, as when not all parts of a channel run at a time, sums that part up itself, with the same instructions and so
to the same bits.
</%doc>
<%!
from clnn.codegen.channels import component
from clnn.codegen.held import APART, COUNTS, FINDS, channel_entry, count_entry, entry, part_size
def vector(t):
    """The type of what an item loads at once."""
    return "float" if t.VECTOR == 1 else f"float{t.VECTOR}"
def before(p, t):
    """How many channels before a part's own the one is that has its turn first."""
    return t.READING * p.across
def split(name, t):
    """The elements of a vector variable."""
    return [component(name, i, t.VECTOR) for i in range(t.VECTOR)]
%>
<%! TRIES, SURE, PATIENCE, FAN = 4096, 16, 256, 8 %>
<%def name="locate(p)">
    const int item = get_local_id(0), lane = item / ${p.across};
    const int c = get_group_id(0) / ${p.parts} * ${p.across} + item % ${p.across}, part = get_group_id(0) % ${p.parts};
</%def>
<%def name="each(p, t, close=None)">
<%doc>
The body for every vector that an item holds: ``u``, its number, and the C texts of its offset and of whether it exists. Only the last part may hold less
than it could: others ask nothing. Where some lie in local memory, from number ``close`` on, they are met in a loop with ``u`` as its variable, and all ask:
between loads that nothing separates, a compiler took so many more registers that a unit held two groups instead of three.
</%doc>
<%
cut = p.outer * p.inner % part_size(p)
channels = f"c < {p.C}" if p.C % p.across else ""
number = p.held // t.VECTOR
close = number if close is None else close
%>
% if cut and p.parts > 1 and close == number:
    if (begin - lane${f" * {t.VECTOR}" if t.VECTOR > 1 else ""} < ${p.outer * p.inner - cut}) {
        ${vectors(p, t, close, caller.body, channels)}
    } else {
        ${vectors(p, t, close, caller.body, channels, p.outer * p.inner)}
    }
% else:
    ${vectors(p, t, close, caller.body, channels, p.outer * p.inner if cut else None)}
% endif
</%def>
<%def name="vectors(p, t, close, body, channels, count=None)">
<% step, number = p.items // p.across * t.VECTOR, p.held // t.VECTOR %>
% for u in range(close):
    ${vector_at(p, u, f"(begin + {u * step})", body, channels, count)}
% endfor
% if close < number:
    #pragma unroll
    for (int u = ${close}; u < ${number}; ++u) {
        ${vector_at(p, "u", f"(begin + u * {step})", body, channels, count)}
    }
% endif
</%def>
<%def name="vector_at(p, u, k, body, channels, count)">
<%
if p.inner == 1:
    at = f"(index_t){k} * {p.C} + c"
else:
    at = f"((index_t)({k} / {p.inner}) * {p.C} + c) * {p.inner} + {k} % {p.inner}"
checks = ([f"{k} < {count}"] if count else []) + ([channels] if channels else [])
%>
    ${body(u=u, at=at, there=f"({' && '.join(checks)})" if checks else "")}
</%def>
<%def name="fetch(t, pointer, at, there, less='')">\
${f"{there} ? *(const __global {vector(t)}*)({pointer} + {at}){less} : ({vector(t)})(0.0f)" if there else f"*(const __global {vector(t)}*)({pointer} + {at}){less}"}\
</%def>
<%def name="put(t, name, at, there, values)">\
${f"if {there}" if there else ""} ${store(name, at, values[0]) if t.VECTOR == 1 else store_vector(name, at, values)}\
</%def>
<%def name="begin(p, t, part)">${part} * ${part_size(p)} + lane${f" * {t.VECTOR}" if t.VECTOR > 1 else ""}</%def>
<%def name="told(value, number)">const int bits${number} = as_int((float)(${value})), told${number} = bits${number} == 0 ? (int)0x80000000 : bits${number};</%def>
<%def name="tell(p, *finds)">
<%doc>Tells what the part ``mine`` sums up to, by lane 0.</%doc>
            {
                volatile __global int* const there = board + ${entry(p, "mine")};
% for number, value in enumerate(finds):
                ${told(value, number)}
% endfor
                mark += ${" + ".join(f"atomic_xchg(there + {number}, told{number})" for number in range(len(finds)))};
            }
</%def>
<%def name="tell_first(entry, value)">
<%doc>Tells something of the channel as a whole, by lane 0: it stays what it is told to be first.</%doc>
            {
                ${told(value, 0)}
                mark += atomic_cmpxchg(board + ${entry}, 0, told0);
            }
</%def>
<%def name="agree(p, t, load, sum_up, join, others=0)">
<%doc>
Sums up this group's part, and whatever other part it has waited too long for, until all parts of the channel are known; then it holds its own part again.
``load(part)`` loads a part, ``sum_up`` leaves what it sums up to with lane 0, which is to ``tell`` it; an item ``begin``s with nothing, adds the part
``other`` where it ``look``s, and ``end``s by leaving all that in local memory for ``join(entries)``.

A group that has found all counts itself, after what it told is there: what it adds depends on what those atomics returned, in bits that nobody looks at. So
the last one can ``leave`` the board as it was, as nobody will touch it any more.
</%doc>
    __local int missing;
    volatile __global int* const board = (volatile __global int*)board_out0, * const count = board + ${count_entry(p, others)};
% if t.READING:
    // This part waits for its turn, which only saves time: where no loads see what others write, it goes on after a while.
    if (lane == 0 && c >= ${before(p, t)} && c < ${p.C}) {
        volatile __global int* const turn = board + ${entry(p, "part", f"(c - {before(p, t)})")};
        for (int tries = 0; tries < ${PATIENCE} && *turn == 0 && count[${1 - before(p, t) * APART}] == 0; ++tries) ;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
% endif
    int mine = part, next = part;
    uint mark = 0;
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
    const int before = lane == 0 && c < ${p.C} ? atomic_add(count, 1 + (int)(mark & ${COUNTS}u)) : -1;
    if (mine != part) {
        ${load("part")}
    }
</%def>
<%def name="leave(p, t, others=0)">
<%doc>At the end of a kernel: lane 0 of the group that was the last to find all of its channel makes its entries zeros.</%doc>
    if ((before & ${COUNTS - 1}) == ${p.parts - 1}) {
        #pragma unroll 1        // unrolled, it takes more registers than the rest of a kernel
        for (int other = 0; other < ${p.parts}; ++other) *(volatile __global int${FINDS}*)(board + ${entry(p, "other")}) = 0;
        ${f"board[{channel_entry(p)}] = 0;" if others else ""}
        *count = 0;
% if t.READING:
        // Those who wait for their turn see here that a channel was left. Whoever of the two comes last makes that zero, too.
        if (c < ${p.C - before(p, t)} && atomic_inc(count + 1) == 1) count[1] = 0;
        if (c >= ${before(p, t)} && atomic_inc(count - ${before(p, t) * APART - 1}) == 1) count[${1 - before(p, t) * APART}] = 0;
% endif
    }
</%def>
<%def name="look(names, at)">
<%doc>Waits for entries of the board that are neighbours: floats of these names, and ``found``, which is 0 where it was waited too long.</%doc>
<% ints = ["found"] if len(names) == 1 else [f"found.s{number}" for number in range(len(names))] %>
        int${len(names) if len(names) > 1 else ""} found = 0;
        for (int tries = 0; (${" || ".join(f"{one} == 0" for one in ints)}) && tries < ${TRIES}; ++tries) {
            // Loads cost less than atomics, but a device may keep answering them from a cache of its own.
            if (tries % ${SURE} == ${SURE - 1}) {
% for number, one in enumerate(ints):
                ${one} = atomic_or(board + ${at} + ${number}, 0);
% endfor
            } else {
                found = *(volatile __global ${"int" if len(names) == 1 else f"int{len(names)}"}*)(board + ${at});
            }
        }
        const float ${", ".join(f"{name} = as_float({one})" for name, one in zip(names, ints))};
</%def>
<%def name="find(p, *names)">
<%doc>In ``look``: waits for what the part ``other`` finds, and where that takes too long notes that it is missing and looks no further.</%doc>
            ${look(names, entry(p, "other"))}
            if (${" || ".join(f"found.s{number} == 0" for number in range(len(names)))}) {
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
