<%doc>
What kernels of Winograd convolutions share: reading the pixels of a tile and storing them, where vectors are made of channels that lie side by
side, or one plane apart. They need a private array ``part`` of [element][lane], and a type ``loose_t``, a vector that may lie anywhere.
</%doc>
## Declares d0_0 …, the pixels of ``tile`` as vectors of ``lanes`` channels from ``channel`` on; outside the image they are 0. If ``count`` is
## given, only so many channels exist, and the spare lanes repeat the last one.
<%def name="collect(pixels, strides, origin, hop, rows, cols, size, tile, channel, lanes, count=None)">
<%
high, wide = pixels
sn, sc, sh, sw = strides
top, left = origin
cut = not (top >= 0 and top + (rows - 1) * hop + size <= high and left >= 0 and left + (cols - 1) * hop + size <= wide)
kind = f"float{lanes}"
%>
            {
                const int h = ${tile} / ${cols} % ${rows} * ${hop} + ${top}, w = ${tile} % ${cols} * ${hop} + ${left};
                const index_t at = (index_t)(${tile} / ${cols * rows}) * ${sn} + (index_t)h * ${sh} + (index_t)w * ${sw} + (index_t)${channel} * ${sc};
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

## Stores the pixels of ``tile``, kept in ``part``, of ``count`` channels from ``channel`` on; ``store`` is the caller's hook.
<%def name="spread(store, results, strides, hop, rows, cols, tile, channel, lanes, count)">
<%
sn, sk, sp, sq = strides
high, wide = results
down = f"({high} - h < {hop} ? {high} - h : {hop})" if rows * hop != high else hop
across = f"({wide} - w < {hop} ? {wide} - w : {hop})" if cols * hop != wide else hop
value = f"part[(i * {hop} + j) * {lanes} + lane]"
%>
                const int h = ${tile} / ${cols} % ${rows} * ${hop}, w = ${tile} % ${cols} * ${hop};
                const index_t at = (index_t)(${tile} / ${cols * rows}) * ${sn} + (index_t)h * ${sp} + (index_t)w * ${sq} + (index_t)(${channel}) * ${sk};
% if sk == 1:
                for (int i = 0; i < ${down}; ++i)
                    for (int j = 0; j < ${across}; ++j)
                        for (int lane = 0; lane < ${count}; ++lane) ${store("y", f"at + i * {sp} + j * {sq} + lane", value)}
% else:
                for (int lane = 0; lane < ${count}; ++lane)
                    for (int i = 0; i < ${down}; ++i)
                        for (int j = 0; j < ${across}; ++j) ${store("y", f"at + i * {sp} + j * {sq} + lane * {sk}", value)}
% endif
</%def>
