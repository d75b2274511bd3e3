"""cuBLAS: matrix products on addresses. Matrices lie in memory column after column.

CuPy's functions are below. `__file__` is a library with some of cuBLAS' own, for callers that pass
CuPy by: they end up in the same products.
"""

# ruff: noqa: N802  # the names are cuBLAS'

import ctypes
import traceback
from typing import Any

import ml_dtypes
import numpy as np
from cupy import standin
from cupy._raw import emulator
from cupy.cuda import memory, stream
from cupy.cuda.runtime import CUDARuntimeError

standin.check_library("cublas")

HANDLE = 1  # of the one device

CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = 0, 1, 2
CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_16F_PEDANTIC = 64, 65
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC = 68, 69
CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC = 70, 71
CUBLAS_COMPUTE_32F_FAST_16F, CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_TF32 = 74, 75, 77
CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99
CUBLAS_DEFAULT_MATH, CUBLAS_TENSOR_OP_MATH = 0, 1
CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = 0, 1

DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}
COMPUTE = {68: "32F", 69: "32F", 70: "64F", 71: "64F", 77: "TF32"}
# (dtype of A and B, of C) for each kind of sum
ALLOWED = {
    "32F": {(0, 0), (2, 2), (2, 0), (14, 14), (14, 0)},
    "TF32": {(0, 0)},
    "64F": {(1, 1)},
}


NAMES = {
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    7: "CUBLAS_STATUS_INVALID_VALUE",
    15: "CUBLAS_STATUS_NOT_SUPPORTED",
}


class CUBLASError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(NAMES[status])


def gemmEx(
    handle: int,
    transa: int,
    transb: int,
    m: int,
    n: int,
    k: int,
    alpha: int,
    A: int,
    Atype: int,
    lda: int,
    B: int,
    Btype: int,
    ldb: int,
    beta: int,
    C: int,
    Ctype: int,
    ldc: int,
    computeType: int,
    algo: int,
) -> None:
    """C[m, n] = alpha * op(A)[m, k] @ op(B)[k, n] + beta * C, op being nothing or a transpose.

    `alpha` and `beta` are addresses of host numbers, of the kind that sums have. They are read at
    once; the matrices, when the work is done.
    """
    check_capture()
    setStream(handle, stream.get_current_stream().ptr)
    _product(
        handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc,
        computeType, algo,
    )  # fmt: skip


def _product(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, Atype: int,
    lda: int, B: int, Btype: int, ldb: int, beta: int, C: int, Ctype: int, ldc: int,
    computeType: int, algo: int,
) -> None:  # fmt: skip
    """The same on the stream that the handle was told, which may be captured."""
    assert handle == HANDLE, "the handle is not what get_cublas_handle() gave"
    compute = COMPUTE.get(computeType)
    if compute is None or Atype != Btype or (Atype, Ctype) not in ALLOWED[compute]:
        raise CUBLASError(15)
    if min(m, n, k) < 0 or {transa, transb} - {0, 1, 2}:
        raise CUBLASError(7)
    scalar = ctypes.c_double if compute == "64F" else ctypes.c_float
    factors = [scalar.from_address(address).value for address in (alpha, beta)]
    if m == 0 or n == 0:
        return
    blocks = [memory.find(address, address + 1) for address in (A, B, C)]
    a = _matrix(A, Atype, lda, *((m, k) if transa == 0 else (k, m)))
    b = _matrix(B, Btype, ldb, *((k, n) if transb == 0 else (n, k)))
    c = _matrix(C, Ctype, ldc, m, n)
    a, b = a if transa == 0 else a.T, b if transb == 0 else b.T
    done = standin.Gemm(
        m, n, k, str(np.dtype(DTYPES[Atype])), str(np.dtype(DTYPES[Ctype])), compute
    )

    def work() -> None:
        standin.record.gemms.append(done)
        with np.errstate(all="ignore"):
            result = factors[0] * product(_operand(a, compute), _operand(b, compute))
            if factors[1]:  # else C is not read: NaN there does no harm
                result += factors[1] * c.astype(result.dtype)
            c[...] = result

    _told["stream"].submit(work, *blocks)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sums of a product, in some order: a test may choose another one."""
    return a @ b


def _matrix(address: int, dtype: int, ld: int, rows: int, columns: int) -> np.ndarray:
    """A view of the card's memory, with the columns that lie there one after the other."""
    if ld < max(1, rows):
        raise CUBLASError(7)
    kind = np.dtype(DTYPES[dtype])
    shape, strides = (rows, columns), (kind.itemsize, ld * kind.itemsize)
    if rows * columns == 0:
        return np.zeros(shape, kind)
    size = ((columns - 1) * ld + rows) * kind.itemsize
    block = memory.find(address, address + size)
    if block is None:
        raise CUDARuntimeError(700)
    return np.ndarray(shape, kind, block.bytes(), address - block.ptr, strides)


def _operand(x: np.ndarray, compute: str) -> np.ndarray:
    """`x` as the card multiplies it: products and sums are in float32, or in float64."""
    x = x.astype(np.float64 if compute == "64F" else np.float32)
    return _tf32(x) if compute == "TF32" else x


def _tf32(x: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits of mantissa, of 23: to the nearest, ties away from zero."""
    rounded = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def check_capture() -> None:
    """CuPy refuses cuBLAS in graphs."""
    if stream.get_current_stream().is_capturing():
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )


def setMathMode(handle: int, mode: int) -> None:
    """The stand-in's precision is what each call says."""


def setStream(handle: int, ptr: int) -> None:
    """CuPy's own products do so each time. It takes back the memory that cuBLAS was given."""
    check_capture()
    _told.update(stream=stream.known(ptr), workspace=False)


# --- the library, without CuPy -------------------------------------------------------------------

LIBRARY = """
extern "C" {
int (*product)(long, int, int, int, int, int, void *, void *, int, int, void *, int, int, void *,
               void *, int, int, int, int);
int (*workspace)(long, void *, unsigned long);

int cublasGemmEx(long handle, int transa, int transb, int m, int n, int k, void *alpha, void *A,
                 int Atype, int lda, void *B, int Btype, int ldb, void *beta, void *C, int Ctype,
                 int ldc, int computeType, int algo) {
    return product(handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C,
                   Ctype, ldc, computeType, algo);
}

int cublasSetWorkspace_v2(long handle, void *memory, unsigned long size) {
    return workspace(handle, memory, size);
}
}
"""
_told = {"stream": stream.Stream.null, "workspace": False}  # the handle


def _status(function: Any) -> Any:
    """`function` as C calls it: it gives a status, and 14 for what it does not expect."""

    def call(*arguments: int) -> int:
        try:
            function(*arguments)
        except CUBLASError as error:
            return error.status
        except Exception:
            traceback.print_exc()
            return 14
        return 0

    return call


def _product_without_cupy(*arguments: int) -> None:
    """It may not ask for memory while the stream is captured."""
    assert _told["workspace"] or not _told["stream"].is_capturing(), "no workspace was given"
    _product(*arguments)


def _set_workspace(handle: int, address: int, size: int) -> None:
    assert handle == HANDLE and memory.find(address, address + size) is not None
    _told["workspace"] = True


_library = emulator()._library(LIBRARY, ())
_integer, _address = ctypes.c_int, ctypes.c_void_p
_hooks = {
    "product": ctypes.CFUNCTYPE(
        _integer, ctypes.c_long, *[_integer] * 5, _address, *[_address, _integer, _integer] * 2,
        _address, _address, *[_integer] * 4,
    )(_status(_product_without_cupy)),
    "workspace": ctypes.CFUNCTYPE(_integer, ctypes.c_long, _address, ctypes.c_ulong)(
        _status(_set_workspace)
    ),
}  # fmt: skip
for _name, _hook in _hooks.items():
    _address.in_dll(_library, _name).value = ctypes.cast(_hook, _address).value
__file__ = _library._name
