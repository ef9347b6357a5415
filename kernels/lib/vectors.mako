<%doc>The multiply-add of a vector, which CPU kernels share: the function's text, and ``clnn_multiply_add`` with the width in its name.</%doc>
<%def name="function(name, width)">\
// That it takes vectors makes compilers for CPUs use their widest registers in the kernel that it is inlined into.
static inline float${width} ${name}(const float a, const float${width} b, const float${width} c) { return c + a * b; }\
</%def>
<%def name="multiply_add(width)">
#ifndef CLNN_MULTIPLY_ADD${width}     // several kernels of one program may bring it
#define CLNN_MULTIPLY_ADD${width}
${function(f"clnn_multiply_add{width}", width)}
#endif
</%def>
