"""Kernels: arrays in, arrays out. No tensors, no models, no tape.

Letters used in every kernel, comment and docstring of the project:

    N  images in the batch        R, S  kernel height and width
    H, W  input height and width  P, Q  output height and width
    C  input channels             K     output channels

    x  input   w  weight   b  bias   y  output   gy, gx, gw, gb  gradients of the loss by these

Activations are NHWC (`x[N, H, W, C]`) and convolution weights are HWIO (`w[R, S, C, K]`): with the
channels last, a 1x1 convolution is one matrix product on the activation as it lies in memory.

`stride` is a pair (vertical, horizontal); `padding` is ((top, bottom), (left, right)). The number
and "same" forms that people write are turned into these one floor up, in `resnet_np.autograd`.

Every kernel exists more than once, with the same name and signature:

    reference.py   naive loops: the definition, for tests and readers
    array.py       whole-array operations, for NumPy and CuPy alike: im2col + matrix product
    cpu/           compiled by Numba, for float32 arrays of NumPy
    gpu/           CUDA C++ and cuBLAS, for arrays of CuPy
    shapes.py      the shapes of their results, for a look ahead

`of(x)` picks the module that is right for an array. It is the only switch in the project. A result
is written into `out` where one is given: a contiguous array of the result's shape and dtype.

Arrays of one call share one dtype, except on a GPU, in *mixed precision*: where activations have 16
bits, all that belongs to parameters, their gradients and the channels' statistics is float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: the two share no base class
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
NO_PADDING: Padding = ((0, 0), (0, 0))

PRECISIONS = ("fp32", "tf32")
# How matrix products of float32 are computed on a GPU; nothing else looks at it.
precision: ContextVar[str] = ContextVar("precision", default="fp32")

_only_shapes: ContextVar[bool] = ContextVar("only_shapes", default=False)


def get_array_module(x: Array) -> Any:
    """The module whose functions work on `x`: `numpy`, or `cupy` for an array on a GPU.

    Raises TypeError for anything else.
    """
    if isinstance(x, np.ndarray | np.generic):
        return np
    if not type(x).__module__.startswith("cupy"):
        raise TypeError(f"an array of NumPy or CuPy is needed, not {type(x).__name__}")
    import cupy  # only an array that CuPy made brings us here

    return cupy


def is_floating(dtype: Any) -> bool:
    """Whether these are floating-point numbers; NumPy does not know that bfloat16 is one."""
    return dtype.kind == "f" or str(dtype) == "bfloat16"


def parameter_dtype(dtype: Any) -> np.dtype:
    """The dtype of parameters for activations of this one, in mixed precision."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and is_floating(dtype) else np.dtype(dtype)


def of(x: Array) -> ModuleType:
    """The kernels for `x`, chosen by the array's type and dtype; `shapes` inside `only_shapes`."""
    from resnet_np.kernels import array, shapes

    if _only_shapes.get():
        return shapes
    if is_on_gpu(x):
        from resnet_np.kernels import gpu

        return gpu
    if not is_compiled(x):
        return array
    from resnet_np.kernels import cpu

    return cpu


@contextmanager
def using_precision(name: str) -> Iterator[None]:
    """Inside, a GPU multiplies matrices of float32 in full ("fp32") or as TF32 ("tf32").

    TF32 keeps 10 of the 23 bits behind the point of each factor; sums stay in float32. It is
    several times faster on the cards that have it. Arrays of other dtypes, and those on the CPU, do
    not change. Raises ValueError for another name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {name!r}")
    token = precision.set(name)
    try:
        yield
    finally:
        precision.reset(token)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Inside, kernels compute nothing: their results have the right shape and dtype, no more."""
    token = _only_shapes.set(True)
    try:
        yield
    finally:
        _only_shapes.reset(token)


def is_on_gpu(x: Array) -> bool:
    """Whether `x` lies on a GPU."""
    return get_array_module(x) is not np


def to_host(x: Array) -> np.ndarray:
    """`x` as a NumPy array: itself, or a copy of what lies on a GPU."""
    xp = get_array_module(x)
    return x if xp is np else xp.asnumpy(x)


def is_compiled(x: Array) -> bool:
    """Whether there are kernels that Numba compiles for arrays like `x`."""
    if is_on_gpu(x) or x.dtype != np.float32:
        return False
    from resnet_np.kernels import cpu

    return cpu.COMPILED


def output_sizes(x_shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding) -> Pair:
    """(P, Q) of a sliding window on [N, H, W, C]: floor((H + padding - size) / stride) + 1.

    ResNet's stem on 224 pixels: floor((224 + 6 - 7) / 2) + 1 = 112.
    """
    p, q = (
        (pixels + sum(border) - window) // step + 1
        for pixels, border, window, step in zip(x_shape[1:3], padding, size, stride, strict=True)
    )
    return p, q


def check_out(out: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """`out`, if it can take a result of this shape and dtype. Raises ValueError if not."""
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be a contiguous array of {dtype} {shape}, not {out.dtype} {out.shape}"
        )
    return out
