"""What the stand-in adds to CuPy: a record of what happened, and bad circumstances.

    cupy.standin.record.launches            what ran, and what was copied, since record.reset()
    cupy.standin.pretend("no driver")       from now on; None ends it
    cupy.standin.capacity = 10 * 2**20      bytes of the card's memory

In a process of its own the environment says the same: CUPY_STANDIN="no driver",
CUPY_STANDIN_CAPACITY=10485760, CUPY_STANDIN_CAPABILITY=75.
"""

import os
import sys
from dataclasses import dataclass, field, fields

from cupy_backends.cuda import libs
from cupy_backends.cuda.api.runtime import CUDARuntimeError

CIRCUMSTANCES = (
    "no driver",
    "old driver",  # for an older CUDA than CuPy's
    "no device",
    "no cublas",  # cannot be found: matrix products fail, all else works
    "no nvrtc",  # cannot be found: kernels cannot be compiled
    "broken",  # `import cupy` fails
)


@dataclass(frozen=True)
class Launch:
    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]


@dataclass(frozen=True)
class Gemm:
    """C[m, n] = A[m, k] @ B[k, n], for matrices that lie in memory column after column."""

    m: int
    n: int
    k: int
    a: str  # dtype of A and B
    c: str
    compute: str  # 32F, 64F or TF32


@dataclass
class Record:
    """Work is listed when it is done, not when it is put on a stream or into a graph."""

    uploads: list[int] = field(default_factory=list)  # bytes, host -> device
    downloads: list[int] = field(default_factory=list)  # bytes, device -> host
    allocations: list[int] = field(default_factory=list)  # bytes, on the device
    launches: list[Launch] = field(default_factory=list)  # of RawModule's kernels
    gemms: list[Gemm] = field(default_factory=list)  # of cuBLAS, by gemmEx
    operations: list[str] = field(default_factory=list)  # CuPy's own kernels: "add", "matmul"
    graphs: int = 0  # launched; what they do is listed above as well
    synchronisations: int = 0  # times that the host waited for the device

    def reset(self) -> None:
        new = Record()
        for f in fields(self):
            setattr(self, f.name, getattr(new, f.name))


record = Record()
capacity = 0
capability = ""
circumstance: str | None = None


def pretend(what: str | None) -> None:
    """Let one of CIRCUMSTANCES hold from now on, or none. ("broken" is too late by now.)"""
    global circumstance
    assert what is None or what in CIRCUMSTANCES, what
    circumstance = what
    sys.modules.pop(f"{libs.__name__}.cublas", None)  # to be looked for anew
    vars(libs).pop("cublas", None)


def reset() -> None:
    """As at the beginning: nothing recorded, and the circumstances that the environment names."""
    global capacity, capability
    record.reset()
    capacity = int(os.environ.get("CUPY_STANDIN_CAPACITY", 2**30))
    capability = os.environ.get("CUPY_STANDIN_CAPABILITY", "80")
    pretend(os.environ.get("CUPY_STANDIN") or None)


def check_device() -> None:
    """Raise what CuPy's first call of CUDA raises."""
    if circumstance in ("no driver", "old driver"):
        raise CUDARuntimeError(35)
    if circumstance == "no device":
        raise CUDARuntimeError(100)


def check_library(name: str) -> None:
    """Raise what CuPy raises when it does not find the library: "cublas" or "nvrtc"."""
    if circumstance != f"no {name}":
        return
    file = "cublasLt" if name == "cublas" else name
    files = f"lib{file}.so.13 or lib{file}.so.12"
    kind = ImportError if name == "cublas" else RuntimeError
    raise kind(f'Failure finding "{files}": No such file: {files}, No such file: {files}\n')


reset()
