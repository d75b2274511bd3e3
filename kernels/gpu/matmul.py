"""Matrix products by cuBLAS, and linear layers. Definitions are in `array.py`."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from resnet_np.kernels import Array, parameter_dtype, precision
from resnet_np.kernels.gpu import packs
from resnet_np.kernels.gpu.arrays import contiguous, empty, of_dtype, sum_dtype
from resnet_np.kernels.gpu.compiling import MOST_BLOCKS, launch

# cuBLAS may add up parts of a product of 16-bit numbers in 16 bits, unless it is told not to.
WHOLE_SUMS = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
# The factors alpha and beta, which it reads through the addresses of host memory.
FACTORS = {dtype: np.array([0, 1], dtype) for dtype in ("float32", "float64")}


def gemm(
    a: Array,
    b: Array,
    out: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    accumulate: bool = False,
) -> None:
    """out[m,n] = sum over k of a[m,k] * b[k,n]; added to what is there, if it is to `accumulate`.

    a is stored as [k,m] if `transpose_a`, b as [n,k] if `transpose_b`. Rows may have gaps between
    them, but none inside. Halves are multiplied and added up in float32 and rounded once, or not at
    all: `out` may be float32 then. Whether float32 is multiplied as TF32 says `kernels.precision`.

    Raises TypeError for dtypes, and ValueError for shapes and strides, that do not go together.
    """
    from cupy.cuda.device import get_cublas_handle
    from cupy_backends.cuda.libs import cublas

    (m, k), (inner, n) = _shape(a, transpose_a), _shape(b, transpose_b)
    if k != inner or out.shape != (m, n):
        raise ValueError(f"gemm: {(m, k)} @ {(inner, n)} does not make {out.shape}")
    if a.dtype != b.dtype or str(out.dtype) not in (str(a.dtype), sum_dtype(a.dtype)):
        raise TypeError(f"gemm: {a.dtype} @ {b.dtype} does not make {out.dtype}")
    if out.size == 0:
        return
    if k == 0:
        if not accumulate:
            out.fill(0)
        return
    operations = cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_T
    zero, one = _addresses(FACTORS[sum_dtype(a.dtype)])
    handle = get_cublas_handle()
    cublas.setMathMode(handle, WHOLE_SUMS)
    # For cuBLAS matrices lie in memory column after column: ours are its transposed ones. It is
    # asked for out.T = b.T @ a.T.
    _gemm_ex(
        handle, operations[transpose_b], operations[transpose_a], n, m, k, one,
        b.data.ptr, _cuda_dtype(b), _pitch(b), a.data.ptr, _cuda_dtype(a), _pitch(a),
        one if accumulate else zero, out.data.ptr, _cuda_dtype(out), _pitch(out),
        _compute_type(a.dtype), cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip


def _gemm_ex(*arguments: int) -> None:
    """cuBLAS's function of that name, also while a stream is captured (see streams.py).

    CuPy refuses to call it then, though cuBLAS itself can be captured; so CuPy is passed by.
    """
    from cupy.cuda import get_current_stream
    from cupy_backends.cuda.libs import cublas

    if get_current_stream().is_capturing():
        _check(_library().cublasGemmEx(*arguments))
    else:
        cublas.gemmEx(*arguments)


def give_workspace(stream: Any, memory: Array) -> None:
    """Let cuBLAS put its next work on `stream`, and use this memory for it.

    While it is captured it could not allocate any. CuPy's next call takes both back.
    """
    from cupy.cuda.device import get_cublas_handle
    from cupy_backends.cuda.libs import cublas

    handle = get_cublas_handle()
    cublas.setStream(handle, stream.ptr)
    _check(_library().cublasSetWorkspace_v2(handle, memory.data.ptr, memory.nbytes))


@cache
def _library() -> ctypes.CDLL:
    """The cuBLAS that CuPy has loaded: found through CuPy's own module, which needs it."""
    from cupy_backends.cuda.libs import cublas

    library, size = ctypes.CDLL(cublas.__file__), ctypes.c_size_t
    integer: Any = ctypes.c_int
    address: Any = ctypes.c_void_p
    library.cublasSetWorkspace_v2.argtypes = address, address, size
    library.cublasGemmEx.argtypes = (
        address, *[integer] * 5, address, *[address, integer, integer] * 2, address,
        address, integer, integer, integer, integer,
    )  # fmt: skip
    return library


def _check(status: int) -> None:
    from cupy_backends.cuda.libs import cublas

    if status:
        raise cublas.CUBLASError(status)


def _shape(x: Array, transpose: bool) -> tuple[int, int]:
    rows, columns = x.shape
    return (columns, rows) if transpose else (rows, columns)


def _addresses(numbers: np.ndarray) -> tuple[int, int]:
    start = numbers.ctypes.data
    return start, start + numbers.itemsize


def _pitch(x: Array) -> int:
    """How many numbers a row is behind the one before it."""
    rows, columns = x.shape
    between, inside = x.strides
    if rows == 1:
        between = columns * x.itemsize  # whatever the stride of an axis of length 1 says
    if (columns > 1 and inside != x.itemsize) or between < columns * x.itemsize:
        raise ValueError(f"gemm: rows must be contiguous, not of strides {x.strides}")
    return between // x.itemsize


def _cuda_dtype(x: Array) -> int:
    from cupy.cuda import runtime

    kinds = {"float32": "32F", "float64": "64F", "float16": "16F", "bfloat16": "16BF"}
    return getattr(runtime, f"CUDA_R_{kinds[str(x.dtype)]}")


def _compute_type(dtype: Any) -> int:
    """How the products of numbers of this dtype are computed."""
    from cupy_backends.cuda.libs import cublas

    if str(dtype) == "float64":
        return cublas.CUBLAS_COMPUTE_64F
    if str(dtype) == "float32" and precision.get() == "tf32":
        return cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    return cublas.CUBLAS_COMPUTE_32F


def as_factor(w: Array, like: Array) -> Array:
    """A parameter as the products with `like` read it: in mixed precision, rounded to 16 bits."""
    is_master = w.dtype == parameter_dtype(like.dtype)
    return contiguous(w.astype(like.dtype, copy=False) if is_master else w)


def as_shift(b: Array | None, like: Array) -> Array | None:
    """A bias for `finish`."""
    return None if b is None else contiguous(b.astype(sum_dtype(like.dtype), copy=False))


def finish(y: Array, shift: Array | None, residual: Array | None, relu: bool) -> None:
    """In one pass and in place: y = relu(y + shift + residual), of what there is of it.

    y, residual [..., K], shift [K] by `as_shift`
    """
    if y.size == 0 or (shift is None and residual is None and not relu):
        return
    k = y.shape[-1]
    pixels = y.size // k
    width = packs.width(k, y, *(() if residual is None else (of_dtype(residual, y.dtype),)))
    threads = packs.block(k // width, pixels)
    blocks = min(-(-pixels // threads[1]), MOST_BLOCKS)
    name = packs.variant("finish", width)
    launch(
        "fused.cu", name, y.dtype, (blocks,), threads, y, shift, residual, int(relu), k, pixels
    )  # fmt: skip


def linear(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    y = empty(out, (len(x), w.shape[1]), x)
    gemm(contiguous(x), as_factor(w, x), y)
    finish(y, as_shift(b, x), None, False)
    return y


def linear_gx(gy: Array, w: Array, out: Array | None = None) -> Array:
    gx = empty(out, (len(gy), len(w)), gy)
    gemm(contiguous(gy), as_factor(w, gy), gx, transpose_b=True)
    return gx


def linear_gw(gy: Array, x: Array, out: Array | None = None) -> Array:
    gw = empty(out, (x.shape[1], gy.shape[1]), gy, parameter_dtype(gy.dtype))
    gemm(contiguous(x), contiguous(gy), gw, transpose_a=True)
    return gw
