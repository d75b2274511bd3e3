"""Two ways to lay the numbers of a layer out: ours (Keras' too) and PyTorch's.

convolution     ours [R, S, C, K]     PyTorch [K, C, R, S]
linear          ours [C, K]           PyTorch [K, C]
"""

import numpy as np


def from_torch(array: np.ndarray) -> np.ndarray:
    """A tensor of PyTorch's layout in ours, in C order; those of rank 0, 1 and 3 are the same."""
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # [K, C, R, S] -> [R, S, C, K]
    elif array.ndim == 2:
        array = array.T  # [K, C] -> [C, K]
    return np.ascontiguousarray(array) if array.ndim else array


def to_torch(array: np.ndarray) -> np.ndarray:
    """The inverse of `from_torch`."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)  # [R, S, C, K] -> [K, C, R, S]
    elif array.ndim == 2:
        array = array.T  # [C, K] -> [K, C]
    return np.ascontiguousarray(array) if array.ndim else array
