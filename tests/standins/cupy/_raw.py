"""Kernels in CUDA C++: run by the emulator, which the tests of kernels share."""

import re
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cupy_backends.cuda.api.driver import CUDADriverError

from cupy import standin
from cupy._array import ndarray
from cupy.cuda import runtime, stream


class RawModule:
    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: bool = False,
    ) -> None:
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError("code must be a str, and options a tuple of str")
        assert path is None and backend == "nvrtc" and name_expressions is None
        self.code, self.options, self.backend = code, options, backend

    def compile(self, log_stream: Any = None) -> None:
        """Compile now; else the first kernel asked for does."""
        runtime.getDevice()
        standin.check_library("nvrtc")
        emulator()._library(self.code, self.options)

    def get_function(self, name: str) -> "RawKernel":
        self.compile()
        if not hasattr(emulator()._library(self.code, self.options), name):
            raise CUDADriverError(500)
        return RawKernel(self, name)


class RawKernel:
    """One kernel of a module."""

    def __init__(self, module: RawModule, name: str) -> None:
        self.name, self._module = name, module

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        assert shared_mem == 0, "kernels have their shared memory from their text"
        grid, block = tuple(map(int, grid)), tuple(map(int, block))
        if not (_fits(grid, (2**31 - 1, 65535, 65535)) and _fits(block, (1024, 1024, 64))):
            raise CUDADriverError(1)
        if np.prod(block) > 1024:
            raise CUDADriverError(701)
        text, options = self._module.code, self._module.options
        values = [_argument(value) for value in args]
        _check_parameters(text, options, self.name, values)

        memories = [value._memory for value in args if isinstance(value, ndarray)]
        blocks = [weakref.ref(memory) for memory in memories]  # a graph keeps no memory

        def work() -> None:
            standin.record.launches.append(standin.Launch(self.name, grid, block))
            emulator().launch_source(text, options, self.name, grid, block, values)
            for memory in filter(None, (ref() for ref in blocks)):
                assert memory.intact(), f"{self.name} writes beside its arrays"

        stream.get_current_stream().submit(work, *memories)


@cache
def emulator() -> Any:
    """The module of that name, which a test may have imported already."""
    folder = str(Path(__file__).parents[2] / "kernels" / "gpu")
    if folder not in sys.path:
        sys.path.append(folder)
    import emulator

    return emulator


def _fits(sizes: tuple[int, ...], most: tuple[int, ...]) -> bool:
    return 1 <= len(sizes) <= 3 and all(1 <= n <= m for n, m in zip(sizes, most, strict=False))


def _argument(value: Any) -> Any:
    """A number or an address, as CuPy passes it: 64 bits of integer, or a double."""
    if isinstance(value, ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("a kernel is given an array that is not contiguous")
        return value._array
    if isinstance(value, bool) or not isinstance(value, int | float | np.int64 | np.float64):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _check_parameters(text: str, options: tuple[str, ...], name: str, values: list[Any]) -> None:
    """Are there as many arguments as parameters, and each of the kind that the text names?

    CUDA asks nothing of the kind: it would read what happens to lie there.
    """
    number = next(o.split("=")[1] for o in (*options, "-DNUMBER=") if o.startswith("-DNUMBER="))
    for value, parameter in zip(values, _parameters(text, name), strict=True):
        kind = parameter.replace("const", "").replace("__restrict__", "").split()[0].rstrip("*")
        if "*" not in parameter:
            wanted: Any = float if kind == "double" else int
            fits = isinstance(value, float | np.floating) == (wanted is float)
        elif isinstance(value, np.ndarray):
            wanted = _dtype(kind, number)
            fits = wanted is None or str(value.dtype) == wanted
        else:
            fits = isinstance(value, int) and value == 0
        if not fits or (isinstance(value, np.ndarray) and "*" not in parameter):
            raise TypeError(
                f"{name}: {parameter.strip()} is given {getattr(value, 'dtype', value)}"
            )


@cache
def _parameters(text: str, name: str) -> tuple[str, ...]:
    """The parameters of a kernel, as they are written."""
    text = re.sub(r"//.*", "", text)
    found = re.search(rf"__global__[^;{{]*?\b{name}\s*\(([^)]*)\)\s*{{", text)
    assert found, f"no kernel of the name {name} is written out in the text"
    return tuple(part for part in found[1].split(",") if part.strip())


def _dtype(kind: str, number: str) -> str | None:
    """The dtype of arrays of this C++ type; None where anything may lie there."""
    if kind == "Number":
        kind = number
    if kind == "Sum":
        kind = "double" if number == "double" else "float"
    return {
        "float": "float32",
        "double": "float64",
        "Half": "float16",
        "Bfloat16": "bfloat16",
        "Index": "int64",
        "int": "int32",
        "bool": "bool",
    }.get(kind)
