"""CUDA C++ on its way to the card: compiled at first use, for the card that is there, and kept.

Each .cu file is compiled by NVRTC, once for each kind of number that its arrays may hold, after the
text of numbers.cuh. CuPy keeps what was compiled in its cache folder (CUPY_CACHE_DIR), under a key
of the text, the options, the compiler's version and the card's architecture: an edited file is
compiled anew.
"""

from functools import cache
from pathlib import Path
from typing import Any

from resnet_np.kernels import Array

NUMBERS = {"float32": "float", "float64": "double", "float16": "Half", "bfloat16": "Bfloat16"}
OPTIONS = ("-std=c++17",)
THREADS = 256  # of a block, where a kernel does not say another number
MOST_BLOCKS = 4096  # more threads than any card runs at once: each then takes several numbers

_folder = Path(__file__).parent


def source(file: str) -> str:
    """The whole text that is compiled for `file`."""
    return "\n".join((_folder / name).read_text("utf-8") for name in ("numbers.cuh", file))


def options(dtype: Any) -> tuple[str, ...]:
    """The compiler's options for arrays of this dtype. Raises TypeError for one without kernels."""
    if str(dtype) not in NUMBERS:
        raise TypeError(f"GPU kernels exist for {', '.join(NUMBERS)}, not for {dtype}")
    return (*OPTIONS, f"-DNUMBER={NUMBERS[str(dtype)]}")


@cache
def _module(file: str, dtype: str, device: int) -> Any:
    import cupy

    return cupy.RawModule(code=source(file), options=options(dtype))


@cache
def _kernel(file: str, name: str, dtype: str, device: int) -> Any:
    """Looked up once: CuPy would look for it in the module, and wrap it, for every launch."""
    return _module(file, dtype, device).get_function(name)


def launch(
    file: str,
    name: str,
    dtype: Any,
    blocks: tuple[int, ...],
    threads: tuple[int, ...],
    *arguments: Any,
) -> None:
    """Run `name` of `file`, compiled for arrays of `dtype`, on blocks x threads.

    arguments : contiguous arrays, None (a null pointer), integers, floats
    """
    import cupy

    if 0 in blocks:
        return  # of an empty batch; CUDA takes an empty grid for a mistake
    kernel = _kernel(file, name, str(dtype), cupy.cuda.runtime.getDevice())
    kernel(blocks, threads, tuple(0 if value is None else value for value in arguments))


def launch_for_each(file: str, name: str, like: Array, count: int, *arguments: Any) -> None:
    """Run a kernel whose threads share `count` things by `first()` and `step()`; it comes last."""
    blocks = min(-(-count // THREADS), MOST_BLOCKS)
    launch(file, name, like.dtype, (blocks,), (THREADS,), *arguments, count)
