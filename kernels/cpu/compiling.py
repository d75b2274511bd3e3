"""`compiled`: Numba's `njit`, with machine code that is kept on disk.

Numba keeps compiled functions, too, but beside the source, which may be read-only, and it does not
notice when a function changed that the compiled one calls. Here they are kept in the user's cache
folder, and everything compiled from other sources than today's is compiled anew.
"""

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

# With NUMBA_DISABLE_JIT=1 all functions are plain Python: right, and fit for small arrays only.
COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

_here = Path(__file__).parent


def compiled(function: Callable | None = None, *, parallel: bool = False) -> Any:
    """Decorator: compile at the first call for each combination of types, or load what was.

    The interpreter's lock is released inside, and divisions are NumPy's: x / 0 is no error. With
    NUMBA_DISABLE_JIT=1 the function stays what it is, Python.
    """
    if function is None:
        return lambda function: compiled(function, parallel=parallel)
    if not COMPILED:
        return function
    dispatcher: Any = numba.njit(function, parallel=parallel, nogil=True, error_model="numpy")
    dispatcher._cache = _Cache(function)
    return _one_at_a_time(dispatcher) if parallel else dispatcher


_lock = threading.Lock()


def _one_at_a_time(dispatcher: Any) -> Callable:
    """Keep Python's threads apart where Numba's only pool of threads is its simplest.

    Two threads that enter "workqueue" at the same time end the process.
    """

    @wraps(dispatcher.py_func)
    def run(*arguments: Any) -> None:
        if _is_reentrant():
            dispatcher(*arguments)
        else:
            with _lock:
                dispatcher(*arguments)

    return run


def _is_reentrant() -> bool:
    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:  # nothing has run in parallel yet
        return False


class _Locator(_CacheLocator):
    """Tells Numba where to keep a function, and when what is kept there is stale."""

    def __init__(self, function: Callable, file: str) -> None:
        self._py_file, self._lineno = file, function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return source_stamp()

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, function: Callable, file: str) -> "_Locator":
        return cls(function, file)


class _Impl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 -- as Numba has it


class _Cache(FunctionCache):
    """Numba's, in our folder; it says so when somebody will have to wait for the compiler."""

    _impl_class = _Impl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # a damaged file, in whatever way: compiled anew
            self.flush()
            found = None
        if found is None:
            _say_once()
        return found


@cache
def _say_once() -> None:
    print(
        f"resnet_np: compiling for this processor; what is compiled is kept in {folder()}",
        file=sys.stderr,
    )


@cache
def source_stamp() -> str:
    """A hash of all sources in this folder."""
    digest = hashlib.sha256()
    for path in sorted(_here.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def folder() -> Path:
    """Where compiled functions are kept: in NUMBA_CACHE_DIR, or in the user's cache folder.

    What lies there is run, so it has to be a folder that nobody else can write into. Where there is
    none, a temporary folder serves this process.
    """
    place = Path(_numba_folder() or _user_cache()) / f"kernels-{source_stamp()[:16]}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return _temporary()
    return place if _is_ours(place) else _temporary()


def _numba_folder() -> str:
    return numba.config.CACHE_DIR  # type: ignore[attr-defined]


def _user_cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("resnet_np", appauthor=False)


def _is_ours(place: Path) -> bool:
    """Whether the folder is this user's, and closed to others (where the system knows users)."""
    if not hasattr(os, "getuid"):
        return True
    status = place.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


@cache
def _temporary() -> Path:
    import atexit

    place = tempfile.TemporaryDirectory(prefix="resnet_np-kernels-")
    atexit.register(place.cleanup)
    return Path(place.name)
