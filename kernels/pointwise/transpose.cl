<%!
from clnn.codegen.header import Constraint, Kernel, Tunable

def blocks(p, t):
    return -(-p.rows // t.TILE), -(-p.cols // t.TILE)

def items(p, t):
    down, across = blocks(p, t)
    return p.batch * down * across * t.GROUP

KERNEL = Kernel(
    summary="Matrices transposed tile by tile: both sides are walked along memory, or on CPUs stay in the cache.",
    reads=("x",),
    stores=("y",),
    problem={"batch": "matrices", "rows": "rows of the result", "cols": "columns of the result"},
    tunables=(Tunable("TILE", (8, 16, 32, 64), 32, 8, "rows and columns of a tile"),
              Tunable("GROUP", (1, 64, 128, 256), 256, 16, "items of a work-group; 1 on CPUs, which need no barrier")),
    constraints=(Constraint(lambda p, t, target: t.GROUP == 1 or t.GROUP % t.TILE == 0, "a work-group must take whole rows of a tile"),),
    choose=lambda p, target: {"TILE": 16, "GROUP": 1} if target.is_cpu else {},
    global_size=lambda p, t: (items(p, t),),
    local_size=lambda p, t: (t.GROUP,),
    local_bytes=lambda p, t: 4 * t.TILE * (t.TILE + 1) if t.GROUP > 1 else 0,
)
%>
<%
T = t.TILE
down, across = blocks(p, t)
c_type = c_types[dtypes["x"]]
ragged_rows, ragged_cols = p.rows % T, p.cols % T
inside = ([f"row < {p.rows}"] if ragged_rows else []) + ([f"col < {p.cols}"] if ragged_cols else [])
in_y = f"if ({' && '.join(inside)}) " if inside else ""
%>
${signature}
{
    const int tile = get_group_id(0);
    const int row0 = tile / ${across} % ${down} * ${T}, col0 = tile % ${across} * ${T};
    const index_t matrix = (index_t)(tile / ${down * across}) * ${p.rows * p.cols};
% if t.GROUP == 1:
    const int last_row = row0 + ${T} < ${p.rows} ? row0 + ${T} : ${p.rows}, last_col = col0 + ${T} < ${p.cols} ? col0 + ${T} : ${p.cols};
    for (int row = row0; row < last_row; ++row) {
        for (int col = col0; col < last_col; ++col) {
            const ${c_type} value = x[matrix + (index_t)col * ${p.rows} + row];
            ${store("y", f"matrix + (index_t)row * {p.cols} + col", "value")}
        }
    }
% else:
    __local ${c_type} kept[${T * (T + 1)}];
    const int item = get_local_id(0), along = item % ${T}, first = item / ${T};
    // x has its rows along the columns of the result
    #pragma unroll
    for (int i = 0; i < ${T}; i += ${t.GROUP // T}) {
        const int row = row0 + along, col = col0 + first + i;
        ${in_y}kept[(first + i) * ${T + 1} + along] = x[matrix + (index_t)col * ${p.rows} + row];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    #pragma unroll
    for (int i = 0; i < ${T}; i += ${t.GROUP // T}) {
        const int row = row0 + first + i, col = col0 + along;
        ${in_y}{
            const ${c_type} value = kept[along * ${T + 1} + first + i];
            ${store("y", f"matrix + (index_t)row * {p.cols} + col", "value")}
        }
    }
% endif
}
