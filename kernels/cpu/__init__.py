"""The float32 kernels for the CPU, in Numba; nothing imports them before they are needed."""
