"""The stream of the plans, and launches that are recorded to be repeated.

A card does what it is told in the order of a *stream*; two streams go side by side. Results that
share buffers are safe if all that writes into these is on one stream: here, on `in_turn`'s. It is
not the caller's, because CuPy's usual one cannot be recorded.

A network is some hundred launches, and a few microseconds of the processor's time each: for a small
batch that is longer than the card needs for the work. A `Recording` is a CUDA graph: it begins all
of them at once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from threading import RLock
from typing import Any

from resnet_np.kernels.gpu.matmul import give_workspace

CUBLAS_BYTES = 32 * 2**20  # what cuBLAS's manual recommends for the largest cards


class Turns:
    """The stream of all plans on a device; the lock is held by the thread that puts work on it."""

    def __init__(self) -> None:
        import cupy

        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.lock = RLock()
        self.cublas = cupy.empty(CUBLAS_BYTES, "uint8")  # for the products of all recordings


@cache
def _turns(device: int) -> Turns:
    return Turns()


def turns() -> Turns:
    """Those of the current device."""
    import cupy

    return _turns(cupy.cuda.runtime.getDevice())


@contextmanager
def in_turn() -> Iterator[None]:
    """Inside, the current stream is that of the plans.

    Its work comes after what the caller's stream was told before, and in front of what that is told
    next: for the caller it is as if there were one stream.
    """
    import cupy

    mine, caller = turns(), cupy.cuda.get_current_stream()
    with mine.lock:
        mine.stream.wait_event(_now(caller))
        try:
            with mine.stream:
                yield
        finally:
            caller.wait_event(_now(mine.stream))


def _now(stream: Any) -> Any:
    """What is reached when all that `stream` was told until now is done."""
    import cupy

    event = cupy.cuda.Event(disable_timing=True)
    event.record(stream)
    return event


class Recording:
    """What `runs` launch one after the other, as one launch: on the same arrays each time.

    To be made and called in turn, by functions that allocate nothing and have run before: what has
    to be compiled cannot be recorded.
    """

    def __init__(self, runs: Sequence[Callable[[], None]]) -> None:
        self.runs = runs  # they hold the arrays
        mine = turns()
        give_workspace(mine.stream, mine.cublas)
        mine.stream.begin_capture()
        try:
            for run in runs:
                run()
        except BaseException:
            with suppress(Exception):  # the first error says more
                mine.stream.end_capture()
            raise
        self.graph = mine.stream.end_capture()

    def __call__(self) -> None:
        self.graph.launch()
