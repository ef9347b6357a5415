<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

MOST_ROWS = 8

def choose(p, target):
    """Items share a result along K as long as each has some dozen elements of it."""
    if not p.b.row_contiguous:
        return {"SHARE": 8 if p.K // p.splits >= 256 else 2, "GROUP": 256}
    length, share = p.K // p.splits // (32 if p.b.quads() else 8), 8
    while share < min(64, length):
        share *= 2
    return {"SHARE": share, "GROUP": max(128, share)}

def wide(p):
    """Neighbours in memory that an item reads at once."""
    return 4 if p.b.quads() else 1

def columns(p, t):
    """Columns of C that a work-group makes."""
    return t.GROUP // t.SHARE * (1 if p.b.row_contiguous else wide(p))

KERNEL = Kernel(
    summary="C = A B for an A of few rows: B, which is all that takes time, is read once, by vectors; items share the sums along K.",
    reads=("a", "b"),
    stores=("c",),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "splits": "parts of K that become separate partial products", "a": "View M x K", "b": "View K x N",
             "c": "View M x N; with splits > 1 of the partial products, one batch entry each"},
    tunables=(Tunable("SHARE", (1, 2, 4, 8, 16, 32, 64, 128, 256), 8, 2, "items that share a result"),
              Tunable("GROUP", (32, 64, 128, 256), 256, 6, "items of a work-group")),
    constraints=(Constraint(lambda p, t, target: p.M <= MOST_ROWS, f"is made for at most {MOST_ROWS} rows"),
                 Constraint(lambda p, t, target: p.a.window is None and p.b.window is None, "is made for plain matrices"),
                 Constraint(lambda p, t, target: t.GROUP % t.SHARE == 0, "those that share a result must be of one work-group"),
                 Constraint(lambda p, t, target: t.SHARE & (t.SHARE - 1) == 0, "the tree needs a power of two of items")),
    choose=choose,
    global_size=lambda p, t: (-(-p.N // columns(p, t)) * t.GROUP, 1, p.batch * p.splits),
    local_size=lambda p, t: (t.GROUP, 1, 1),
    local_bytes=lambda p, t: 4 * t.GROUP * (1 if p.b.row_contiguous else wide(p)),
)
%>
<%namespace name="tree" file="/lib/tree.mako"/>
<%
v = wide(p)
along = p.b.row_contiguous                      # an item's vectors lie along K, and its results are single columns
kind, sums = ("float", "float") if v == 1 else ("float4", "float" if along else "float4")
spread = 1 if along else t.GROUP // t.SHARE
# whole vectors, so that those of B remain aligned
depth = -(-(-(-p.K // p.splits)) // 4) * 4
wide_a = v == 4 and p.a.quads() and not p.a.row_contiguous
stride = t.SHARE * (v if along else 1)

def element(view, row, col, name):
    """Statements that declare where an element lies."""
    return f"{view.row(row, name + 'r')} {view.col(col, name + 'c')} {view.locate(name + 'r', name + 'c', name, 'g')}"
%>
${signature}
{
    __local ${sums} shared_sums[${t.GROUP}];
    const int item = get_local_id(0), z = get_group_id(2), g = z / ${p.splits};
    const int k_first = z % ${p.splits} * ${depth};
    const int k_last = k_first + ${depth} < ${p.K} ? k_first + ${depth} : ${p.K};
% if along:
    const int lane = item % ${t.SHARE}, n = (int)get_group_id(0) * ${columns(p, t)} + item / ${t.SHARE};
% else:
    const int lane = item / ${spread}, n = (int)get_group_id(0) * ${columns(p, t)} + item % ${spread} * ${v};
% endif
    ${" ".join(f"{sums} total{m} = ({sums})(0.0f);" for m in range(p.M))}
    if (n < ${p.N}) {
        #pragma unroll 4
        for (int k = k_first + lane${f" * {v}" if along else ""}; k < k_last; k += ${stride}) {
            ${element(p.b, "k", "n", "bt")}
            const ${kind} bv = *(__global const ${kind}*)(b + bt);
% for m in range(p.M):
            {
% if along and v == 4 and wide_a:
                ${element(p.a, str(m), "k", "at")}
                const float4 av = *(__global const float4*)(a + at);
                ${" ".join(f"total{m} += av.s{q} * bv.s{q};" for q in range(4))}
% elif along and v == 4:
% for q in range(4):
                { const int kq = k + ${q}; ${element(p.a, str(m), "kq", "at")} total${m} += a[at] * bv.s${q}; }
% endfor
% else:
                ${element(p.a, str(m), "k", "at")}
                total${m} += a[at] * bv;
% endif
            }
% endfor
        }
    }
<% batch = "z" if p.splits > 1 else "g" %>
% for m in range(p.M):
% if t.SHARE > 1:
    shared_sums[item] = total${m};
<%tree:join lanes="${t.SHARE}" spread="${spread}">
            shared_sums[item] += shared_sums[other];
</%tree:join>
    total${m} = shared_sums[item];
    barrier(CLK_LOCAL_MEM_FENCE);
% endif
    if (lane == 0 && n < ${p.N}) {
% for q in range(1 if along else v):
        {
            const int nq = n${f" + {q}" if q else ""};
            ${p.c.row(str(m), "cm")}
            ${p.c.col("nq", "cn")}
            ${p.c.locate("cm", "cn", "ct", batch)}
            ${store("c", "ct", f"total{m}" + ("" if along or v == 1 else f".s{q}"))}
        }
% endfor
    }
% endfor
}
