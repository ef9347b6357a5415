<%doc>What CPU kernels that multiply in register blocks share: the multiply-add of a vector, and packing a matrix view in panels.</%doc>
<%!
def inner(digits):
    return next((d for d in reversed(digits) if d.extent > 1), digits[-1])

def run_of(view, digits):
    """(length, step) of the neighbours along the innermost digit that lie side by side in memory, or each second one does. The
    step is 1 or 2 pixels of an image over which the view slides, and 0 where it does not move over an image."""
    digit, window = inner(digits), view.window
    if digit.stride == 1 and not digit.h and not digit.w:
        return digit.extent, 0
    if window is not None and not digit.stride and not digit.h and digit.w in (1, 2) and window.w_stride == 1 and (
        window.divide_h, window.divide_w) == (1, 1):
        return digit.extent, digit.w
    return 1, 0
%>
<%def name="functions()">
#ifndef CLNN_PANELS     // several kernels of one program may bring them
#define CLNN_PANELS
// That it takes vectors makes compilers for CPUs use their widest registers in the kernel that it is inlined into.
static inline float16 clnn_multiply_add(const float a, const float16 b, const float16 c) { return c + a * b; }

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

<%def name="column(view, i)">
<% kinds = ("o",) if view.window is None else ("o", "h", "w") %>
${" ".join(f"const {'index_t' if x == 'o' else 'int'} c{x} = pack_{x}[{i}];" for x in kinds)} ${view.locate("r", "c", "at", "g")}
</%def>

## Copies a panel: for each k of k0 … k0 + kc - 1 the ``width`` neighbours along ``view``'s columns that start at ``first``. Of
## those only ``count`` exist; what stands in for the others is never stored. Rows of the view are k. Up to 7 floats behind the last
## element may be overwritten.
<%def name="pack(view, pointer, width, first, count, to)">
<%
across, step_across = run_of(view, view.cols)
along, step_along = run_of(view, view.rows)
group = 16 if width % 16 == 0 and across >= 16 and not step_across else 8
mode = "across" if across >= group and width % group == 0 else "along" if along >= 8 else ""
one_run = sum(d.extent > 1 for d in view.rows) <= 1
image = view.window

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
            index_t pack_o[${width}];
% if image is not None:
            int pack_h[${width}], pack_w[${width}];
% endif
            for (int i = 0; i < ${width}; ++i) {
                const int outer = ${first} + (i < ${count} ? i : ${count} - 1);
                ${view.col("outer", "c")}
                pack_o[i] = co;
% if image is not None:
                pack_h[i] = ch;
                pack_w[i] = cw;
% endif
            }
% if mode == "across":
% for i in range(0, width, group):
<%
last = i + group - 1
same = [f"{count} > {last}", f"pack_o[{last}] - pack_o[{i}] == {0 if step_across else group - 1}"]
if image is not None:
    same += [f"pack_h[{last}] == pack_h[{i}]", f"pack_w[{last}] - pack_w[{i}] == {(group - 1) * step_across}"]
%>
            const bool run${i} = ${" && ".join(same)};
% endfor
            for (int j = 0; j < kc; ++j) {
                const int k = k0 + j;
                __local float* line = ${to} + j * ${width};
                ${view.row("k", "r")}
% for i in range(0, width, group):
                if (run${i}) {
                    ${column(view, i)}
                    if (${whole(step_across, group)})
                        *(__local loose${group}*)(line + ${i}) = ${run(step_across, group)};
                    else
                        for (int l = 0; l < ${group}; ++l) line[${i} + l] = ${outside(step_across, "l")};
                } else
                    for (int i = ${i}; i < ${i + group}; ++i) {
                        ${column(view, "i")}
                        line[i] = ${view.load(pointer, "at")};
                    }
% endfor
            }
% else:
            for (int j = 0; j < kc;) {
                const int k = k0 + j;
                __local float* line = ${to} + j * ${width};
                ${view.row("k", "r")}
% if mode == "along":
                if (kc - j >= 8${"" if one_run else f" && {inner(view.rows).extent} - k % {inner(view.rows).extent} >= 8"}) {
                    float8 ${", ".join(f"from{i}" for i in range(8))};
% for start in [min(i, max(width - 8, 0)) for i in range(0, width, 8)]:
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
% endif
</%def>
