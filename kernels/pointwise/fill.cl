<%!
import math

from clnn.codegen.header import Kernel
from clnn.codegen.walk import WALK, choose_walk, row_items, walk_group
from clnn.codegen.windows import Axis

def axes(p):
    return tuple(Axis(f"d{number}", extent, stride) for number, (extent, stride) in enumerate(p.axes))

def count(p):
    return math.prod(extent for extent, _ in p.axes)

KERNEL = Kernel(
    auxiliary=True,
    summary="Zeros at evenly spaced places of a tensor, the others left alone: what no product of a strided convolution's gradient reaches.",
    reads=(),
    stores=("y",),
    problem={"axes": "(extent, elements between neighbours) of the places, outermost first", "base": "the first place"},
    tunables=WALK,
    choose=lambda p, target: choose_walk(count(p), target),
    global_size=lambda p, t: row_items(count(p), p.axes[-1][0], t),
    local_size=walk_group,
)
%>
<%namespace name="rows" file="/lib/rows.mako"/>
${signature}
{
<%rows:each n="${count(p)}" axes="${axes(p)}" t="${t}">
        const index_t at = ${p.base} + ${" + ".join(f"(index_t){axis.name} * {axis.stride}" for axis in axes(p))};
        ${store("y", "at", "0.0f")}
</%rows:each>
}
