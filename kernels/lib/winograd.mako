<%doc>
What kernels of Winograd convolutions share: reading the pixels of a tile and storing them, where vectors are made of channels that lie side by
side, or one plane apart. They need a private array ``part`` of [element][lane], and a type ``loose_t``, a vector that may lie anywhere.
</%doc>
<%!
from clnn.codegen.image_tiles import first_pixel, inside, left_of
%>
## Declares d0_0 …, the pixels of ``tile`` as vectors of ``lanes`` channels from ``channel`` on; outside the image they are 0. If ``count`` is
## given, only so many channels exist, and the spare lanes repeat the last one. ``beside`` is how many channels a block has, if they lie in such.
<%def name="collect(pixels, strides, origin, hop, rows, cols, size, tile, channel, lanes, count=None, beside=0)">
<%
high, wide = pixels
_, sc, sh, sw = strides
cut = not all(inside(pixels, origin, (rows, cols), hop, size))
kind = f"float{lanes}"
%>
            {
                ${first_pixel(tile, rows, cols, hop, strides, origin)} + (index_t)${channel} * ${sc};
                for (int i = 0; i < ${size}; ++i)
                    for (int j = 0; j < ${size}; ++j) {
                        float* to = part + (i * ${size} + j) * ${lanes};
% if cut:
                        if ((uint)(h + i) >= ${high}u || (uint)(w + j) >= ${wide}u) {
                            for (int lane = 0; lane < ${lanes}; ++lane) to[lane] = 0.0f;
                            continue;
                        }
% endif
                        const index_t from = at + i * ${sh} + j * ${sw};
% if count:
                        for (int lane = 0; lane < ${lanes}; ++lane) to[lane] = x[from + (lane < ${count} ? lane : ${count} - 1) * ${sc}];
% elif beside:
% for lane in range(0, lanes, beside):
                        *(float${beside}*)(to + ${lane}) = *(__global const float${beside}*)(x + from + ${lane * sc});
% endfor
% elif sc == 1:
                        *(loose_t*)to = *(__global const loose_t*)(x + from);
% else:
                        for (int lane = 0; lane < ${lanes}; ++lane) to[lane] = x[from + lane * ${sc}];
% endif
                    }
            }
% for i in range(size):
% for j in range(size):
            const ${kind} d${i}_${j} = *(const ${kind}*)(part + ${(i * size + j) * lanes});
% endfor
% endfor
</%def>

## Keeps the vectors <name>0_0 … of a tile of ``side`` in ``part``.
<%def name="keep(name, side, lanes)">
% for i in range(side):
% for j in range(side):
            *(float${lanes}*)(part + ${(i * side + j) * lanes}) = ${name}${i}_${j};
% endfor
% endfor
</%def>

## Stores the pixels of ``tile``, kept in ``part``, of ``count`` channels from ``channel`` on, in blocks of ``beside`` if that is given; ``store`` is the
## caller's hook.
<%def name="spread(store, results, strides, hop, rows, cols, tile, channel, lanes, count, beside=0)">
<%
_, sk, sp, sq = strides
high, wide = results
down, across = left_of("h", high, rows, hop), left_of("w", wide, cols, hop)

def value(lane="lane"):
    return f"part[(i * {hop} + j) * {lanes} + {lane}]"
%>
                ${first_pixel(tile, rows, cols, hop, strides)} + (index_t)(${channel}) * ${sk};
% if beside:
                for (int group = 0; group < ${lanes}; group += ${beside})
                    for (int i = 0; i < ${down}; ++i)
                        for (int j = 0; j < ${across}; ++j)
                            for (int lane = 0; lane < ${beside}; ++lane) ${store("y", f"at + group * {sk} + i * {sp} + j * {sq} + lane", value("group + lane"))}
% elif sk == 1:
                for (int i = 0; i < ${down}; ++i)
                    for (int j = 0; j < ${across}; ++j)
                        for (int lane = 0; lane < ${count}; ++lane) ${store("y", f"at + i * {sp} + j * {sq} + lane", value())}
% else:
                for (int lane = 0; lane < ${count}; ++lane)
                    for (int i = 0; i < ${down}; ++i)
                        for (int j = 0; j < ${across}; ++j) ${store("y", f"at + i * {sp} + j * {sq} + lane * {sk}", value())}
% endif
</%def>
