"""Where arrays live: in the computer's memory, or on a GPU. Nothing moves without being asked."""

from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.kernels import Array, to_host

DEVICES = ("cpu", "gpu")
# What activations are made of. tf32 keeps float32's range and rounds what is multiplied to 11 bits.
PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def require(device: str, precision: str = "fp32") -> None:
    """Return if this device can be used with this precision. Raises UserError."""
    if device == "gpu":
        require_gpu()
    elif precision != "fp32":
        raise UserError(f"--precision {precision}: needs --device gpu; the CPU has fp32 alone")


def require_gpu() -> None:
    """Return if CuPy can compute on a GPU here.

    Raises UserError that says what is missing: CuPy, CUDA's libraries, a driver, or a card. There
    is no falling back to the CPU: a run that is fifty times slower than it was meant to be is no
    favour.
    """
    cupy = _import_cupy()
    try:
        x = cupy.ones((2, 2), "float32") + 1  # allocates, compiles and runs
        float((x @ x).sum())  # multiplies by cuBLAS, waits, copies back
    except Exception as error:  # CuPy's errors have no common class outside its CUDA modules
        raise UserError(f"--device gpu: {_reason(cupy, error)}") from error


def _reason(cupy: Any, error: Exception) -> str:
    """What is wrong and what would be right, in one line."""
    said, runtime = _first_line(error), cupy.cuda.runtime
    driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        return "no NVIDIA driver is installed here; use --device cpu, or install one"
    if driver // 1000 < needed // 1000:
        other = f", or take CuPy for it: {_install(driver)}" if driver >= 12000 else ""
        return (
            f"the NVIDIA driver is for CUDA {_version(driver)}, CuPy for {_version(needed)}; "
            f"renew the driver{other}"
        )
    if "cudaErrorNoDevice" in said:
        return "no NVIDIA card is to be seen; what do nvidia-smi and CUDA_VISIBLE_DEVICES say?"
    if isinstance(error, ImportError | OSError) or "Failure finding" in said:
        return f"CuPy does not find CUDA's libraries ({said}); {_install(driver)} brings them"
    return f"no usable GPU ({said}); see what nvidia-smi says, or use --device cpu"


def _version(number: int) -> str:
    """12090 -> "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _install(driver: int) -> str:
    return f"pip install 'resnet_np[gpu-cuda{13 if driver >= 13000 else 12}]'"


def gpu_memory() -> tuple[int, int]:
    """(free, all) bytes of the GPU's memory. What CuPy keeps for later is free."""
    cupy = _import_cupy()
    cupy.get_default_memory_pool().free_all_blocks()
    free, total = cupy.cuda.runtime.memGetInfo()
    return int(free), int(total)


def to_device(x: Array, device: str) -> Array:
    """`x` on "cpu" or "gpu"; the same array where it is there already."""
    return to_host(x) if device == "cpu" else _import_cupy().asarray(x)


def activation_dtype(precision: str) -> np.dtype:
    """The dtype of activations, by the name that users give it."""
    if precision == "bf16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(PRECISIONS[precision])


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            f"--device gpu: CuPy is not usable ({_first_line(error)}); "
            "pip install 'resnet_np[gpu-cuda12]' or 'resnet_np[gpu-cuda13]': nvidia-smi shows "
            "which CUDA the driver is for"
        ) from error
    return cupy


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
