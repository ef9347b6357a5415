<%doc>
What CPU kernels share that read images from zero-padded planes in local memory (clnn.codegen.planes).
</%doc>

<%namespace name="vectors" file="/lib/vectors.mako"/>
<%def name="functions()">
#ifndef CLNN_PLANES     // several kernels of one program may bring them
#define CLNN_PLANES
${vectors.function("clnn_plane_multiply_add", 16)}
static inline float16 clnn_plane_products(const float16 a, const float16 b, const float16 c) { return c + a * b; }
// elements of a and b in turn
static inline float16 clnn_plane_first_pairs(const float16 a, const float16 b)
{
    return (float16)(${", ".join(f"a.s{i}, b.s{i}" for i in "01234567")});
}
static inline float16 clnn_plane_last_pairs(const float16 a, const float16 b)
{
    return (float16)(${", ".join(f"a.s{i}, b.s{i}" for i in "89abcdef")});
}
#endif
</%def>

## Copies a run of ``count`` neighbouring floats by vectors, the last of which may overlap the one before.
<%def name="run(to, source, count)">
<%
width = next((v for v in (16, 8, 4) if v <= count), 1)
whole = count // width
%>
% if width == 1:
        ${" ".join(f"{to}[{i}] = {source}[{i}];" for i in range(count))}
% else:
% if whole > 4:
        for (int i = 0; i < ${whole * width}; i += ${width}) *(__local loose${width}*)(${to} + i) = *(__global const loose${width}*)(${source} + i);
% else:
        ${" ".join(f"*(__local loose{width}*)({to} + {i * width}) = *(__global const loose{width}*)({source} + {i * width});" for i in range(whole))}
% endif
% if count % width:
        *(__local loose${width}*)(${to} + ${count - width}) = *(__global const loose${width}*)(${source} + ${count - width});
% endif
% endif
</%def>

## Fills row ``row`` of the planes of one channel at ``to`` from the image at ``image`` (C texts). ``down`` and ``across`` are the axes;
## the row that steps begin with is ``first`` (a C text), and ``plane`` floats lie between planes.
<%def name="row(down, across, to, image, row, first, plane, pitch)">
<% width = len(across.planes) %>
% for number, b in enumerate(down.planes):
        {
            const int h = (${first} + ${row}${f" + {down.low}" if down.low else ""}) * ${down.in_step} + ${b};
            __local float* line = ${to} + ${number * width * plane} + ${row} * ${pitch};
            if ((uint)h < ${down.pixels}u) {
                __global const float* from = ${image} + h * ${across.pixels};
% if across.in_step == 1:
<% begin, end = across.inside(0, pitch) %>
                ${run(f"(line + {begin})", f"(from + {begin + across.low})", end - begin)}
% else:
<%
spans = [across.inside(w, pitch) for w in across.planes]
begin, end = max(s[0] for s in spans), min(s[1] for s in spans)
end = max(begin, end)
def place(i, w, j):
    return f"line[{i * plane} + {j}] = from[({j} + {across.low}) * {across.in_step} + {w}];"
%>
<% lanes = next((v for v in (16, 8, 4) if v <= end - begin), 0) %>
% if across.in_step == 2 and width == 2 and lanes:
% for at in ["i"] + ([str(end - begin - lanes)] if (end - begin) % lanes else []):
                ${f"for (int i = 0; i + {lanes} <= {end - begin}; i += {lanes})" if at == "i" else ""} {
                    __global const float* pixels = from + ${(begin + across.low) * 2} + 2 * ${at};
                    const float${lanes} a = *(__global const loose${lanes}*)pixels, b = *(__global const loose${lanes}*)(pixels + ${lanes});
                    *(__local loose${lanes}*)(line + ${begin} + ${at}) = (float${lanes})(a.even, b.even);
                    *(__local loose${lanes}*)(line + ${begin + plane} + ${at}) = (float${lanes})(a.odd, b.odd);
                }
% endfor
% else:
                for (int j = ${begin}; j < ${end}; ++j) { ${" ".join(place(i, w, "j") for i, w in enumerate(across.planes))} }
% endif
% for i, (w, (low, high)) in enumerate(zip(across.planes, spans)):
                ${" ".join(place(i, w, j) for j in [*range(low, min(begin, high)), *range(max(end, low), high)])}
% endfor
% endif
            } else {
                for (int j = 0; j < ${pitch}; ++j) { ${" ".join(f"line[{i * plane} + j] = 0.0f;" for i in range(width))} }
            }
        }
% endfor
</%def>
