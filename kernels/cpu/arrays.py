"""New arrays for results: they begin on a cache line, and lie in memory that was used before.

Memory that the system hands out for the first time it clears, page by page, when each page is first
written: that takes about 0.1 s for each GB, and the arrays of a training step are several GB. So
the memory of an array that nobody holds any more is kept, and the next array of its size gets it.
What is kept and what is in use are together at most SLACK times what was once in use.
"""

import math
from collections import deque
from threading import Lock

import numpy as np

from resnet_np.kernels import Array, check_out
from resnet_np.kernels.cpu.target import LINE

# Sizes come and go in another order on the way back: with less, some are missing in each step.
SLACK = 1.25
LEAST_KEPT = 32 * 1024  # numbers; with fewer, the system's own `malloc` does the same


def empty(out: Array | None, shape: tuple[int, ...]) -> Array:
    """`out`, checked, or a new float32 array."""
    return aligned(shape) if out is None else check_out(out, shape, np.dtype(np.float32))


def aligned(shape: tuple[int, ...]) -> Array:
    """An empty float32 array that begins on a cache line."""
    count = math.prod(shape)
    numbers = _on_a_line(count) if count < LEAST_KEPT else _store.lend(count)
    return numbers.reshape(shape)


def _on_a_line(count: int) -> Array:
    numbers = np.empty(count + LINE, np.float32)
    start = -numbers.ctypes.data % (4 * LINE) // 4
    return numbers[start : start + count]


class _Loan:
    """Numbers that are in use: an array in this memory holds on to this object, as do its views."""

    def __init__(self, numbers: Array, returned: deque[Array]) -> None:
        self.numbers, self.returned = numbers, returned
        self.__array_interface__ = numbers.__array_interface__

    def __del__(self) -> None:
        self.returned.append(self.numbers)


class _Store:
    """What is kept, by its size; the size to which nothing came back for longest comes first."""

    def __init__(self) -> None:
        # Python may run `__del__` anywhere, even within `lend`: it adds to this, without the lock.
        self.returned: deque[Array] = deque()
        self.kept: dict[int, list[Array]] = {}
        self.waiting = 0  # numbers that are kept
        self.lent = self.most_lent = 0  # numbers in use: now, and at most so far
        self.lock = Lock()

    def lend(self, count: int) -> Array:
        """An array of so many numbers."""
        with self.lock:
            self._sort()
            if self.kept.get(count):
                numbers = self.kept[count].pop()
                self.waiting -= count
            else:
                self._give_back(count)
                numbers = _on_a_line(count)
            self.lent += count
            self.most_lent = max(self.most_lent, self.lent)
        return np.asarray(_Loan(numbers, self.returned))

    def _sort(self) -> None:
        """Put what came back where it belongs."""
        while self.returned:
            numbers = self.returned.popleft()
            count = len(numbers)
            self.kept[count] = [*self.kept.pop(count, []), numbers]
            self.waiting += count
            self.lent -= count

    def _give_back(self, more: int) -> None:
        """Give back to the system what would be too much with so many numbers more in use."""
        lent = self.lent + more
        most = SLACK * max(self.most_lent, lent)
        for count in list(self.kept):
            while self.kept[count] and lent + self.waiting > most:
                self.kept[count].pop()
                self.waiting -= count
            if not self.kept[count]:
                del self.kept[count]


_store = _Store()
