"""One number at a time. Definitions are in `array.py`."""

from resnet_np.kernels import Array
from resnet_np.kernels.gpu.arrays import contiguous, empty
from resnet_np.kernels.gpu.compiling import launch_for_each


def add(a: Array, b: Array, out: Array | None = None) -> Array:
    y = empty(out, a.shape, a)
    a, b = contiguous(a), contiguous(b, a.dtype)
    launch_for_each("elementwise.cu", "add", y, y.size, a, b, y)
    return y


def relu(x: Array, out: Array | None = None) -> Array:
    y = empty(out, x.shape, x)
    launch_for_each("elementwise.cu", "relu", y, y.size, contiguous(x), y)
    return y


def relu_gx(gy: Array, y: Array, out: Array | None = None) -> Array:
    gx = empty(out, gy.shape, gy)
    gy, y = contiguous(gy), contiguous(y, gy.dtype)
    launch_for_each("elementwise.cu", "relu_gx", gx, gx.size, gy, y, gx)
    return gx
