<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

KERNEL = Kernel(
    summary="C = A B on GPUs: tiles staged in local memory, a block of C in each item's registers, the next tile loaded meanwhile.",
    reads=("a", "b"),
    stores=("c", "row_sum"),
    problem={"M": "rows of C", "N": "columns of C", "K": "columns of A", "batch": "independent products",
             "splits": "parts of K that become separate partial products", "a": "View M x K", "b": "View K x N",
             "c": "View M x N; with splits > 1 of the partial products, one batch entry each"},
    tunables=(Tunable("BM", (16, 32, 64, 128, 256), 64, 6, "rows of a work-group's tile"),
              Tunable("BN", (16, 32, 64, 128, 256), 64, 4, "columns of a work-group's tile"),
              Tunable("BK", (8, 16, 32), 16, 6, "depth of a tile"),
              Tunable("TM", (2, 4, 8, 16), 4, 2, "rows of an item's block"),
              Tunable("TN", (2, 4, 8, 16), 4, 1, "columns of an item's block"),
              Tunable("UNROLL", (2, 4, 8, 16, 32), 16, 3, "steps in depth that the compiler sees at once"),
              Tunable("STAGES", (1, 2), 1, 2, "tiles in local memory: with 2 a barrier less per step")),
    constraints=(Constraint(lambda p, t, target: t.BM % t.TM == 0 and t.BN % t.TN == 0, "blocks must divide the tile"),
                 Constraint(lambda p, t, target: (t.BM * t.BK) % (t.BM // t.TM * (t.BN // t.TN)) == 0
                            and (t.BN * t.BK) % (t.BM // t.TM * (t.BN // t.TN)) == 0, "all items must load equally much")),
    # compilers for devices of small work-groups load the operands of all the steps that they see, and spill them
    choose=lambda p, target: {} if target.max_work_group >= 1024 else {"UNROLL": 8},
    local_size=lambda p, t: (t.BM // t.TM * (t.BN // t.TN), 1, 1),
    global_size=lambda p, t: (-(-p.N // t.BN) * (t.BM // t.TM * (t.BN // t.TN)), -(-p.M // t.BM), p.batch * p.splits),
    local_bytes=lambda p, t: 4 * t.STAGES * t.BK * (t.BM + t.BN + 8),
    seeds=tuple({"BM": bm, "BN": bn, "BK": bk, "TM": tm, "TN": tn, "STAGES": stages, "UNROLL": unroll} for bm, bn, bk, tm, tn, stages, unroll in (
        (128, 128, 16, 8, 8, 1, 16), (128, 128, 16, 8, 8, 2, 16), (128, 128, 8, 8, 8, 1, 8), (128, 256, 16, 16, 8, 1, 8), (128, 128, 8, 16, 8, 2, 8),
        (256, 128, 16, 16, 8, 1, 8), (128, 64, 16, 8, 4, 1, 16), (128, 64, 16, 8, 8, 1, 16), (64, 128, 16, 4, 8, 1, 16), (64, 128, 16, 8, 8, 1, 16),
        (64, 64, 16, 8, 4, 1, 16), (64, 64, 16, 4, 4, 1, 16), (64, 64, 16, 8, 8, 1, 16), (64, 64, 16, 8, 8, 2, 16), (64, 64, 8, 8, 8, 1, 8), (64, 64, 32, 4, 4, 1, 16),
        (64, 64, 8, 8, 4, 2, 8), (64, 32, 16, 4, 4, 1, 16), (32, 64, 16, 4, 4, 1, 16), (32, 128, 16, 4, 8, 1, 16), (128, 32, 16, 8, 4, 1, 16),
        (32, 32, 32, 4, 2, 1, 16), (32, 32, 16, 4, 4, 1, 16), (16, 64, 32, 2, 4, 1, 16), (64, 16, 32, 4, 2, 1, 16), (16, 32, 32, 2, 2, 1, 16),
        (16, 16, 32, 2, 2, 1, 16))),
)

def vector(count):
    """Neighbouring elements that an item takes together."""
    return 4 if count % 4 == 0 else 2 if count % 2 == 0 else 1
%>
<%
vectors = {1: "float", 2: "float2", 4: "float4"}
items = t.BM // t.TM * (t.BN // t.TN)
across = t.BN // t.TN                       # items side by side in a tile
vm, vn = vector(t.TM), vector(t.TN)
pitch_a, pitch_b = t.BM + 4, t.BN + 4       # padding keeps float4 alignment and spreads the banks
def width(view, elements):
    """Elements that one load takes."""
    return 4 if view.quads() and elements % (4 * items) == 0 else 1

wide_a, wide_b = width(p.a, t.BM * t.BK), width(p.b, t.BN * t.BK)
loads_a, loads_b = t.BM * t.BK // items // wide_a, t.BN * t.BK // items // wide_b
depth = -(-(-(-p.K // t.BK)) // p.splits) * t.BK        # of K, for one split
ragged_k = p.K % depth != 0 or depth % t.BK != 0

def place(view, extent, i, wide):
    """(row, column) in the tile of the i-th load of an item; loads run along the contiguous direction."""
    e = f"(item + {i * items})"
    along, across = extent if view.row_contiguous else extent[::-1]
    near, far = f"{e} % {along // wide} * {wide}", f"{e} / {along // wide}"
    if wide == 4 and along == t.BK and along % 8 == 0:
        # What is loaded along the depth is stored across it: two neighbours and sixteen rows meet all the banks of local memory.
        near, far = f"({e} % 2 + {e} / {2 * across} * 2) * 4", f"{e} / 2 % {across}"
    return (near, far) if view.row_contiguous else (far, near)

def loaded(view, pointer, wide):
    return view.load(pointer, "at") if wide == 1 else f"*(__global const float4*)({pointer} + at)"

def fetch(k0):
    """Statements that load the tiles at depth k0 into registers; what lies outside is zero."""
    text = []
    for i in range(loads_a):
        r, c = place(p.a, (t.BM, t.BK), i, wide_a)
        guard = f"m < {p.M} && " if p.M % t.BM else ""
        text.append(f"{{ const int m = m0 + {r}, k = {k0} + {c}; {p.a.row('m', 'r')} {p.a.col('k', 'c')} "
                    f"{p.a.locate('r', 'c', 'at', 'g')} next_a[{i}] = {guard}k < k_last ? {loaded(p.a, 'a', wide_a)} : ({vectors[wide_a]})(0.0f); }}")
    for i in range(loads_b):
        r, c = place(p.b, (t.BK, t.BN), i, wide_b)
        guard = f"n < {p.N} && " if p.N % t.BN else ""
        text.append(f"{{ const int k = {k0} + {r}, n = n0 + {c}; {p.b.row('k', 'r')} {p.b.col('n', 'c')} "
                    f"{p.b.locate('r', 'c', 'at', 'g')} next_b[{i}] = {guard}k < k_last ? {loaded(p.b, 'b', wide_b)} : ({vectors[wide_b]})(0.0f); }}")
    return "\n        ".join(text)

def put(tile, pitch, depth_at, across_at, wide, along_depth, value):
    """Statements that store a loaded element, or four of them, in local memory at (depth, across)."""
    if wide == 1:
        return f"{tile}[({depth_at}) * {pitch} + {across_at}] = {value};"
    if not along_depth:
        return f"*(__local float4*)&{tile}[({depth_at}) * {pitch} + {across_at}] = {value};"
    return " ".join(f"{tile}[({depth_at} + {q}) * {pitch} + {across_at}] = {value}.s{q};" for q in range(4))

def stage():
    """Statements that bring the loaded elements into the tiles of local memory."""
    text = []
    for i in range(loads_a):
        r, c = place(p.a, (t.BM, t.BK), i, wide_a)
        text.append(put("As", pitch_a, c, r, wide_a, not p.a.row_contiguous, f"next_a[{i}]"))
    for i in range(loads_b):
        r, c = place(p.b, (t.BK, t.BN), i, wide_b)
        text.append(put("Bs", pitch_b, r, c, wide_b, p.b.row_contiguous, f"next_b[{i}]"))
    return "\n        ".join(text)
%>
${signature}
{
    __local float A_tiles[${t.STAGES * t.BK * pitch_a}] __attribute__((aligned(16)));
    __local float B_tiles[${t.STAGES * t.BK * pitch_b}] __attribute__((aligned(16)));
    __local float* As = A_tiles;
    __local float* Bs = B_tiles;
    const int item = get_local_id(0), tx = item % ${across}, ty = item / ${across};
    const int m0 = get_group_id(1) * ${t.BM}, n0 = get_group_id(0) * ${t.BN};
    const int z = get_group_id(2), g = z / ${p.splits};
    const int k_first = z % ${p.splits} * ${depth};
    const int k_last = k_first + ${depth} < ${p.K} ? k_first + ${depth} : ${p.K};
    float acc[${t.TM}][${t.TN}];
    #pragma unroll
    for (int i = 0; i < ${t.TM}; ++i)
        #pragma unroll
        for (int j = 0; j < ${t.TN}; ++j) acc[i][j] = 0.0f;
% if has("row_sum"):
    float sums[${t.TM}];
    #pragma unroll
    for (int i = 0; i < ${t.TM}; ++i) sums[i] = 0.0f;
% endif
    ${vectors[wide_a]} next_a[${loads_a}];
    ${vectors[wide_b]} next_b[${loads_b}];

        ${fetch("k_first")}
        ${stage()}
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k0 = k_first; k0 < k_last; k0 += ${t.BK}) {
        if (k0 + ${t.BK} < k_last) {
        ${fetch("k0 + %d" % t.BK)}
        }
        #pragma unroll ${t.UNROLL}
        for (int k = 0; k < ${t.BK}; ++k) {
            float av[${t.TM}], bv[${t.TN}];
% for i in range(0, t.TM, vm):
            *(${vectors[vm]}*)&av[${i}] = *(__local const ${vectors[vm]}*)&As[k * ${pitch_a} + ${i // vm * (t.BM // (t.TM // vm))} + ty * ${vm}];
% endfor
% for j in range(0, t.TN, vn):
            *(${vectors[vn]}*)&bv[${j}] = *(__local const ${vectors[vn]}*)&Bs[k * ${pitch_b} + ${j // vn * (t.BN // (t.TN // vn))} + tx * ${vn}];
% endfor
            #pragma unroll
            for (int i = 0; i < ${t.TM}; ++i)
                #pragma unroll
                for (int j = 0; j < ${t.TN}; ++j) acc[i][j] += av[i] * bv[j];
% if has("row_sum"):
            #pragma unroll
            for (int i = 0; i < ${t.TM}; ++i) sums[i] += av[i];
% endif
        }
        // The loaded tile becomes the present one: in the other half of local memory, or in its place once all are done with it.
% if t.STAGES == 2:
        As = As == A_tiles ? A_tiles + ${t.BK * pitch_a} : A_tiles;
        Bs = Bs == B_tiles ? B_tiles + ${t.BK * pitch_b} : B_tiles;
% else:
        barrier(CLK_LOCAL_MEM_FENCE);
% endif
        if (k0 + ${t.BK} < k_last) {
        ${stage()}
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
<%
batch = "z" if p.splits > 1 else "g"
# neighbours in C that an item has side by side leave it as one vector, along rows or along columns
wide_c = p.c.quads()
together_m, together_n = (vm if wide_c and p.c.row_contiguous else 1), (vn if wide_c and not p.c.row_contiguous else 1)

def stored(i, j):
    """The statement that stores the element (i, j) of the block, or the vector that begins there."""
    if together_m * together_n == 1:
        return store("c", "ct", f"acc[{i}][{j}]")
    return store_vector("c", "ct", [f"acc[{i} + {down}][{j} + {across}]" for down in range(together_m) for across in range(together_n)])
%>
    #pragma unroll
    for (int i = 0; i < ${t.TM}; i += ${together_m}) {
        const int m = m0 + i / ${vm} * ${t.BM // (t.TM // vm)} + ty * ${vm} + i % ${vm};
        if (m < ${p.M}) {
            ${p.c.row("m", "cm")}
            #pragma unroll
            for (int j = 0; j < ${t.TN}; j += ${together_n}) {
                const int n = n0 + j / ${vn} * ${t.BN // (t.TN // vn)} + tx * ${vn} + j % ${vn};
                if (n < ${p.N}) {
                    ${p.c.col("n", "cn")}
                    ${p.c.locate("cm", "cn", "ct", batch)}
                    ${stored("i", "j")}
                }
            }
% if has("row_sum"):
            if (n0 == 0 && tx == 0) {
% for down in range(together_m):
                ${store("row_sum", f"{batch} * {p.M} + m + {down}", f"sums[i + {down}]")}
% endfor
            }
% endif
        }
    }
}
