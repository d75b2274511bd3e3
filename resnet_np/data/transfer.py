"""To a GPU and back, while it computes.

A copy and a computation go on at the same time if three things are right:

- The host's memory is *pinned*: it stays where it is, so the card reads and writes it by itself.
- The copy is on a *stream* of its own. What is on one stream is done in order.
- *Events* say what has to wait: for a copy, the stream that computes with it; for the stream that
  read that memory before, the copy; and the host, before it fills pinned memory again.

Memory that is dropped goes back to CuPy's pools, whatever still reads or writes it. That of the
card goes to the stream that was current when it was taken, and only there what comes later waits.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from resnet_np.kernels import Array


def send_ahead(batches: Iterable[np.ndarray], device: str) -> Iterator[Array]:
    """Each batch on "cpu" or "gpu", in order: on the CPU as it is, on a GPU copied one ahead.

    While the current stream computes with a batch, the next one is on its way. (So an error in
    `batches` is raised one batch before it is due.)
    """
    if device == "cpu":
        yield from batches
        return
    import cupy

    # The default stream waits for all others, but not for those that are non-blocking.
    copier = cupy.cuda.Stream(non_blocking=True)
    for copy in _one_ahead(_start_sending(batch, copier) for batch in batches):
        cupy.cuda.get_current_stream().wait_event(copy.done)  # the card waits, not the host
        yield copy.card


def fetch_behind(results: Iterable[Array], device: str) -> Iterator[np.ndarray]:
    """Each result on the host, in order: on the CPU as it is, from a GPU when the next one is under
    way.
    """
    if device == "cpu":
        yield from results
        return
    for copy in _one_ahead(map(_start_fetching, results)):
        copy.done.synchronize()
        yield copy.host


class _Copy(NamedTuple):
    """A copy under way: what it reads or writes, and the event behind it."""

    host: np.ndarray
    card: Array
    done: Any


def _start_sending(batch: np.ndarray, copier: Any) -> _Copy:
    import cupy
    from cupyx import empty_pinned

    host = empty_pinned(batch.shape, batch.dtype)
    host[...] = batch
    card = cupy.empty(batch.shape, batch.dtype)
    # The current stream may be about to read what lay in this memory before.
    copier.wait_event(cupy.cuda.get_current_stream().record())
    card.set(host, stream=copier)
    return _Copy(host, card, copier.record(_event()))


def _start_fetching(result: Array) -> _Copy:
    import cupy
    from cupyx import empty_pinned

    host = empty_pinned(result.shape, result.dtype)
    result.get(out=host, blocking=False)
    return _Copy(host, result, cupy.cuda.get_current_stream().record(_event()))


def _event() -> Any:
    """One for which the host sleeps: its cores have images to decode."""
    import cupy

    return cupy.cuda.Event(block=True, disable_timing=True)


def _one_ahead(copies: Iterable[_Copy]) -> Iterator[_Copy]:
    """Each copy when the next has been started. It is done before its memory goes, even if nobody
    asks for the rest.
    """
    started: deque[_Copy] = deque()
    try:
        for copy in copies:
            started.append(copy)
            if len(started) > 1:
                yield started[0]
                started.popleft().done.synchronize()
        yield from started
    finally:
        for copy in started:
            copy.done.synchronize()
