<%doc>What CPU kernels that multiply in register blocks share: the multiply-add of a vector, and packing a matrix view in panels.</%doc>
<%!
import math

from clnn.codegen.views import innermost, one_run, run_of
%>
<%namespace name="vectors" file="/lib/vectors.mako"/>
<%def name="functions()">
#ifndef CLNN_PANELS     // several kernels of one program may bring them
#define CLNN_PANELS
${vectors.function("clnn_multiply_add", 16)}

// Rows r0 … r7 become columns: the i-th elements of all are written to to[i * stride] …
static inline void clnn_transpose8(const float8 r0, const float8 r1, const float8 r2, const float8 r3, const float8 r4,
                                   const float8 r5, const float8 r6, const float8 r7, __local float* to, const int stride)
{
    typedef float8 loose8 __attribute__((aligned(4)));
% for half in (0, 4):
% for i in range(0, 4, 2):
<% a, b = f"r{half + i}", f"r{half + i + 1}" %>
    const float8 t${half + i} = (float8)(${a}.s0, ${b}.s0, ${a}.s1, ${b}.s1, ${a}.s4, ${b}.s4, ${a}.s5, ${b}.s5);
    const float8 t${half + i + 1} = (float8)(${a}.s2, ${b}.s2, ${a}.s3, ${b}.s3, ${a}.s6, ${b}.s6, ${a}.s7, ${b}.s7);
% endfor
<% low, high = (f"t{half}", f"t{half + 2}"), (f"t{half + 1}", f"t{half + 3}") %>
    const float8 u${half} = (float8)(${low[0]}.s01, ${low[1]}.s01, ${low[0]}.s45, ${low[1]}.s45);
    const float8 u${half + 1} = (float8)(${low[0]}.s23, ${low[1]}.s23, ${low[0]}.s67, ${low[1]}.s67);
    const float8 u${half + 2} = (float8)(${high[0]}.s01, ${high[1]}.s01, ${high[0]}.s45, ${high[1]}.s45);
    const float8 u${half + 3} = (float8)(${high[0]}.s23, ${high[1]}.s23, ${high[0]}.s67, ${high[1]}.s67);
% endfor
% for i in range(8):
<% half = "lo" if i < 4 else "hi" %>
    *(__local loose8*)(to + ${i} * stride) = (float8)(u${i % 4}.${half}, u${i % 4 + 4}.${half});
% endfor
}
#endif
</%def>

## Declares where the columns of a view lie: of ``used`` ones, the i-th is ``column``.
<%def name="places(view, size, used, column)">
            index_t pack_o[${size}];
% if view.window is not None:
            int pack_h[${size}], pack_w[${size}];
% endif
            for (int i = 0; i < ${used}; ++i) {
                const int outer = ${column};
                ${view.col("outer", "c")}
                pack_o[i] = co;
% if view.window is not None:
                pack_h[i] = ch;
                pack_w[i] = cw;
% endif
            }
</%def>

<%def name="column(view, i)">
<% kinds = ("o",) if view.window is None else ("o", "h", "w") %>
${" ".join(f"const {'index_t' if x == 'o' else 'int'} c{x} = pack_{x}[{i}];" for x in kinds)} ${view.locate("r", "c", "at", "g")}
</%def>

## Copies the panels of a tile: for each k of k0 … k0 + kc - 1 the columns of ``view`` from ``first``, of which only ``count``, at most
## ``most``, exist; each ``width`` of them become a panel, ``depth`` rows long, from ``to`` on. What stands in for missing columns is never
## stored. Rows of the view are k. Up to 7 floats behind the last element may be overwritten.
<%def name="pack(view, pointer, width, first, count, most, depth, to)">
<%
across, step_across = run_of(view, view.cols)
along, step_along = run_of(view, view.rows)
group = 16 if width % 16 == 0 and across >= 16 and not step_across else 8
# of narrower panels each row is written over by what the last one's group of 8 is too wide
mode = "across" if across >= group and (width % group == 0 or 4 < width < 8) else "along" if along >= 8 else ""
image = view.window
groups = -(-width // group)
total = math.prod(digit.extent for digit in view.cols)
plain = image is None and one_run(view.cols) and not step_across
together = max(256 // width, 1) * width      # columns that are read at a time, so that reads run along memory
even = mode == "along" and image is None and one_run(view.cols) and one_run(view.rows)
starts = [min(i, max(width - 8, 0)) for i in range(0, width, 8)]
last_row = "" if width % group == 0 else " && j + 1 < kc"

def outside(step, lane):
    """An element of a run that is not wholly on the image; ``at`` is where the run starts."""
    if not step:
        return "0.0f"
    return (f"(uint)at_h < {image.height}u && (uint)(at_w + {step} * {lane}) < {image.width}u ? "
            f"{pointer}[at + {step} * {lane}] : 0.0f")

def whole(step, lanes):
    """The condition that all that is read for a run of ``lanes`` is on the image."""
    if not view.checked and step < 2:
        return "true"
    return ("at_in && " if view.checked else "") + (f"at_w + {step * lanes - 1} < {image.width}" if step else "true")

def run(step, lanes):
    """The elements of a run."""
    if step < 2:
        return f"*(__global const loose{lanes}*)({pointer} + at)"
    return f"(*(__global const loose{2 * lanes}*)({pointer} + at)).even"
%>
% if mode == "across" and plain and width < group:
        for (int top = 0; top < kc; top += 16) {        // rows that the first cache holds while they are cut into panels
            const int bottom = top + 16 < kc ? top + 16 : kc;
            for (int panel = 0; panel < ${count}; panel += ${width}) {
                const int outer = ${first} + panel, copied = outer + ${group} > ${total} ? top : bottom < kc ? bottom : kc - 1;
                __local float* line = ${to} + panel * ${depth};
                int j = top;
                #pragma unroll 8
                for (; j < copied; ++j) {
                    const int k = k0 + j;
                    ${view.row("k", "r")} ${view.col("outer", "c")} ${view.locate("r", "c", "at", "g")}
                    *(__local loose${group}*)(line + j * ${width}) = *(__global const loose${group}*)(${pointer} + at);
                }
                for (; j < bottom; ++j) {
                    const int k = k0 + j;
                    ${view.row("k", "r")} ${view.col("outer", "c")} ${view.locate("r", "c", "at", "g")}
                    for (int l = 0; l < ${width}; ++l) line[j * ${width} + l] = outer + l < ${total} ? ${pointer}[at + l] : 0.0f;
                }
            }
        }
% elif mode == "across" and plain:
        for (int panels = 0; panels < ${count}; panels += ${together}) {
            const int ends = panels + ${together} < ${count} ? panels + ${together} : ${count};
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j, outer = ${first};
                ${view.row("k", "r")} ${view.col("outer", "c")} ${view.locate("r", "c", "at", "g")}
                for (int panel = panels; panel < ends; panel += ${width}) {
                    __local float* line = ${to} + panel * ${depth} + j * ${width};
                    if (${total} - outer - panel >= ${groups * group}${last_row}) {
% for lane in range(0, width, group):
                        *(__local loose${group}*)(line + ${lane}) = *(__global const loose${group}*)(${pointer} + at + panel + ${lane});
% endfor
                    } else
                        for (int l = 0; l < ${width}; ++l) line[l] = outer + panel + l < ${total} ? ${pointer}[at + panel + l] : 0.0f;
                }
            }
        }
% elif mode == "across":
        {
            const int panels = (${count} + ${width - 1}) / ${width};
            ${places(view, most + width + 8, f"panels * {width} + {groups * group - width}", f"{first} + i < {total} ? {first} + i : {total - 1}")}
            bool pack_run[${(most // width + 1) * groups}];     // of each group, whether it can be copied as one
            for (int panel = 0; panel < panels; ++panel)
                for (int i = 0; i < ${groups}; ++i) {
                    const int from = panel * ${width} + i * ${group}, last = from + ${group - 1};
                    pack_run[panel * ${groups} + i] = ${first} + last < ${total} && pack_o[last] - pack_o[from] == ${0 if step_across else group - 1}${
                        "" if image is None else f" && pack_h[last] == pack_h[from] && pack_w[last] - pack_w[from] == {(group - 1) * step_across}"};
                }
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                ${view.row("k", "r")}
                for (int panel = 0; panel < panels; ++panel) {
                    __local float* line = ${to} + panel * ${width * depth} + j * ${width};
% for i in range(groups):
                    {
                        const int from = panel * ${width} + ${i * group};
                        if (pack_run[panel * ${groups} + ${i}]${last_row}) {
                            ${column(view, "from")}
                            if (${whole(step_across, group)}) *(__local loose${group}*)(line + ${i * group}) = ${run(step_across, group)};
                            else for (int l = 0; l < ${group}; ++l) line[${i * group} + l] = ${outside(step_across, "l")};
                        } else
                            for (int l = 0; l < ${min(group, width)}; ++l) {
                                ${column(view, "from + l")}
                                line[${i * group} + l] = ${view.load(pointer, "at")};
                            }
                    }
% endfor
                }
            }
        }
% else:
        for (int panel = 0; panel < ${count}; panel += ${width}) {
% if even:
            if (${count} - panel >= ${width}) {         // no column is missing, and all lie evenly apart
                const int outer = ${first} + panel;
                int j = 0;
                for (; j + 8 <= kc; j += 8) {
                    const int k = k0 + j;
                    ${view.row("k", "r")} ${view.col("outer", "c")} ${view.locate("r", "c", "at", "g")}
                    __local float* line = ${to} + panel * ${depth} + j * ${width};
                    float8 ${", ".join(f"from{i}" for i in range(8))};
% for start in starts:
                    ${" ".join(f"from{i} = *(__global const loose8*)({pointer} + at + {min(start + i, width - 1) * innermost(view.cols).stride});" for i in range(8))}
                    clnn_transpose8(${", ".join(f"from{i}" for i in range(8))}, line + ${start}, ${width});
% endfor
                }
                for (; j < kc; ++j)
                    for (int i = 0; i < ${width}; ++i) {
                        const int k = k0 + j, column = outer + i;
                        ${view.row("k", "r")} ${view.col("column", "c")} ${view.locate("r", "c", "at", "g")}
                        ${to}[panel * ${depth} + j * ${width} + i] = ${view.load(pointer, "at")};
                    }
                continue;
            }
% endif
            ${places(view, width, width, f"{first} + (panel + i < {count} ? panel + i : {count} - 1)")}
            for (int j = 0; j < kc;) {
                const int k = k0 + j;
                __local float* line = ${to} + panel * ${depth} + j * ${width};
                ${view.row("k", "r")}
% if mode == "along":
                if (kc - j >= 8${"" if one_run(view.rows) else f" && {innermost(view.rows).extent} - k % {innermost(view.rows).extent} >= 8"}) {
                    float8 ${", ".join(f"from{i}" for i in range(8))};
% for start in starts:
% for i in range(8):
                    {
                        ${column(view, min(start + i, width - 1))}
                        if (${whole(step_along, 8)}) from${i} = ${run(step_along, 8)};
                        else from${i} = (float8)(${", ".join(outside(step_along, lane) for lane in range(8))});
                    }
% endfor
                    clnn_transpose8(${", ".join(f"from{i}" for i in range(8))}, line + ${start}, ${width});
% endfor
                    j += 8;
                    continue;
                }
% endif
                for (int i = 0; i < ${width}; ++i) {
                    ${column(view, "i")}
                    line[i] = ${view.load(pointer, "at")};
                }
                ++j;
            }
        }
% endif
</%def>
