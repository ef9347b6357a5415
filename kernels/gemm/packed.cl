<%!
from types import SimpleNamespace

from clnn.codegen.header import Constraint, Kernel, Tunable

def choose(p, target):
    rows, cols = -(-p.M // 6) * 6, -(-p.N // 16) * 16
    config = {"MC": min(rows, 96), "NC": min(cols, 256), "KC": 256}
    # panels that fit, and enough tiles that every core gets some
    while local_bytes(p, SimpleNamespace(**config)) > target.local_memory and config["KC"] > 64:
        config["KC"] //= 2
    while local_bytes(p, SimpleNamespace(**config)) > target.local_memory and config["NC"] > 16:
        config["NC"] = -(-config["NC"] // 32) * 16
    while -(-p.M // config["MC"]) * -(-p.N // config["NC"]) * p.batch * p.splits < 2 * target.compute_units and config["NC"] > 16:
        config["NC"] = -(-config["NC"] // 32) * 16
    return config

def local_bytes(p, t):
    return 4 * (t.KC * (t.MC + t.NC) + t.MC * t.NC)

KERNEL = Kernel(
    summary="C = A B on CPUs: each item packs panels of A and B and multiplies them in 6 x 16 register blocks, without barriers.",
    reads=("a", "b"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "splits": "parts of K that become separate partial products", "a": "View M x K", "b": "View K x N",
             "c": "View M x N; with splits > 1 of the partial products, one batch entry each"},
    tunables=(Tunable("MC", (6, 24, 48, 96, 192), 96, 12, "rows of an item's tile"),
              Tunable("NC", (16, 64, 128, 256, 512), 256, 32, "columns of an item's tile"),
              Tunable("KC", (64, 128, 256, 384), 256, 7, "depth of the packed panels")),
    constraints=(Constraint(lambda p, t, target: t.MC % 6 == 0, "MC must be a multiple of the 6 rows of a register block"),
                 Constraint(lambda p, t, target: t.NC % 16 == 0, "NC must be a multiple of the 16 columns of a register block")),
    choose=choose,
    global_size=lambda p, t: (-(-p.N // t.NC), -(-p.M // t.MC), p.batch * p.splits),
    local_size=lambda p, t: (1, 1, 1),
    local_bytes=local_bytes,
    seeds=tuple({"MC": mc, "NC": nc, "KC": kc} for mc, nc, kc in (
        (48, 128, 256), (96, 128, 256), (48, 256, 256), (96, 256, 128), (24, 128, 256), (24, 256, 128), (48, 64, 256), (24, 64, 256),
        (192, 64, 128), (6, 512, 128), (96, 64, 384), (48, 128, 128))),
)
MR, NR = 6, 16      # 6 accumulators of float16: more would spill where a compiler has 16 vector registers
%>
<%
depth = -(-(-(-p.K // t.KC)) // p.splits) * t.KC
batch = "z" if p.splits > 1 else "g"
plain_b = p.b.window is None and len(p.b.cols) == 1 and p.b.cols[0].stride == 1
# neighbouring columns that look at neighbouring pixels can be copied 16 at a time
inner = p.b.cols[-1]
sliding = (p.b.window is not None and p.b.window.w_stride == 1 and p.b.window.divide_w == 1
           and inner.w == 1 and inner.stride == 0 and inner.extent >= 16)
# and without a window, where they lie side by side
adjacent = not plain_b and p.b.window is None and inner.stride == 1 and inner.extent >= 16
%>
${signature}
{
    typedef float16 loose16 __attribute__((aligned(4)));
    __local float Ap[${t.MC * t.KC}] __attribute__((aligned(64)));      // [MC/6][KC][6]
    __local float Bp[${t.NC * t.KC}] __attribute__((aligned(64)));      // [NC/16][KC][16]
    __local float Ct[${t.MC * t.NC}] __attribute__((aligned(64)));      // [MC][NC], sums over the blocks of K
    const int m0 = get_group_id(1) * ${t.MC}, n0 = get_group_id(0) * ${t.NC};
    const int z = get_group_id(2), g = z / ${p.splits};
    const int mc = ${p.M} - m0 < ${t.MC} ? ${p.M} - m0 : ${t.MC};
    const int nc = ${p.N} - n0 < ${t.NC} ? ${p.N} - n0 : ${t.NC};
    const int k_first = z % ${p.splits} * ${depth};
    const int k_last = k_first + ${depth} < ${p.K} ? k_first + ${depth} : ${p.K};
% if has("row_sum"):
    float sums[${t.MC}];
    for (int i = 0; i < ${t.MC}; ++i) sums[i] = 0.0f;
% endif
    for (int i = 0; i < ${t.MC * t.NC}; ++i) Ct[i] = 0.0f;

    for (int k0 = k_first; k0 < k_last; k0 += ${t.KC}) {
        const int kc = k_last - k0 < ${t.KC} ? k_last - k0 : ${t.KC};
        for (int block = 0; block < mc; block += ${MR}) {
            // six rows side by side; those past the end repeat the last one, and their products are never stored
            __local float* to = Ap + block * ${t.KC};
% for r in range(MR):
            const int m_${r} = m0 + (block + ${r} < mc ? block + ${r} : mc - 1);
            ${p.a.row("m_%d" % r, "am%d" % r)}
% endfor
% if has("row_sum"):
            ${" ".join(f"float sum{r} = 0.0f;" for r in range(MR))}
% endif
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                ${p.a.col("k", "ak")}
% for r in range(MR):
                { ${p.a.locate("am%d" % r, "ak", "at", "g")} to[${r}] = ${p.a.load("a", "at")}; }
% endfor
% if has("row_sum"):
                ${" ".join(f"sum{r} += to[{r}];" for r in range(MR))}
% endif
                to += ${MR};
            }
% if has("row_sum"):
            ${" ".join(f"sums[block + {r}] += sum{r};" for r in range(MR))}
% endif
        }

        for (int panel = 0; panel < nc; panel += ${NR}) {
            __local float* to = Bp + panel * ${t.KC};
            const int nr = nc - panel < ${NR} ? nc - panel : ${NR};
% if plain_b:
            if (nr == ${NR}) {
                const int n = n0 + panel;
                ${p.b.col("n", "bn")}
                for (int j = 0; j < kc; ++j) {
                    const int k = k0 + j;
                    ${p.b.row("k", "bk")}
                    ${p.b.locate("bk", "bn", "bt", "g")}
                    *(__local float16*)(to + j * ${NR}) = *(__global const loose16*)(b + bt);
                }
                continue;
            }
% endif
            // where each column starts, decoded once for all k
            index_t column_o[${NR}];
% if p.b.window is not None:
            int column_h[${NR}], column_w[${NR}];
% endif
            for (int j = 0; j < ${NR}; ++j) {
                const int n = n0 + panel + (j < nr ? j : 0);
                ${p.b.col("n", "bn")}
                column_o[j] = bno;
% if p.b.window is not None:
                column_h[j] = bnh;
                column_w[j] = bnw;
% endif
            }
% if adjacent:
            const bool run = nr == ${NR} && column_o[${NR - 1}] - column_o[0] == ${NR - 1};
% elif sliding:
            const bool run = nr == ${NR} && column_o[0] == column_o[${NR - 1}] && column_h[0] == column_h[${NR - 1}]
                             && column_w[${NR - 1}] - column_w[0] == ${NR - 1};
% endif
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                ${p.b.row("k", "bk")}
% if adjacent:
                if (run) {
                    const index_t bno = column_o[0];
                    ${p.b.locate("bk", "bn", "bt", "g")}
                    *(__local float16*)(to + j * ${NR}) = *(__global const loose16*)(b + bt);
                    continue;
                }
% elif sliding:
                if (run) {
                    const index_t bno = column_o[0];
                    const int bnh = column_h[0], bnw = column_w[0];
                    ${p.b.locate("bk", "bn", "bt", "g")}
% if p.b.checked:
                    if (bt_in && bt_w + ${NR - 1} < ${p.b.window.width}) {
% else:
                    {
% endif
                        *(__local float16*)(to + j * ${NR}) = *(__global const loose16*)(b + bt);
                        continue;
                    }
                }
% endif
                for (int i = 0; i < ${NR}; ++i) {
                    const index_t bno = column_o[i];
% if p.b.window is not None:
                    const int bnh = column_h[i], bnw = column_w[i];
% endif
                    ${p.b.locate("bk", "bn", "bt", "g")}
                    to[j * ${NR} + i] = i < nr ? ${p.b.load("b", "bt")} : 0.0f;
                }
            }
        }

        for (int panel = 0; panel < nc; panel += ${NR})
            for (int block = 0; block < mc; block += ${MR}) {
                __local const float* ap = Ap + block * ${t.KC};
                __local const float* bp = Bp + panel * ${t.KC};
% for r in range(MR):
                float16 c${r} = (float16)(0.0f);
% endfor
                #pragma unroll 4
                for (int k = 0; k < kc; ++k) {
                    const float16 bv = *(__local const float16*)bp;
% for r in range(MR):
                    c${r} += ap[${r}] * bv;
% endfor
                    ap += ${MR};
                    bp += ${NR};
                }
% for r in range(MR):
                if (block + ${r} < mc) *(__local float16*)(Ct + (block + ${r}) * ${t.NC} + panel) += c${r};
% endfor
            }
    }
    for (int i = 0; i < mc; ++i) {
        const int m = m0 + i;
        ${p.c.row("m", "cm")}
        for (int j = 0; j < nc; ++j) {
            const int n = n0 + j;
            ${p.c.col("n", "cn")}
            ${p.c.locate("cm", "cn", "ct", batch)}
            ${store("c", "ct", f"Ct[i * {t.NC} + j]")}
        }
% if has("row_sum"):
        if (n0 == 0) {
            ${store("row_sum", f"{batch} * {p.M} + m", "sums[i]")}
        }
% endif
    }
}
