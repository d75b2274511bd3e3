"""Pooling and up-sampling. Definitions are in `array.py`; how the work is split is in pool.cu."""

from resnet_np.kernels import Array, Padding, Pair, output_sizes
from resnet_np.kernels.gpu.arrays import contiguous, empty
from resnet_np.kernels.gpu.compiling import MOST_BLOCKS, THREADS, launch

FILE = "pool.cu"
LANES, MOST_STRIPS = 32, 32  # of a block of global_avg_pool: channels, and strips of pixels


# --- launching -----------------------------------------------------------------------------------


def _power_of_two(number: int) -> int:
    """The lowest that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _launch_rows(name: str, result: Array, *arguments: Array | int | None) -> None:
    """Run a kernel whose blocks make a row each, or part of it, of `result` [N, H, W, C].

    Few channels leave room in a block for many pixels.
    """
    n, h, w, c = result.shape
    channels = min(_power_of_two(c), THREADS)
    pixels = THREADS // channels
    blocks = n * h, min(-(-w // pixels), MOST_BLOCKS)
    launch(FILE, name, result.dtype, blocks, (channels, pixels), *arguments)


def _windows(
    x_shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding
) -> tuple[int, ...]:
    """What kernels want to know: H, W, C, P, Q, R, S, down, across, top, left."""
    outputs = output_sizes(x_shape, size, stride, padding)
    return *x_shape[1:], *outputs, *size, *stride, padding[0][0], padding[1][0]


# --- the largest ---------------------------------------------------------------------------------


def max_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> tuple[Array, Array]:
    shape = len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]
    y, index = empty(out, shape, x), empty(None, shape, x, "int32")
    numbers = _windows(x.shape, size, stride, padding)
    _launch_rows("max_pool", y, contiguous(x), y, index, *numbers)
    return y, index


def max_pool_y(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """`max_pool` for those who will not go back: y alone."""
    y = empty(out, (len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]), x)
    numbers = _windows(x.shape, size, stride, padding)
    _launch_rows("max_pool", y, contiguous(x), y, None, *numbers)
    return y


def max_pool_gx(
    gy: Array,
    index: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    gx = empty(out, x_shape, gy)
    numbers = _windows(x_shape, size, stride, padding)
    gy, index = contiguous(gy), contiguous(index, "int32")
    _launch_rows("max_pool_gx", gx, gy, index, gx, *numbers)
    return gx


# --- the mean ------------------------------------------------------------------------------------


def avg_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    y = empty(out, (len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]), x)
    _launch_rows("avg_pool", y, contiguous(x), y, *_windows(x.shape, size, stride, padding))
    return y


def avg_pool_gx(
    gy: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    gx = empty(out, x_shape, gy)
    _launch_rows("avg_pool_gx", gx, contiguous(gy), gx, *_windows(x_shape, size, stride, padding))
    return gx


def global_avg_pool(x: Array, out: Array | None = None) -> Array:
    n, h, w, c = x.shape
    y = empty(out, (n, c), x)
    # About as many strips as each of them has pixels: then both sums are short.
    strips = min(_power_of_two(round((h * w) ** 0.5)), MOST_STRIPS)
    blocks = n * -(-c // LANES)
    launch(FILE, "global_avg_pool", x.dtype, (blocks,), (LANES, strips), contiguous(x), y, h * w, c)
    return y


def global_avg_pool_gx(gy: Array, x_shape: tuple[int, ...], out: Array | None = None) -> Array:
    gx = empty(out, x_shape, gy)
    _launch_rows("global_avg_pool_gx", gx, contiguous(gy), gx, *x_shape[1:])
    return gx


# --- up-sampling ---------------------------------------------------------------------------------


def upsample_nearest(x: Array, factor: Pair, out: Array | None = None) -> Array:
    n, p, q, c = x.shape
    h, w = p * factor[0], q * factor[1]
    y = empty(out, (n, h, w, c), x)
    _launch_rows("upsample_nearest", y, contiguous(x), y, h, w, c, p, q, *factor)
    return y


def upsample_nearest_gx(gy: Array, factor: Pair, out: Array | None = None) -> Array:
    n, h, w, c = gy.shape
    p, q = h // factor[0], w // factor[1]
    gx = empty(out, (n, p, q, c), gy)
    _launch_rows("upsample_nearest_gx", gx, contiguous(gy), gx, h, w, c, p, q, *factor)
    return gx
