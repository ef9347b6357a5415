<%!
from clnn.codegen.header import Kernel

KERNEL = Kernel(
    summary="Adds a step's loss and hits to the totals, advances step and cursor, and looks up the next learning rate.",
    reads=("loss", "hits", "totals", "step", "cursor", "rates"),
    stores=("new_totals", "new_step", "new_cursor", "rate"),
    problem={"batch": "images of the step", "stride": "images of a full batch", "hits": "length of hits", "rates": "length of rates"},
    global_size=lambda p, t: (1,),
    in_place=(("new_totals", "totals"), ("new_step", "step"), ("new_cursor", "cursor")),
)
%>
${signature}
{
    float sum = 0.0f;
    for (int i = 0; i < ${p.hits}; ++i) sum += hits[i];
    const int following = cursor[0] + ${p.batch};
    const int slot = following / ${p.stride} < ${p.rates} ? following / ${p.stride} : ${p.rates - 1};
    const float loss_total = totals[0] + loss[0] * ${p.batch}.0f, hit_total = totals[1] + sum, count = totals[2] + ${p.batch}.0f;
    const int next = step[0] + 1;
    ${store("rate", "0", "rates[slot]")}
    ${store("new_totals", "0", "loss_total")}
    ${store("new_totals", "1", "hit_total")}
    ${store("new_totals", "2", "count")}
    ${store("new_step", "0", "next")}
    ${store("new_cursor", "0", "following")}
}
