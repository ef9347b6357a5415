<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

def choose(p, target):
    # small products: smaller tiles, so that every core gets some
    rows = -(-p.M // 6) * 6
    config = {"MC": min(rows, 48), "NC": min(-(-p.N // 16) * 16, 128)}
    while -(-p.M // config["MC"]) * -(-p.N // config["NC"]) * p.batch * p.splits < 2 * target.compute_units and config["NC"] > 16:
        config["NC"] = -(-config["NC"] // 32) * 16
    return config

KERNEL = Kernel(
    summary="C = A B on CPUs: each item packs panels of A and B and multiplies them in 6 x 16 register blocks, without barriers.",
    reads=("a", "b"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "splits": "parts of K that become separate partial products", "a": "View M x K", "b": "View K x N",
             "c": "View M x N; with splits > 1 of the partial products, one batch entry each"},
    tunables=(Tunable("MC", (6, 24, 48, 96, 192), 48, 12, "rows of an item's tile"),
              Tunable("NC", (16, 64, 128, 256, 512), 128, 32, "columns of an item's tile"),
              Tunable("KC", (64, 128, 256, 384), 256, 7, "depth of the packed panels")),
    constraints=(Constraint(lambda p, t, target: t.MC % 6 == 0, "MC must be a multiple of the 6 rows of a register block"),
                 Constraint(lambda p, t, target: t.NC % 16 == 0, "NC must be a multiple of the 16 columns of a register block")),
    choose=choose,
    global_size=lambda p, t: (-(-p.N // t.NC), -(-p.M // t.MC), p.batch * p.splits),
    local_size=lambda p, t: (1, 1, 1),
    local_bytes=lambda p, t: 4 * (t.KC * (t.MC + t.NC) + t.MC * t.NC),
)
MR, NR = 6, 16      # 6 accumulators of float16: more would spill where a compiler has 16 vector registers
%>
<%
depth = -(-(-(-p.K // t.KC)) // p.splits) * t.KC
batch = "z" if p.splits > 1 else "g"
plain_b = p.b.window is None and len(p.b.cols) == 1 and p.b.cols[0].stride == 1
# neighbouring columns that look at neighbouring pixels can be copied 16 at a time
sliding = (p.b.window is not None and p.b.window.w_stride == 1 and p.b.window.divide_w == 1
           and p.b.cols[-1].w == 1 and p.b.cols[-1].stride == 0 and p.b.cols[-1].extent >= 16)
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
        for (int i = 0; i < mc; ++i) {
            const int m = m0 + i;
            __local float* to = Ap + i / ${MR} * ${MR * t.KC} + i % ${MR};
            ${p.a.row("m", "am")}
% if has("row_sum"):
            float sum = 0.0f;
% endif
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                ${p.a.col("k", "ak")}
                ${p.a.locate("am", "ak", "at", "g")}
                const float v = ${p.a.load("a", "at")};
                to[j * ${MR}] = v;
% if has("row_sum"):
                sum += v;
% endif
            }
% if has("row_sum"):
            sums[i] += sum;
% endif
        }
        for (int i = mc; i % ${MR}; ++i)
            for (int j = 0; j < kc; ++j) Ap[i / ${MR} * ${MR * t.KC} + i % ${MR} + j * ${MR}] = 0.0f;

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
% if sliding:
            const bool run = nr == ${NR} && column_o[0] == column_o[${NR - 1}] && column_h[0] == column_h[${NR - 1}]
                             && column_w[${NR - 1}] - column_w[0] == ${NR - 1};
% endif
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                ${p.b.row("k", "bk")}
% if sliding:
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
