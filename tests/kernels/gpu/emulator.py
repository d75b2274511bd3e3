"""Kernels for the card, compiled as C++ and run on the processor: right or wrong, never fast.

    emulator.launch("norm.cu", "normalise", "float32", (blocks,), (threads,), x, y, 0.5, len(x))

See emulator.h for how threads, barriers and shared memory come about.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tools

from resnet_np.kernels.gpu import compiling

HEADER = Path(__file__).with_name("emulator.h").read_text("utf-8")
COMPILER = shutil.which("g++")
MOST_INTEGERS, MOST_DOUBLES = 24, 8  # of a kernel's parameters: see `Kernel` in emulator.h
_cache = Path(__file__).parents[3] / ".pytest_cache" / "emulated"
_backwards = False


@contextmanager
def backwards() -> Iterator[None]:
    """Inside, the threads of a block run in the opposite order."""
    global _backwards
    _backwards = True
    try:
        yield
    finally:
        _backwards = False


def launch(
    file: str,
    name: str,
    dtype: Any,
    blocks: tuple[int, ...],
    threads: tuple[int, ...],
    *arguments: Any,
) -> None:
    """As `compiling.launch`, for NumPy's arrays."""
    launch_source(
        compiling.source(file), compiling.options(dtype), name, blocks, threads, arguments
    )


def launch_source(
    text: str, options: tuple[str, ...], name: str, blocks: Any, threads: Any, arguments: Any
) -> None:
    """Run the kernel `name` of this text. Arrays may be of any class that knows its address."""
    assert 0 < np.prod(threads) <= 1024, "a block has 1 to 1024 threads"
    assert np.prod(blocks) > 0 and (*blocks, 1, 1)[1] < 65536 and (*blocks, 1, 1)[2] < 65536
    integers, doubles = [], []
    for value in arguments:
        if isinstance(value, float | np.floating):
            doubles.append(float(value))
        elif isinstance(value, int | np.integer):
            integers.append(int(value))
        elif value is None:
            integers.append(0)
        else:
            assert value.flags.c_contiguous, "kernels read arrays from end to end"
            integers.append(value.ctypes.data)
    assert len(integers) <= MOST_INTEGERS and len(doubles) <= MOST_DOUBLES
    library = _library(text, options)
    library.launch(
        ctypes.cast(getattr(library, name), ctypes.c_void_p),
        (ctypes.c_uint * 3)(*blocks, *[1] * (3 - len(blocks))),
        (ctypes.c_uint * 3)(*threads, *[1] * (3 - len(threads))),
        (ctypes.c_int64 * MOST_INTEGERS)(*integers),
        (ctypes.c_double * MOST_DOUBLES)(*doubles),
        int(_backwards),
    )


@cache
def _library(text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The text behind the header, compiled; kept on disk, since that takes a second."""
    if COMPILER is None:
        tools.missing("no g++ here: kernels cannot be compiled for the emulator")
    text = f"{HEADER}\n#line 1\n{text}"
    # A stack's guard is the thread's; fibers may be made by one of them and go on in another.
    flags = ("-O2", "-w", "-shared", "-fPIC", "-fno-stack-protector")
    command = [COMPILER, "-x", "c++", *flags, *options]
    key = hashlib.sha256(repr((text, command)).encode()).hexdigest()[:32]
    kept = _cache / f"{key}.so"
    if not kept.exists():
        _cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_cache) as folder:
            made = Path(folder) / "kernels.so"
            done = subprocess.run(
                [*command, "-", "-o", str(made)], input=text, capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(done.stderr)
            os.replace(made, kept)
    # PyDLL: no other thread of Python goes on meanwhile, for there is but one block of fibers.
    return ctypes.PyDLL(str(kept))
