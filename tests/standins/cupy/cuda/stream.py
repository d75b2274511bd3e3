"""Streams: what happens on the card, and when.

Work on the default stream is done at once. Work on any other stream is done as late as it may be:
when somebody waits for it. So a result that is read without waiting is not there yet, and a host
buffer that is filled again too early spoils the copy: what could happen on a card does happen.
"""

import threading
import weakref
from collections.abc import Callable

from cupy import standin
from cupy.cuda.memory import Memory
from cupy.cuda.runtime import CUDARuntimeError

Work = Callable[[], None]
_lock = threading.RLock()  # one thread at a time works on the card


class Stream:
    null: "Stream"

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        assert not ptds, "the stand-in has no default stream for each thread"
        if not null:
            standin.check_device()
        self.is_non_blocking = non_blocking
        self.ptr = 0 if null else id(self)
        self.device_id = -1 if null else 0
        self._late: list[Work] = []
        self._count = 0  # pieces of work that were late, and are done
        self._graph: Graph | None = None
        _streams.add(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return self.ptr

    def use(self) -> "Stream":
        _thread.current = self
        return self

    def __enter__(self) -> "Stream":
        _thread.before.append(_thread.current)
        return self.use()

    def __exit__(self, *error: object) -> None:
        _thread.before.pop().use()

    @property
    def done(self) -> bool:
        return not self._late

    def synchronize(self) -> None:
        if self._graph is not None:
            raise CUDARuntimeError(900)
        standin.record.synchronisations += 1
        self.catch_up()

    def record(self, event: "Event | None" = None) -> "Event":
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        """What comes later on this stream comes after what was on `event`'s when it was recorded.

        An event that is recorded again afterwards changes nothing.
        """
        stream, count = event.stream, event.count
        if stream is not None:
            self.submit(lambda: stream.finish(count))

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._graph is not None:
            raise CUDARuntimeError(1)
        self._graph = Graph()

    def end_capture(self) -> "Graph":
        if self._graph is None:
            raise CUDARuntimeError(1)
        graph, self._graph = self._graph, None
        return graph

    def is_capturing(self) -> bool:
        return self._graph is not None

    # --- the stand-in's own ---

    def submit(self, work: Work, *memories: Memory) -> None:
        """Have `work` done, which uses these blocks of memory: now, late, or by a graph."""
        with _lock:
            if self._graph is not None:
                self._graph.add(work, memories)
            elif self.ptr == 0:
                self.catch_up()
                work()
            else:
                self._late.append(work)

    def catch_up(self) -> None:
        """Do all that is late, for the default stream on all that are not `non_blocking`."""
        with _lock:
            blocking = [s for s in list(_streams) if not s.is_non_blocking]
            for stream in blocking if self.ptr == 0 else [self]:
                stream.finish(stream._count + len(stream._late))

    def finish(self, count: int) -> None:
        """Do what is late of the first `count` pieces of work that the stream was given."""
        with _lock:
            while self._late and self._count < count:
                self._count += 1
                self._late.pop(0)()


class Event:
    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        standin.check_device()
        self.stream: Stream | None = None
        self.count = 0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream = get_current_stream() if stream is None else stream
        self.count = stream._count + len(stream._late)

    @property
    def done(self) -> bool:
        return self.stream is None or self.stream._count >= self.count

    def synchronize(self) -> None:
        if not self.done:
            standin.record.synchronisations += 1
            self.stream.finish(self.count)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds. Here is no card that took any."""
    if not (start_event.done and end_event.done):
        raise RuntimeError("cudaErrorNotReady: device not ready")
    return 1.0


class Graph:
    """Work that was captured. It knows memory by its address: all of it must still be there."""

    def __init__(self) -> None:
        self._work: list[Work] = []
        self._memories: list[weakref.ref[Memory]] = []

    def add(self, work: Work, memories: tuple[Memory, ...]) -> None:
        self._work.append(work)
        self._memories += map(weakref.ref, memories)

    def launch(self, stream: Stream | None = None) -> None:
        assert all(memory() is not None for memory in self._memories), (
            "a graph is launched that uses memory which was given back"
        )
        standin.record.graphs += 1
        stream = get_current_stream() if stream is None else stream
        for work in self._work:
            stream.submit(work)

    def upload(self, stream: Stream | None = None) -> None:
        """There is nothing to prepare."""


class _Thread(threading.local):
    """Each thread has a current stream of its own."""

    def __init__(self) -> None:
        self.current = Stream.null
        self.before: list[Stream] = []


_streams: "weakref.WeakSet[Stream]" = weakref.WeakSet()
Stream.null = Stream(null=True)
_thread = _Thread()


def get_current_stream(device_id: int = -1) -> Stream:
    return _thread.current


def known(ptr: int) -> Stream:
    """The stream of this address."""
    return next(stream for stream in list(_streams) if stream.ptr == ptr)


def check_capture(what: str) -> None:
    """CuPy's copies between host and device cannot be captured."""
    if get_current_stream().is_capturing():
        raise RuntimeError(f"the current stream is capturing, so {what} transfers are disallowed")


def synchronize_all() -> None:
    if any(stream.is_capturing() for stream in list(_streams)):
        raise CUDARuntimeError(900)
    standin.record.synchronisations += 1
    for stream in list(_streams):
        stream.catch_up()


def forget() -> None:
    """No stream has anything to do; the default one is this thread's."""
    for stream in list(_streams):
        stream._late.clear()
        stream._graph = None
    _thread.before.clear()
    Stream.null.use()
