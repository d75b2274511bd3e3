"""The card's memory: blocks of the host's, filled with NaN, counted against a capacity.

And the host's pinned memory. Both come from pools, which take back what nobody refers to any more
and give it to the next who asks, whatever late work still reads it or writes into it. The card's
goes to those alone who ask on the same stream, and is filled with NaN when that has got there.
"""

import threading
import weakref
from collections import defaultdict, deque
from functools import partial
from typing import Any

import numpy as np

from cupy import standin

ALIGNMENT = 512  # bytes: blocks begin and end at multiples, as CuPy's do
MOST_SPARE = 64  # blocks that wait for somebody who wants one of that size


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
        self._spare: deque[tuple[Any, np.ndarray]] = deque(maxlen=MOST_SPARE)  # stream, block
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

    def give_back(self, size: int, stream: Any, raw: np.ndarray) -> None:
        with self._lock:
            self._used -= size
            self._free += size
            self._spare.append((stream, raw))

    def spare(self, size: int, stream: Any) -> np.ndarray | None:
        """What was given back last, of this size and on this stream."""
        with self._lock:
            for i in reversed(range(len(self._spare))):
                if self._spare[i][0] == stream and self._spare[i][1].size == size:
                    raw = self._spare[i][1]
                    del self._spare[i]
                    return raw
        return None

    def used_bytes(self) -> int:
        return self._used

    def free_bytes(self) -> int:
        return self._free

    def total_bytes(self) -> int:
        return self._used + self._free

    def free_all_blocks(self, stream: Any = None) -> None:
        with self._lock:
            self._free = 0
            self._spare.clear()

    def get_limit(self) -> int:
        return self._limit

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        self._limit = int(standin.capacity * fraction) if fraction is not None else size or 0


pool = MemoryPool()
_blocks: "weakref.WeakValueDictionary[int, Memory]" = weakref.WeakValueDictionary()


class Memory:
    """A block on the card, full of this byte; given back to the pool when nothing refers to it any
    more.
    """

    def __init__(self, size: int, byte: int = 0xFF) -> None:
        from cupy.cuda import stream  # which needs this module

        standin.check_device()
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        pool.take(rounded)
        standin.record.allocations.append(size)
        now = stream.get_current_stream()
        spare = None if now.is_capturing() else pool.spare(size + 3 * ALIGNMENT, now)
        self._raw = np.empty(size + 3 * ALIGNMENT, np.uint8) if spare is None else spare
        weakref.finalize(self, pool.give_back, rounded, now, self._raw).atexit = False
        self.ptr = (self._raw.ctypes.data // ALIGNMENT + 2) * ALIGNMENT if size else 0
        self.size = size
        self.device_id = 0
        if size:
            _blocks[self.ptr] = self
        if spare is None or now == stream.Stream.null:
            _fill(self._raw, self.bytes(), byte)
        else:
            now.submit(partial(_fill, self._raw, self.bytes(), byte))

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


def _fill(raw: np.ndarray, block: np.ndarray, byte: int) -> None:
    """All ones are NaN in any precision. The block lies between two more of its kind."""
    raw.fill(0xFF)
    block.fill(byte)


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


def alloc(size: int, byte: int = 0xFF) -> MemoryPointer:
    return MemoryPointer(Memory(size, byte), 0)


# --- pinned memory -------------------------------------------------------------------------------


class PinnedMemoryPool:
    """What is freed is kept for the next who asks for as much."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[bytearray]] = defaultdict(list)

    def malloc(self, size: int) -> "PinnedMemoryPointer":
        free = self._free[-(-size // ALIGNMENT) * ALIGNMENT]
        block = free.pop() if free else bytearray(-(-size // ALIGNMENT) * ALIGNMENT)
        pointer = PinnedMemoryPointer(len(block), np.uint8, block)
        weakref.finalize(pointer, free.append, block).atexit = False
        return pointer

    def n_free_blocks(self) -> int:
        return sum(map(len, self._free.values()))

    def free_all_blocks(self) -> None:
        self._free.clear()


class PinnedMemoryPointer(np.ndarray):
    """Host memory that the card reads and writes while the host goes on: `numpy.frombuffer` it.

    (An array, because that lends its memory to others and can be watched when it goes.)
    """

    @property
    def ptr(self) -> int:
        return self.ctypes.data

    def size(self) -> int:  # type: ignore[override]
        return self.nbytes


pinned_pool = PinnedMemoryPool()


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    standin.check_device()
    return pinned_pool.malloc(size)


def as_the_card_sees_it(host: np.ndarray) -> np.ndarray | None:
    """An array in pinned memory by its address alone, which keeps nothing from being given back;
    None for one that is not pinned.
    """
    owner: Any = host
    while isinstance(owner, np.ndarray | memoryview) and not isinstance(owner, PinnedMemoryPointer):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, PinnedMemoryPointer):
        return None
    offset = host.ctypes.data - owner.ptr
    return np.ndarray(host.shape, host.dtype, owner.base, offset, host.strides)
