"""CUDA's runtime: one device, an imaginary one."""

# ruff: noqa: N802, N816  # the names are CUDA's

from typing import Any

CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_8I, CUDA_R_8U, CUDA_R_16BF = 0, 1, 2, 3, 8, 14
eventDefault, eventDisableTiming = 0, 2
streamDefault, streamNonBlocking = 0, 1
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2
is_hip = False

NAMES = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
}


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(NAMES[status])


def getDeviceCount() -> int:
    _standin().check_device()
    return 1


def getDevice() -> int:
    _standin().check_device()
    return 0


def setDevice(device: int) -> None:
    _standin().check_device()
    if device != 0:
        raise CUDARuntimeError(101)


def getDeviceProperties(device: int) -> dict[str, Any]:
    setDevice(device)
    return {
        "name": b"Stand-in for a card",
        "totalGlobalMem": _standin().capacity,
        "multiProcessorCount": 2,
        "maxThreadsPerBlock": 1024,
        "warpSize": 32,
        "sharedMemPerBlock": 48 * 1024,
        "major": int(_standin().capability[:-1]),
        "minor": int(_standin().capability[-1:]),
    }


def driverGetVersion() -> int:
    return {"no driver": 0, "old driver": 11080}.get(_standin().circumstance or "", 12090)


def runtimeGetVersion() -> int:
    return 12090


def memGetInfo() -> tuple[int, int]:
    """(free, all) of the device's memory, in bytes."""
    from cupy.cuda import memory

    _standin().check_device()
    return _standin().capacity - memory.pool.total_bytes(), _standin().capacity


def deviceSynchronize() -> None:
    from cupy.cuda import stream

    _standin().check_device()
    stream.synchronize_all()


def _standin() -> Any:
    from cupy import standin  # which needs this module's error

    return standin
