"""Devices, memory and streams."""

from cupy.cuda import device, memory, runtime, stream  # noqa: F401
from cupy.cuda.device import Device, get_cublas_handle, get_device_id  # noqa: F401
from cupy.cuda.memory import (  # noqa: F401
    Memory,
    MemoryPointer,
    MemoryPool,
    PinnedMemoryPointer,
    PinnedMemoryPool,
    alloc,
    alloc_pinned_memory,
)
from cupy.cuda.stream import (  # noqa: F401
    Event,
    Graph,
    Stream,
    get_current_stream,
    get_elapsed_time,
)


def is_available() -> bool:
    try:
        return runtime.getDeviceCount() > 0
    except runtime.CUDARuntimeError:
        return False
