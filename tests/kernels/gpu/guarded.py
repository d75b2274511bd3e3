"""The GPU's kernels on arrays of NumPy, run by the emulator, in memory with guards around it.

    with emulated(pool):
        y = pool.avg_pool(x, (2, 2), (2, 2), NO_PADDING)

In front of each array that kernels get lie NaNs: what is read there spoils the result, and what is
written there is found out at the end. Behind it comes a page that nobody may touch: a kernel that
does ends the process with a segmentation fault, and pytest prints in which test.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import emulator
import ml_dtypes
import numpy as np
import pytest

from resnet_np.kernels import Array, check_out, get_array_module
from resnet_np.kernels.gpu import arrays

DTYPES = [np.dtype(x) for x in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
GUARD = 512  # bytes in front, at least


@contextmanager
def emulated(*modules: ModuleType) -> Iterator[None]:
    """Inside, these modules' kernels take arrays of NumPy, which they must leave as they are."""
    stores: list[Array] = []
    inputs: list[tuple[Array, Array]] = []

    def guarded(shape: tuple[int, ...], dtype: Any) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        store = _before_a_closed_page(GUARD + size)
        stores.append(store[:-size] if size else store)
        return store[len(store) - size :].view(dtype).reshape(shape)

    def empty(out: Array | None, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
        dtype = like.dtype if dtype is None else dtype
        return guarded(shape, dtype) if out is None else check_out(out, shape, dtype)

    def contiguous(x: Array | None, dtype: Any = None) -> Array | None:
        if x is None:
            return None
        assert get_array_module(arrays.of_dtype(x, dtype)) is np
        inputs.append((guarded(x.shape, x.dtype), x))
        inputs[-1][0][...] = x
        return inputs[-1][0]

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "empty", empty)
            patch.setattr(module, "contiguous", contiguous)
            patch.setattr(module, "launch", _launch)
        yield
    for store in stores:
        assert (store == 0xFF).all(), "a kernel wrote in front of an array"
    for copy, x in inputs:
        assert copy.tobytes() == x.tobytes(), "a kernel wrote into its input"


def _before_a_closed_page(size: int) -> Array:
    """At least so many bytes, all ones (NaN in any precision), up to where the page ends."""
    size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    memory[:size] = 0xFF
    end = ctypes.c_void_p(memory.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(end, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return memory[:size]


def _launch(file: str, name: str, dtype: Any, blocks: Any, threads: Any, *arguments: Any) -> None:
    if 0 not in blocks:
        emulator.launch(file, name, dtype, blocks, threads, *arguments)


def widened(x: Any) -> Any:
    """An array of numbers as kernels compute with them; anything else as it is."""
    if not isinstance(x, np.ndarray) or x.dtype not in DTYPES:
        return x
    return x.astype(arrays.sum_dtype(x.dtype))


def scattered(x: Any) -> Any:
    """The same numbers, not next to each other."""
    if not isinstance(x, np.ndarray):
        return x
    store = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    store[..., ::2] = x
    return store[..., ::2]
