<%!
from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, walk_group, walk_items

KERNEL = Kernel(
    summary="Each output element is one input element or a constant: transpose, slice, pad, expand, relayout.",
    reads=("x",),
    stores=("y",),
    problem={"N": "elements of the result", "shape": "extents of the result, outermost first",
             "axes": "(stride, start, limit, step, divide) of each: output o reads input (start + o * step) / divide",
             "fill": "value where no input element lies"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(p.N, target),
    global_size=lambda p, t: walk_items(p.N, t),
    local_size=walk_group,
)
%>
<%namespace name="loops" file="/lib/loops.mako"/>
<%
c_type = c_types[dtypes["x"]]
fill = f"{p.fill!r}f" if c_type == "float" else str(int(p.fill))
fill = fill.replace("inff", "INFINITY")
offset, inside, lines, rest = [], [], [], "i"
for number in reversed(range(len(p.shape))):
    extent = p.shape[number]
    stride, start, limit, step, divide = p.axes[number]
    if extent == 1:
        coordinate = "0"
    else:
        lines.append(f"const index_t c{number} = {rest} % {extent};")
        lines.append(f"const index_t r{number} = {rest} / {extent};")
        coordinate, rest = f"c{number}", f"r{number}"
    source = f"({start} + {coordinate} * {step})" if start or step != 1 else coordinate
    last = start + (extent - 1) * step
    if start < 0 or last // divide >= limit:
        inside.append(f"{source} >= 0 && {source} < {limit * divide}")
    if divide > 1:
        inside.append(f"{source} % {divide} == 0")
        source = f"({source} / {divide})"
    if stride:
        offset.append(f"{source} * {stride}" if stride != 1 else source)
address = " + ".join(offset) or "0"
value = f"x[{address}]"
if inside:
    value = f"({' && '.join(inside)}) ? {value} : {fill}"
%>
${signature}
{
<%loops:each n="${p.N}" index="i" t="${t}">
        ${"\n        ".join(lines)}
        const ${c_type} value = ${value};
        ${store("y", "i", "value")}
</%loops:each>
}
