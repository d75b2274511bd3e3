"""Where arrays live: in the computer's memory, or on a GPU. Nothing moves without being asked."""

from typing import Any

from resnet_np.errors import UserError
from resnet_np.kernels import Array, get_array_module

DEVICES = ("cpu", "gpu")


def require_gpu() -> None:
    """Return if CuPy can compute on a GPU here.

    Raises UserError that says what is missing: CuPy, a driver, or a card. There is no falling back
    to the CPU: a run that is fifty times slower than it was meant to be is no favour.
    """
    cupy = _import_cupy()
    try:
        cupy.zeros(1) + 1  # allocates, compiles and runs: all that can be missing is needed
    except Exception as error:  # CuPy's errors have no common class outside its CUDA modules
        raise UserError(
            f"--device gpu: no usable GPU ({_first_line(error)}); "
            "see what nvidia-smi says, or use --device cpu"
        ) from error


def to_device(x: Array, device: str) -> Array:
    """`x` on "cpu" or "gpu"; the same array where it is there already."""
    return to_host(x) if device == "cpu" else _import_cupy().asarray(x)


def to_host(x: Array) -> Array:
    """`x` as a NumPy array."""
    xp = get_array_module(x)
    return x if xp.__name__ == "numpy" else xp.asnumpy(x)


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            f"--device gpu: CuPy is not usable ({_first_line(error)}); "
            "pip install 'resnet_np[gpu-cuda12]' or 'resnet_np[gpu-cuda13]', as the driver needs"
        ) from error
    return cupy


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
