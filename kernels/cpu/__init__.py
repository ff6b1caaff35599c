"""Native kernels for CPUs, in C++: compiled for the machine at first use, called through ctypes."""
