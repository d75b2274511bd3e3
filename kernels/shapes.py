"""The shapes of the kernels' results, without the results: zeros that nobody reads.

For a look at what a network does before it is run: see `resnet_np.plan.trace`. Memory of zeros is
promised by the system and only given when it is touched, so a pass in here takes neither time nor
memory. Kernels that are not here are the array's.
"""

from typing import Any

from resnet_np.kernels import Array, Padding, Pair, array, get_array_module, output_sizes


def __getattr__(name: str) -> Any:
    return getattr(array, name)


def _zeros(shape: tuple[int, ...], like: Array, out: Array | None) -> Array:
    return get_array_module(like).zeros(shape, like.dtype) if out is None else out


def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    p, q = output_sizes(x.shape, w.shape[:2], stride, padding)
    return _zeros((len(x), p, q, w.shape[3]), x, out)


def linear(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    return _zeros((len(x), w.shape[1]), x, out)


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
    return _zeros(x.shape, x, out)


def relu(x: Array, out: Array | None = None) -> Array:
    return _zeros(x.shape, x, out)


def max_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> tuple[Array, Array]:
    y = avg_pool(x, size, stride, padding, out)
    return y, get_array_module(x).zeros(y.shape, "int32")


def avg_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    return _zeros((len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]), x, out)


def global_avg_pool(x: Array, out: Array | None = None) -> Array:
    return _zeros((len(x), x.shape[3]), x, out)
