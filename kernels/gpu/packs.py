"""Kernels whose threads move neighbouring channels in packs of 16 bytes, where arrays allow it.

Such a kernel is there twice: `name` moves one number at a time, `name`_wide a pack.
"""

from resnet_np.kernels import Array, Pair
from resnet_np.kernels.gpu.compiling import THREADS

PACK = 16  # bytes: the most that a thread reads or writes at once


def width(channels: int, *arrays: Array) -> int:
    """How many numbers to move at once: a pack of them if every pixel of these begins on one."""
    pixel = channels * arrays[0].itemsize
    fits = pixel % PACK == 0 and all(array.data.ptr % PACK == 0 for array in arrays)
    return PACK // arrays[0].itemsize if fits else 1


def variant(name: str, width: int) -> str:
    """The name of the kernel that moves this many numbers at once."""
    return name if width == 1 else f"{name}_wide"


def block(neighbours: int, others: int) -> Pair:
    """Threads (x, y) of a block: x along neighbours in memory, y along the rest; few of them idle.

    700 neighbours are not 256 + 256 + 188 of them, but three times 234.
    """
    x = -(-neighbours // -(-neighbours // THREADS))
    return x, max(1, min(THREADS // x, others))
