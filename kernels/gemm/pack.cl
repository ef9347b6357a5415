<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

def choose(p, target):
    """Of long rows that lie in one run few at a time: whole pages are read one after the other."""
    columns = 2048 if p.cols >= 2048 else 1024
    fit = 40 * columns <= target.local_memory       # eight rows of 4 bytes, and room for two more
    return {"DEPTH": 8, "COLUMNS": columns} if p.x.straight and p.cols >= 1024 and p.rows >= 512 and fit else {}

def most(p, t):
    """Columns of the panels that an item takes."""
    return max(t.COLUMNS // p.width, 1) * p.width

KERNEL = Kernel(
    auxiliary=True,
    summary="Writes out a matrix in panels, as gemm/packed multiplies them: for products that would pack it over and over.",
    reads=("x",),
    stores=("panels",),
    problem={"rows": "of the matrix", "cols": "of the matrix", "batch": "matrices", "x": "View rows x cols", "width": "columns of a panel"},
    tunables=(Tunable("DEPTH", (8, 32, 64, 128, 256), 64, 7, "rows that an item takes"),
              Tunable("COLUMNS", (32, 64, 96, 128, 1024, 2048), 96, 20, "columns that an item takes, in whole panels, so that reads run along memory")),
    constraints=(Constraint(lambda p, t, target: target.is_cpu, "is made for CPUs"),
                 Constraint(lambda p, t, target: t.DEPTH * t.COLUMNS <= 32768, "what an item holds must fit the second cache")),
    choose=choose,
    global_size=lambda p, t: (-(-p.rows // t.DEPTH), -(-p.cols // most(p, t)), p.batch),
    local_size=lambda p, t: (1, 1, 1),
    local_bytes=lambda p, t: 4 * (t.DEPTH * most(p, t) + 8),
)
%>
<%namespace name="panels" file="/lib/panels.mako"/>
<%
columns = most(p, t)
%>
${panels.functions()}
${signature}
{
    typedef float8 loose8 __attribute__((aligned(4)));
    typedef float16 loose16 __attribute__((aligned(4)));
    ${local_array("float", "near", t.DEPTH * columns + 8)}      // [panel][DEPTH][width]
    const int n0 = get_group_id(1) * ${columns}, k0 = get_group_id(0) * ${t.DEPTH}, g = get_group_id(2);
    const int nc = ${p.cols} - n0 < ${columns} ? ${p.cols} - n0 : ${columns};
    const int kc = ${p.rows} - k0 < ${t.DEPTH} ? ${p.rows} - k0 : ${t.DEPTH};
${panels.pack(p.x, "x", p.width, "n0", "nc", columns, t.DEPTH, "near")}
    for (int at = 0; at < nc; at += ${p.width}) {
        __local const float* from = near + at * ${t.DEPTH};
        const index_t to = (index_t)g * ${-(-p.cols // p.width) * p.rows * p.width} + (index_t)(n0 + at) * ${p.rows} + k0 * ${p.width};
        for (int i = 0; i < kc * ${p.width}; ++i) ${store("panels", "to + i", "from[i]")}
    }
}
