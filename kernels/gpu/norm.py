"""Batch normalisation. Definitions are in `array.py`; how the work is shared out, in `norm.cu`.

Activations and their gradients are of one dtype. What belongs to a channel (gamma, beta, mean, var,
gradients of parameters) is float32, and float64 with activations of float64.
"""

from math import prod
from typing import Any, NamedTuple

from resnet_np.kernels import Array
from resnet_np.kernels.gpu.arrays import contiguous, empty, sum_dtype
from resnet_np.kernels.gpu.compiling import launch

# Threads of a block, as in norm.cu: of one that takes a strip, and of one that adds up parts.
LANES, ROWS = 16, 16
COLUMNS, PARTS = 8, 64
# Rows of a strip: at least 8 for each thread, more where there would be more blocks than this. So
# many fill the largest card more than once, and it is not felt that the last ones fill it in part.
LEAST_STRIP, MOST_BLOCKS = 8 * ROWS, 2048


class Strips(NamedTuple):
    """How an array is cut. It depends on the shape and on nothing else, as do the sums, then."""

    rows: int
    channels: int
    strip: int  # rows of a strip, except perhaps the last
    blocks: tuple[int, int]  # groups of channels, strips

    @property
    def sizes(self) -> tuple[int, int, int]:
        """As kernels take them."""
        return self[:3]


def _cut(shape: tuple[int, ...]) -> Strips:
    rows, channels = prod(shape[:-1]), shape[-1]
    groups = -(-channels // (4 * LANES))
    most = max(1, MOST_BLOCKS // max(1, groups))
    strip = max(LEAST_STRIP, -(-rows // (most * ROWS)) * ROWS)
    return Strips(rows, channels, strip, (groups, -(-rows // strip)))


def _inputs(shape: tuple[int, ...], dtype: Any, *arrays: Array | None) -> list[Array | None]:
    """The arrays as kernels read them. Raises ValueError if one is of another shape."""
    for a in arrays:
        if a is not None and a.shape != shape:
            raise ValueError(f"an array {shape} is needed, not {a.shape}")
    return [contiguous(a, dtype) for a in arrays]


def _by_channel(x: Array, *arrays: Array) -> list[Array | None]:
    """The same, for arrays [C]."""
    return _inputs(x.shape[-1:], sum_dtype(x.dtype), *arrays)


def _run(name: str, x: Array, cut: Strips, *arguments: Any) -> None:
    """A pass over arrays of x's shape."""
    launch("norm.cu", name, x.dtype, cut.blocks, (LANES, ROWS), *arguments)


def _combine(name: str, x: Array, parts: Array, *arguments: Any) -> None:
    """A kernel that adds up parts [2, strips, C]."""
    blocks = -(-parts.shape[2] // COLUMNS)
    launch("norm.cu", name, x.dtype, (blocks,), (COLUMNS, PARTS), parts, parts.shape[1], *arguments)


def _new_parts(x: Array, cut: Strips) -> Array:
    return empty(None, (2, cut.blocks[1], cut.channels), x, sum_dtype(x.dtype))


def _new_by_channel(x: Array) -> Array:
    return empty(None, x.shape[-1:], x, sum_dtype(x.dtype))


# --- forward -------------------------------------------------------------------------------------


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    x, cut = contiguous(x), _cut(x.shape)
    parts, mean, var = _new_parts(x, cut), _new_by_channel(x), _new_by_channel(x)
    _run("moments", x, cut, x, parts, *cut.sizes)
    _combine("statistics", x, parts, mean, var, *cut.sizes)
    return fixed_batch_norm(x, gamma, beta, mean, var, eps, residual, relu, out), mean, var


def fixed_batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> Array:
    cut, y = _cut(x.shape), empty(out, x.shape, x)
    x, residual = _inputs(x.shape, x.dtype, x, residual)
    by_channel = _by_channel(y, gamma, beta, mean, var)
    _run("normalise", y, cut, x, *by_channel, residual, y, *cut.sizes, int(relu), float(eps))
    return y


# --- backward ------------------------------------------------------------------------------------


def _sums(gy: Array, parts: Array, var: Array, eps: float) -> tuple[Array, Array]:
    """ggamma and gbeta."""
    ggamma, gbeta = _new_by_channel(gy), _new_by_channel(gy)
    _combine("add_parts", gy, parts, var, gbeta, ggamma, gy.shape[-1], float(eps))
    return ggamma, gbeta


def _shortcut_gradient(gy: Array, residual: bool, relu: bool) -> tuple[Array | None, Array | None]:
    """The shortcut's gradient, and the array into which a kernel has to write it.

    It is g, gy where the ReLU was open; without ReLU that is gy itself, and nothing is written.
    """
    if not residual:
        return None, None
    if not relu:
        return gy, None
    g = empty(None, gy.shape, gy)
    return g, g


def batch_norm_g(
    gy: Array,
    x: Array,
    y: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    cut, gx = _cut(gy.shape), empty(out, gy.shape, gy)
    gresidual, written = _shortcut_gradient(gy, residual, relu)
    gy, x, y = _inputs(gy.shape, gy.dtype, gy, x, y if relu else None)
    gamma, mean, var = _by_channel(gy, gamma, mean, var)
    parts = _new_parts(gy, cut)
    _run("gradient_sums", gy, cut, gy, y, x, mean, parts, *cut.sizes)
    ggamma, gbeta = _sums(gy, parts, var, eps)
    by_channel = gamma, mean, var, ggamma, gbeta
    _run("gradient", gy, cut, gy, y, x, *by_channel, gx, written, *cut.sizes, float(eps))
    return gx, ggamma, gbeta, gresidual


def fixed_batch_norm_g(
    gy: Array,
    x: Array | None,
    y: Array | None,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None, Array | None]:
    cut, gx = _cut(gy.shape), empty(out, gy.shape, gy)
    gresidual, written = _shortcut_gradient(gy, residual, relu)
    gy, x, y = _inputs(gy.shape, gy.dtype, gy, x, y if relu else None)
    gamma, mean, var = _by_channel(gy, gamma, mean, var)
    parts = None if x is None else _new_parts(gy, cut)
    results = gx, written, parts
    _run("fixed_gradient", gy, cut, gy, y, x, gamma, mean, var, *results, *cut.sizes, float(eps))
    ggamma, gbeta = (None, None) if parts is None else _sums(gy, parts, var, eps)
    return gx, ggamma, gbeta, gresidual


def bias_gb(gy: Array, out: Array | None = None) -> Array:
    cut = _cut(gy.shape)
    parts = _new_parts(gy, cut)
    gb = empty(out, gy.shape[-1:], gy, sum_dtype(gy.dtype))
    _run("gradient_sums", gy, cut, contiguous(gy), None, None, None, parts, *cut.sizes)
    _combine("add_parts", gy, parts, None, gb, None, cut.channels, 0.0)
    return gb
