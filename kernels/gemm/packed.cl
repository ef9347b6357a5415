<%!
import math

from clnn.codegen.header import Constraint, Kernel, Tunable
from clnn.codegen.packed import across, choose, depth, draws, grid, lie_packed, local_bytes, low_block, panel_kinds, registers
from clnn.codegen.views import innermost, one_run, side_by_side

KERNEL = Kernel(
    summary="C = A B on CPUs: each item packs panels of A and B, unless they lie so, and multiplies them in register blocks.",
    reads=("a", "b"),
    stores=("c", "row_sum", "board"),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "splits": "parts of K that become separate partial products", "a": "View M x K", "b": "View K x N",
             "c": "View M x N; with splits > 1 of the partial products, one batch entry each",
             "cores": "of the device", "prefetch": "whether the compiler can ask the cache for a line (a feature of the target)"},
    tunables=(Tunable("MR", (4, 6, 8, 12), 6, 5, "rows of a register block"),
              Tunable("NV", (1, 2, 3), 1, 1, "vectors of 16 columns of a register block"),
              Tunable("MC", (6, 8, 12, 24, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048), 96, 15, "rows of an item's tile"),
              Tunable("MB", (8, 16, 24, 48, 64, 96, 128, 192), 96, 15, "rows of A that are packed, or kept cached, at a time"),
              Tunable("NC", (16, 32, 64, 96, 128, 144, 192, 256, 288, 512), 256, 48, "columns of an item's tile"),
              Tunable("KC", (64, 128, 256, 384, 512, 1024, 2048), 256, 7, "depth of the packed panels")),
    constraints=(Constraint(lambda p, t, target: t.MC % t.MR == 0, "MC must be a multiple of the rows of a register block"),
                 Constraint(lambda p, t, target: t.MB % t.MR == 0, "MB must be a multiple of the rows of a register block"),
                 Constraint(lambda p, t, target: t.NC % (16 * t.NV if lie_packed(p, t)[1] else 16) == 0,
                            "NC must be a multiple of the panels' columns where B lies in panels, else of 16"),
                 Constraint(registers, "the register block must fit into the vector registers")),
    choose=choose,
    global_size=lambda p, t: (p.cores, 1, 1) if draws(p, t) else grid(p, t),
    local_size=lambda p, t: (1, 1, 1),
    local_bytes=local_bytes,
    grid=grid,
    seeds=tuple({"MR": mr, "NV": nv, "MC": mc, "MB": mb, "NC": nc, "KC": kc} for mr, nv, mc, mb, nc, kc in (
        (8, 2, 256, 64, 256, 256), (8, 2, 128, 64, 256, 256), (8, 2, 512, 96, 128, 256), (8, 2, 128, 128, 128, 512), (12, 2, 96, 96, 256, 256),
        (12, 2, 192, 96, 256, 256), (8, 3, 128, 64, 192, 256), (6, 1, 384, 96, 128, 256), (6, 1, 192, 48, 256, 256), (6, 1, 96, 48, 256, 256),
        (6, 1, 48, 48, 128, 256), (6, 1, 24, 24, 256, 128), (8, 2, 1024, 48, 256, 512), (8, 2, 2048, 16, 128, 1024))),
)
%>
<%namespace name="panels" file="/lib/panels.mako"/>
<%
part, several = depth(p, t), depth(p, t) > t.KC
batch = "z" if p.splits > 1 else "g"
MR, NV, NR, MB = t.MR, t.NV, 16 * t.NV, min(t.MB, t.MC)
a_lies, b_lies = lie_packed(p, t)
last = innermost(p.c.cols)
kinds = panel_kinds(p, t)
low = low_block(p, t)
across_n, down_m, _ = grid(p, t)
drawn = alone and draws(p, t)
tiles = math.prod(grid(p, t))
place = ((f"tile % {across_n}", f"tile / {across_n} % {down_m}", f"tile / {across_n * down_m}") if drawn
         else ("get_group_id(0)", "get_group_id(1)", "get_group_id(2)"))
by_runs = last.extent >= 16 and p.c.window is None              # whether 16 columns may be one run of C, and whether they always are
only_runs = by_runs and p.N % 16 == last.extent % 16 == 0
together = store_run("c", "first", "*(const float16*)line", 16, last.extent) if by_runs and side_by_side(p.c, last) else None
ahead = needed_ahead("c", "ct") if p.prefetch and by_runs else []
%>
${panels.functions()}
${signature}
{
    typedef float8 loose8 __attribute__((aligned(4)));
    typedef float16 loose16 __attribute__((aligned(4)));
% if p.a.straight:
    index_t Ao[${t.MC}];                                                    // where each row of A starts
% elif not a_lies:
    ${local_array("float", "Ap", MB * t.KC + 8)}      // [MB / MR][KC][MR]
% endif
% if not b_lies:
    ${local_array("float", "Bp", across(t) * t.KC + 8)}      // [NC / NR][KC][NR]
% endif
% if several:
    ${local_array("float", "Ct", t.MC * t.NC)}        // [MC][NC], sums over the panels but the last
% endif
    float done[${MR * NR}] __attribute__((aligned(64)));                    // [MR][NR], a finished block of C
% if drawn:
    volatile __global int* const board = (volatile __global int*)board_out0;       // tiles that were drawn, cores that are done
    for (;;) {
    const int tile = atomic_inc(board);
    if (tile >= ${tiles}) break;
% endif
    const int m0 = ${place[1]} * ${t.MC}, n0 = ${place[0]} * ${t.NC};
    const int z = ${place[2]}, g = z / ${p.splits};
    const int mc = ${p.M} - m0 < ${t.MC} ? ${p.M} - m0 : ${t.MC};
    const int nc = ${p.N} - n0 < ${t.NC} ? ${p.N} - n0 : ${t.NC};
    const int k_first = z % ${p.splits} * ${part};
    const int k_last = k_first + ${part} < ${p.K} ? k_first + ${part} : ${p.K};
% if has("row_sum"):
    float sums[${t.MC}];
    for (int i = 0; i < ${t.MC}; ++i) sums[i] = 0.0f;
% endif
% if p.a.straight:
    for (int i = 0; i < mc; ++i) {
        const int m = m0 + i, k = 0;
        ${p.a.row("m", "am")} ${p.a.col("k", "ak")} ${p.a.locate("am", "ak", "at", "g")}
        Ao[i] = at;
    }
% endif
% if p.splits > 1:
    if (k_first >= k_last) {        // nothing is left for this part
        for (int block = 0; block < mc; block += ${MR})
            for (int panel = 0; panel < nc; panel += 16) {      // panels may be narrower than NR
                for (int i = 0; i < ${MR * NR}; ++i) done[i] = 0.0f;
                ${finish(MR, 1)}
            }
    }
% endif

    for (int k0 = k_first; k0 < k_last; k0 += ${t.KC}) {
        const int kc = k_last - k0 < ${t.KC} ? k_last - k0 : ${t.KC};
% if not b_lies:
${panels.pack(p.b, "b", NR, "n0", "nc", t.NC, t.KC, "Bp")}
% endif
        for (int from = 0; from < mc; from += ${MB}) {      // rows of A that stay cached while they meet all panels of B
            const int rows = mc - from < ${MB} ? mc - from : ${MB};
% if not p.a.straight and not a_lies:
${panels.pack(p.a.transposed, "a", MR, "m0 + from", "rows", MB, t.KC, "Ap")}
% endif
% if has("row_sum"):
            if (n0 == 0)
% if p.a.straight:
                for (int i = from; i < from + rows; ++i) {
                    __global const float* row = a + Ao[i] + k0;
                    float part[16];             // additions wait for each other, so several sums, which are joined
                    for (int l = 0; l < 16; ++l) part[l] = 0.0f;
                    int j = 0;
                    for (; j + 16 <= kc; j += 16)
                        for (int l = 0; l < 16; ++l) part[l] += row[j + l];
                    for (; j < kc; ++j) part[0] += row[j];
                    for (int l = 0; l < 16; ++l) sums[i] += part[l];
                }
% else:
                for (int block = 0; block < rows; block += ${MR}) {
% if a_lies:
                    const int m1 = m0 + from + block;
                    ${p.a.row("m1", "am")} ${p.a.col("k0", "ak")} ${p.a.locate("am", "ak", "at_a", "g")}
                    __global const float* packed = a + at_a;
% else:
                    __local const float* packed = Ap + block * ${t.KC};
% endif
                    float part[${4 * MR}];
                    for (int i = 0; i < ${4 * MR}; ++i) part[i] = 0.0f;
                    int j = 0;
                    for (; j + 4 <= kc; j += 4)
                        for (int i = 0; i < ${4 * MR}; ++i) part[i] += packed[j * ${MR} + i];
                    for (; j < kc; ++j)
                        for (int i = 0; i < ${MR}; ++i) part[i] += packed[j * ${MR} + i];
                    for (int i = 0; i < ${MR}; ++i)
                        sums[from + block + i] += ${" + ".join(f"part[{n * MR} + i]" for n in range(4))};
                }
% endif
% endif
            for (int panel = 0; panel < nc; panel += ${NR})
                for (int block = from, down = ${MR}; block < from + rows; block += down) {
% if low:
                    down = from + rows - block;
                    down = down > ${2 * low} || (${low} < down && down <= ${MR}) ? ${MR} : ${low};
% endif
% if p.a.straight:
% for r in range(MR):
                    __global const float* a${r} = a + Ao[block + ${r} < mc ? block + ${r} : mc - 1] + k0;
% endfor
% elif a_lies:
                    const int m1 = m0 + block;
                    ${p.a.row("m1", "am")} ${p.a.col("k0", "ak")} ${p.a.locate("am", "ak", "at_a", "g")}
                    __global const float* ap = a + at_a;
% else:
                    __local const float* ap = Ap + (block - from) * ${t.KC};
% endif
% if b_lies:
                    const int n1 = n0 + panel;
                    ${p.b.row("k0", "bk")} ${p.b.col("n1", "bn")} ${p.b.locate("bk", "bn", "at_b", "g")}
                    __global const float* bp = b + at_b;
% else:
                    __local const float* bp = Bp + panel * ${t.KC};
% endif
% for vectors, fewer in zip(kinds, [*kinds[1:], 0]):
                    ${f"if (nc - panel > {16 * fewer}) " if fewer else ""}{
% if low:
                        if (down == ${low}) {
                            ${multiply(low, vectors)}
                        } else
% endif
                        {
                            ${multiply(MR, vectors)}
                        }
                    }${" else" if fewer else ""}
% endfor
                }
        }
    }
% if has("row_sum"):
    if (n0 == 0)
        for (int i = 0; i < mc; ++i) {
            const int m = m0 + i;
            ${store("row_sum", f"{batch} * {p.M} + m", "sums[i]")}
        }
% endif
% if drawn:
    }
    if (atomic_inc(board + 1) == ${p.cores - 1}) {       // nobody will draw any more
        atomic_xchg(board, 0);
        atomic_xchg(board + 1, 0);
    }
% endif
}

## Multiplies a block of so many rows of A and a panel of B of so many vectors, and stores the block of C where the sums are finished.
<%def name="multiply(height, vectors)">
% for r in range(height):
            float16 ${", ".join(f"c{r}_{v} = (float16)(0.0f)" for v in range(vectors))};
% endfor
% if ahead:
            ${"if (k0 + " + str(t.KC) + " >= k_last) " if several else ""}{      // the lines that storing will read
                const int n1 = n0 + panel;
                for (int i = 0; i < (mc - block < ${height} ? mc - block : ${height}); ++i) {
                    const int m = m0 + block + i;
                    ${p.c.row("m", "cm")} ${p.c.col("n1", "cn")} ${p.c.locate("cm", "cn", "ct", batch)}
% for place in ahead:
                    ${" ".join(f"__builtin_prefetch((const void*)(size_t)({place} + {16 * v}));" for v in range(vectors))}
% endfor
                }
            }
% endif
            #pragma unroll 4
            for (int k = 0; k < kc; ++k) {
                const float16 ${", ".join(f"b{v} = *({'__global const loose16' if b_lies else '__local const float16'}*)(bp + {16 * v})" for v in range(vectors))};
% for r in range(height):
                const float e${r} = ${f"a{r}[k]" if p.a.straight else f"ap[{r}]"};
% for v in range(vectors):
                c${r}_${v} = clnn_multiply_add(e${r}, b${v}, c${r}_${v});
% endfor
% endfor
% if not p.a.straight:
                ap += ${MR};
% endif
                bp += ${NR};
            }
% if several:
            __local float* so_far = Ct + block * ${t.NC} + panel;
            if (k0 > k_first) {
% for r in range(height):
                ${" ".join(f"c{r}_{v} += *(__local float16*)(so_far + {r * t.NC + 16 * v});" for v in range(vectors))}
% endfor
            }
            if (k0 + ${t.KC} < k_last) {
% for r in range(height):
                ${" ".join(f"*(__local float16*)(so_far + {r * t.NC + 16 * v}) = c{r}_{v};" for v in range(vectors))}
% endfor
                continue;
            }
% endif
% for r in range(height):
            ${" ".join(f"*(float16*)(done + {r * NR + 16 * v}) = c{r}_{v};" for v in range(vectors))}
% endfor
            ${finish(height, vectors)}
</%def>

## Stores so many rows and vectors of a finished block.
<%def name="finish(height, vectors)">
                for (int i = 0; i < (mc - block < ${height} ? mc - block : ${height}); ++i) {
                    const int m = m0 + block + i;
                    ${p.c.row("m", "cm")}
% for v in range(vectors):
                    {
                        const int n1 = n0 + panel + ${16 * v}${"" if only_runs else f", left = {p.N} - n1"};
                        const float* line = done + i * ${NR} + ${16 * v};
% if by_runs:
                        // 16 columns of one run: their places follow from the first one's
                        ${"" if only_runs else "if (left >= 16) " if one_run(p.c.cols) else f"if (left >= 16 && {last.extent} - n1 % {last.extent} >= 16) "}{
                            ${p.c.col("n1", "cn")}
                            ${p.c.locate("cm", "cn", "first", batch)}
% if together:
                            ${together}
% else:
                            for (int j = 0; j < 16; ++j) {
                                const index_t ct = first + ${"j" if last.stride == 1 else f"(index_t)j * {last.stride}"};
                                ${store("c", "ct", "line[j]")}
                            }
% endif
                        }${"" if only_runs else " else"}
% endif
% if not only_runs:
                        for (int j = 0; j < 16 && j < left; ++j) {
                            const int n = n1 + j;
                            ${p.c.col("n", "cn")}
                            ${p.c.locate("cm", "cn", "ct", batch)}
                            ${store("c", "ct", "line[j]")}
                        }
% endif
                    }
% endfor
                }
</%def>
