"""Softmax and cross-entropy, a block of threads for each row. Definitions are in `array.py`."""

from resnet_np.kernels import Array
from resnet_np.kernels.gpu.arrays import contiguous, empty
from resnet_np.kernels.gpu.compiling import launch

WARP, MOST_THREADS = 32, 1024  # threads that run in step, and threads of a block


def _launch_rows(name: str, x: Array, *arguments: Array) -> None:
    """Run a kernel on the rows of x [N, K], whose blocks are of a power of two of threads."""
    n, k = x.shape
    threads = min(max(WARP, 1 << (k - 1).bit_length()), MOST_THREADS)
    launch("loss.cu", name, x.dtype, (n,), (threads,), *arguments, k)


def softmax(x: Array, out: Array | None = None) -> Array:
    p = empty(out, x.shape, x)
    _launch_rows("softmax", x, contiguous(x), p)
    return p


def softmax_cross_entropy(x: Array, t: Array, out: Array | None = None) -> Array:
    loss = empty(out, (len(x),), x)
    arrays = contiguous(x), contiguous(t, x.dtype)
    _launch_rows("softmax_cross_entropy", x, *arrays, loss)
    return loss


def softmax_cross_entropy_gx(gy: Array, p: Array, t: Array, out: Array | None = None) -> Array:
    gx = empty(out, p.shape, p)
    arrays = (contiguous(a, gy.dtype) for a in (gy, p, t))
    _launch_rows("softmax_cross_entropy_gx", p, *arrays, gx)
    return gx
