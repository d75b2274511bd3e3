from typing import Any

import numpy as np

from cupy._array import compute, ndarray


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return compute("as_strided", np.lib.stride_tricks.as_strided, x, shape, strides)
