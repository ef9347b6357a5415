"""How kernels are described, offered and rendered. Free of OpenCL; every function here is pure."""
