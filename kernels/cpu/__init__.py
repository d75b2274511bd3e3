"""The float32 kernels for the CPU, in Numba. (A package that nothing imports before it is needed.)"""
