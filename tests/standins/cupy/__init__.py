"""A stand-in for CuPy, for machines without a card: `cupy` on the processor, and as strict.

What runs on a card runs here: arrays hold a NumPy array that nobody else can reach, kernels in CUDA
C++ run by the emulator in tests/kernels/gpu, matrix products and everything else by NumPy. What
CuPy refuses (mixing its arrays with NumPy's, converting them without being asked) is refused, and
what CUDA would silently get wrong (a kernel's arguments, addresses, work that nobody waited for)
is found. It is no measure of speed.

Tests have the fixture `card`; a process of its own has PYTHONPATH=tests/standins. `cupy.standin`
says what happened and can make things go wrong. See it for both.
"""

import os as _os
from typing import Any

if _os.environ.get("CUPY_STANDIN") == "broken":
    _rule = "=" * 64
    raise ImportError(
        f"\n{_rule}\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: libcudart.so.12: "
        f"cannot open shared object file: No such file or directory\n{_rule}\n"
    )

import ml_dtypes as _ml_dtypes  # noqa: F401  # with it NumPy knows "bfloat16"
import numpy as np

from cupy import cuda, lib, standin  # noqa: F401
from cupy._array import (
    REDUCTIONS,
    change,
    check_options,
    compute,
    devices,
    download,
    hidden,
    names,
    ndarray,
    upload,
)
from cupy._raw import RawKernel, RawModule  # noqa: F401

__version__ = "14.0.0"


def is_available() -> bool:
    return cuda.is_available()


def get_default_memory_pool() -> cuda.MemoryPool:
    return cuda.memory.pool


def get_default_pinned_memory_pool() -> cuda.PinnedMemoryPool:
    return cuda.memory.pinned_pool


def get_array_module(*args: Any) -> Any:
    import cupy

    return cupy if any(isinstance(x, ndarray) for x in args) else np


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    if isinstance(a, ndarray):
        return download(a, stream, order, out, blocking)
    return np.asarray(a, order=order)


# --- new arrays ----------------------------------------------------------------------------------


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Filled with NaN: what was there before is none of anybody's business."""
    return ndarray(shape, dtype, order=order)


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None
) -> ndarray:
    _own(prototype)
    like = np.empty_like(prototype._array, dtype, order, False, shape)
    return ndarray(like.shape, like.dtype, strides=like.strides if like.size else None)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    x = empty(shape, np.result_type(fill_value) if dtype is None else dtype, order)
    change("full", np.ndarray.fill, x, fill_value)
    return x


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    x = empty_like(a, dtype)
    change("full", np.ndarray.fill, x, fill_value)
    return x


def zeros_like(a: ndarray, dtype: Any = None) -> ndarray:
    return full_like(a, 0, dtype)


def ones_like(a: ndarray, dtype: Any = None) -> ndarray:
    return full_like(a, 1, dtype)


def array(
    obj: Any, dtype: Any = None, copy: Any = True, order: str = "K", *, blocking: bool = False
) -> ndarray:
    if isinstance(obj, ndarray):
        if not copy and dtype in (None, obj.dtype):
            return obj
        return obj.astype(obj.dtype if dtype is None else dtype)
    if isinstance(obj, list | tuple) and any(True for _ in devices(obj)):
        return __getattr__("stack")([array(part, dtype) for part in obj])
    host = np.asarray(obj, dtype=dtype)
    if host.dtype.kind not in "biufcV" or host.dtype.hasobject:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    like = np.empty_like(host, subok=False)
    device = ndarray(host.shape, host.dtype, strides=like.strides if like.size else None)
    upload(host, device)
    return device


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, copy or False)


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    _own(a)
    if a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    return compute("ascontiguousarray", np.ascontiguousarray, a, dtype)


def arange(*args: Any, dtype: Any = None) -> ndarray:
    return compute("arange", np.arange, *args, dtype=dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> ndarray:
    return compute("eye", np.eye, N, M, k, dtype)


# --- everything else: NumPy's function of the same name ------------------------------------------


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    if isinstance(src, np.ndarray):
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    change("copyto", np.copyto, dst, src, casting, where=True if where is None else where)


CONSTANTS = names(
    """
    bool_ dtype finfo float16 float32 float64 iinfo inf int8 int16 int32 int64 nan newaxis pi
    promote_types uint8 uint16 uint32 uint64
    """
)
QUESTIONS = names("may_share_memory ndim result_type shape shares_memory size")  # about arrays
UFUNCS = names(
    """
    abs absolute add bitwise_and bitwise_not bitwise_or bitwise_xor ceil copysign cos divide equal
    exp exp2 expm1 fabs floor floor_divide fmax fmin greater greater_equal hypot invert isfinite
    isinf isnan ldexp left_shift less less_equal log log10 log1p log2 logaddexp logical_and
    logical_not logical_or logical_xor matmul maximum minimum mod multiply negative nextafter
    not_equal positive power reciprocal remainder right_shift rint sign signbit sin sqrt square
    subtract tan tanh true_divide trunc
    """
)
FUNCTIONS = names(
    """
    allclose argsort array_equal atleast_1d atleast_2d average bincount broadcast_arrays
    broadcast_to clip concatenate count_nonzero cumprod cumsum diag diagonal diff dot einsum
    expand_dims flip fliplr flipud hstack inner isclose kron linspace logspace median meshgrid
    moveaxis nan_to_num nonzero outer pad percentile ptp quantile ravel repeat reshape roll
    rollaxis rot90 searchsorted sort split squeeze stack swapaxes take take_along_axis tensordot
    tile trace transpose tri tril triu unique vdot vstack where
    """
)
# What each of them can be told by name; the other functions' options are as NumPy's.
OPTIONS = dict.fromkeys(UFUNCS, names("dtype out casting")) | REDUCTIONS


def __getattr__(name: str) -> Any:
    if name in CONSTANTS:
        return getattr(np, name)
    if name in QUESTIONS:
        return lambda *args: getattr(np, name)(*hidden(args))
    if name not in FUNCTIONS and name not in OPTIONS:
        raise AttributeError(f"module 'cupy' has no attribute '{name}', or the stand-in lacks it")
    function = getattr(np, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        check_options(name, kwargs, OPTIONS.get(name))
        out = kwargs.pop("out", None)
        if name in UFUNCS and len(args) > function.nin:
            args, out = args[:-1], args[-1]
        if out is None:
            return compute(name, function, *args, **kwargs)
        if not isinstance(out, ndarray):
            raise TypeError("Output arguments type must be cupy.ndarray")
        change(name, function, *args, out=out, **kwargs)
        return out

    wrapper.__name__ = name
    return wrapper


def _own(x: Any) -> None:
    if not isinstance(x, ndarray):
        raise TypeError(f"Argument 'a' has incorrect type (got {type(x).__name__})")
