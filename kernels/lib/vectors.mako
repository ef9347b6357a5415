<%doc>The multiply-add of a vector of any width.</%doc>
<%def name="multiply_add(width)">
#ifndef CLNN_MULTIPLY_ADD${width}     // several kernels of one program may bring it
#define CLNN_MULTIPLY_ADD${width}
// That it takes vectors makes compilers for CPUs use their widest registers in the kernel that it is inlined into.
static inline float${width} clnn_multiply_add${width}(const float a, const float${width} b, const float${width} c) { return c + a * b; }
#endif
</%def>
