"""Arrays on the card: what kernels get, and what they write into."""

from functools import cache
from typing import Any

from resnet_np.kernels import Array, check_out


def empty(out: Array | None, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
    """`out`, checked, or a new array on the card; of the dtype of `like` where none is given."""
    import cupy

    dtype = like.dtype if dtype is None else dtype
    return cupy.empty(shape, dtype) if out is None else check_out(out, shape, dtype)


def memory_bytes() -> int:
    """All that the current device has."""
    import cupy

    return _memory_bytes(cupy.cuda.runtime.getDevice())


@cache
def _memory_bytes(device: int) -> int:
    import cupy

    return int(cupy.cuda.runtime.memGetInfo()[1])


def contiguous(x: Array | None, dtype: Any = None) -> Array | None:
    """`x` as kernels read it: its numbers one after the other; None stays None.

    dtype : what its numbers have to be, to go with the other arrays of the call: see `of_dtype`
    """
    import cupy

    return None if x is None else cupy.ascontiguousarray(of_dtype(x, dtype))


def of_dtype(x: Array, dtype: Any) -> Array:
    """`x`, if its numbers are of this dtype, or if none is given.

    Raises TypeError if not: a kernel would take the bytes for something else.
    """
    if dtype is not None and x.dtype != dtype:
        raise TypeError(f"GPU kernels take arrays of one dtype: {dtype} is needed, not {x.dtype}")
    return x


def sum_dtype(dtype: Any) -> str:
    """What sums, statistics and parameters for arrays of this dtype are: `Sum` in the .cu."""
    return "float64" if str(dtype) == "float64" else "float32"
