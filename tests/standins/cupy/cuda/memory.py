"""The card's memory: blocks of the host's, filled with NaN, counted against a capacity."""

import ctypes
import threading
import weakref
from typing import Any

import numpy as np

from cupy import standin

ALIGNMENT = 512  # bytes: blocks begin and end at multiples, as CuPy's do


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited})."
        )


class MemoryPool:
    """Counts bytes. What is freed stays in the pool, and is taken again before the card is asked.

    (As if it never lay in pieces: CuPy's pool may need more.)
    """

    def __init__(self) -> None:
        self._used = self._free = self._limit = 0
        self._lock = threading.RLock()  # memory is freed wherever the last reference is dropped

    def take(self, size: int) -> None:
        with self._lock:
            if size > self._free:
                self._grow(size)
            else:
                self._free -= size
            self._used += size

    def _grow(self, size: int) -> None:
        """Room for `size` more bytes. What is free, is too small, and in the way, is given up."""
        limit = min(self._limit or standin.capacity, standin.capacity)
        if self.total_bytes() + size > limit:
            self.free_all_blocks()
        if self.total_bytes() + size > limit:
            raise OutOfMemoryError(size, self.total_bytes(), self._limit)

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size
            self._free += size

    def used_bytes(self) -> int:
        return self._used

    def free_bytes(self) -> int:
        return self._free

    def total_bytes(self) -> int:
        return self._used + self._free

    def free_all_blocks(self, stream: Any = None) -> None:
        with self._lock:
            self._free = 0

    def get_limit(self) -> int:
        return self._limit

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        self._limit = int(standin.capacity * fraction) if fraction is not None else size or 0


pool = MemoryPool()
_blocks: "weakref.WeakValueDictionary[int, Memory]" = weakref.WeakValueDictionary()


class Memory:
    """A block on the card; given back to the pool when nothing refers to it any more."""

    def __init__(self, size: int) -> None:
        standin.check_device()
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        pool.take(rounded)
        weakref.finalize(self, pool.give_back, rounded).atexit = False
        standin.record.allocations.append(size)
        # All ones are NaN in any precision. The block lies between two more of its kind.
        self._raw = np.full(size + 3 * ALIGNMENT, 0xFF, np.uint8)
        self.ptr = (self._raw.ctypes.data // ALIGNMENT + 2) * ALIGNMENT if size else 0
        self.size = size
        self.device_id = 0
        if size:
            _blocks[self.ptr] = self

    def bytes(self) -> np.ndarray:
        start = self.ptr - self._raw.ctypes.data if self.size else 0
        return self._raw[start : start + self.size]

    def contains(self, begin: int, end: int) -> bool:
        return self.ptr <= begin <= end <= self.ptr + self.size

    def intact(self) -> bool:
        """Whether nobody wrote right before or behind the block."""
        if not self.size:
            return True
        start = self.ptr - self._raw.ctypes.data
        around = self._raw[:start], self._raw[start + self.size :]
        return all((part == 0xFF).all() for part in around)


def find(begin: int, end: int) -> Memory | None:
    """The block in use that holds these addresses."""
    found = (reference() for reference in _blocks.valuerefs())  # a list: other threads allocate
    return next(
        (block for block in found if block is not None and block.contains(begin, end)), None
    )


class MemoryPointer:
    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset
        self.device_id = mem.device_id

    def __int__(self) -> int:
        return self.ptr


def alloc(size: int) -> MemoryPointer:
    return MemoryPointer(Memory(size), 0)


class PinnedMemoryPointer(bytearray):
    """Host memory that the card reads and writes while the host goes on: `numpy.frombuffer` it."""

    @property
    def ptr(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self))

    def size(self) -> int:
        return len(self)


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    standin.check_device()
    return PinnedMemoryPointer(size)


def is_pinned(host: Any) -> bool:
    """Whether a NumPy array lies in pinned memory."""
    while isinstance(host, np.ndarray | memoryview):
        host = host.base if isinstance(host, np.ndarray) else host.obj
    return isinstance(host, PinnedMemoryPointer)
