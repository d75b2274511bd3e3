"""The stand-in for CuPy, in place of CuPy (installed or not) for as long as a test needs it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent  # PYTHONPATH of a process of its own
_ours: dict[str, ModuleType] = {}


@contextmanager
def stand_in() -> Iterator[Any]:
    """`import cupy` gives the stand-in, with nothing on record; afterwards it is as before."""
    theirs = _taken_out()
    sys.path.insert(0, str(FOLDER))
    sys.modules.update(_ours)
    try:
        cupy = import_module("cupy")
        _clean(cupy)
        yield cupy
        _clean(cupy)
    finally:
        _ours.update(_taken_out())
        sys.path.remove(str(FOLDER))
        sys.modules.update(theirs)


def _taken_out() -> dict[str, ModuleType]:
    names = [n for n in sys.modules if n.split(".")[0] in ("cupy", "cupy_backends", "cupyx")]
    return {name: sys.modules.pop(name) for name in names}


def _clean(cupy: Any) -> None:
    """Nothing on record, nothing in the pool, nothing that the product remembers of a card."""
    for name in [n for n in sys.modules if n.startswith("resnet_np.kernels.gpu.")]:
        for thing in vars(sys.modules[name]).values():
            if hasattr(thing, "cache_clear"):
                thing.cache_clear()
    cupy.cuda.stream.forget()
    cupy.cuda.memory.pool = cupy.cuda.MemoryPool()
    cupy.cuda.memory.pinned_pool = cupy.cuda.PinnedMemoryPool()
    cupy.standin.reset()
