"""What is expected of a reader that is given a mutant, and many mutants one after the other.

A weight file that can be read, or one clear line that says why not, are both right. Everything else
is a finding: any other exception, a warning, too much time or memory, a file left behind, a word
printed, or code that was run, which would leave the file mutants.CANARY in the current folder.

`Judge` reads mutants in this process. `run` has several processes do so and watches them, so that
one that crashes or hangs costs no more than its mutant.
"""

import multiprocessing
import os
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mutants import Files, mutant, seeds_of, write

from resnet_np.errors import UserError
from resnet_np.weights import WeightFile, read
from resnet_np.weights.formats import hdf5

Reader = Callable[[Path], WeightFile]

SECONDS = 10.0
MEMORY = 3
"""Bytes that may be used while reading, for each byte of the file."""
ALLOWANCE = 2 << 20
"""Bytes that may be used whatever the file: tables, buffers, a message. As tracemalloc counts."""
UNSEEN = 16 << 20
"""Bytes by which a process may grow without tracemalloc's knowledge before they are counted, too:
libraries take their memory in large pieces, and what they freed they keep for a while."""
EXACTLY = 3
"""Each how many-th mutant has its memory counted to the byte, which takes three times as long."""
LONGEST_MESSAGE = 1100


def bound(held: int) -> int:
    """How much memory may be used to read so many bytes."""
    return MEMORY * held + ALLOWANCE


@dataclass(frozen=True)
class Verdict:
    """outcome: "read", "refused" or "finding"; text: the format, the message, what was found.
    peak: bytes of memory used at most; held: bytes of the mutant."""

    outcome: str
    text: str
    seconds: float
    peak: int
    held: int


class Judge:
    """Reads mutants in a folder of its own, which becomes the current one.

    Counts memory by how much this process grew, and child processes above what they need for a
    valid file; both know only of new heights. `exactly`: by tracemalloc, too, in which NumPy takes
    part.
    """

    def __init__(self, folder: Path, format: str, reader: Reader = read) -> None:
        self.folder = folder
        self.reader = reader
        self.path = folder / "mutant"
        os.chdir(folder)
        write(self.path, seeds_of(format)[0])
        for _ in range(2):  # modules are loaded, tables made
            self._read()
        self.child_needs = self.child_height = _height(resource.RUSAGE_CHILDREN)
        self.own_needs = self.own_height = _height(resource.RUSAGE_SELF)

    def judge(self, files: Files, exactly: bool = True) -> Verdict:
        held = sum(map(len, files.values()))
        write(self.path, files)
        if exactly:
            tracemalloc.start()
        begin = time.perf_counter()
        outcome, text = self._read()
        seconds = time.perf_counter() - begin
        peak = max(tracemalloc.get_traced_memory()[1], self._growth())
        tracemalloc.stop()
        fault = None
        if peak > bound(held):
            fault = f"took {peak} bytes of memory for a file of {held}"
        elif seconds > SECONDS:
            fault = f"took {seconds:.1f} s"
        elif (there := set(os.listdir(self.folder))) != {self.path.name}:
            fault = f"there is more in its folder than before: {sorted(there)}"
        if fault and outcome != "finding":
            outcome, text = "finding", f"{fault} [{text}]"
        return Verdict(outcome, text, seconds, peak, held)

    def _read(self) -> tuple[str, str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                file = self.reader(self.path)
        except UserError as error:
            fault = wrong_message(str(error), self.path)
            return ("finding", fault) if fault else ("refused", str(error))
        except Exception as error:
            return "finding", f"{type(error).__name__}: {error}"
        for name, array in file.arrays.items():
            if not np.isfinite(array).all() or not name.isprintable():
                return "finding", f"{name!r} was read, and should not have been"
        return "read", file.format

    def _growth(self) -> int:
        own, child = _height(resource.RUSAGE_SELF), _height(resource.RUSAGE_CHILDREN)
        growth = max(0, own - self.own_height - UNSEEN)
        if child > self.child_height:
            # A fork begins as large as this process is by then, which is not what it took itself.
            inherited = own - self.own_needs
            growth = max(growth, child - self.child_needs - inherited - UNSEEN)
        self.own_height, self.child_height = own, child
        return growth


def _height(who: int) -> int:
    """The most bytes that this process, or the largest of its children, has had so far."""
    return resource.getrusage(who).ru_maxrss * 1024


def wrong_message(message: str, path: Path) -> str | None:
    """What is wrong with a message that refuses a file, or one in a folder, or None."""
    if not re.match(rf"{re.escape(str(path))}(/[\w.]+)?: .*\S$", message):
        return f"its message does not name the file and what is wrong: {message!r}"
    if not message.isprintable():
        return f"its message is not one line of printable text: {message!r}"
    if len(message) > LONGEST_MESSAGE:
        return f"its message has {len(message)} letters: {message[:300]!r}"
    if re.search(r"Traceback|<class|object at 0x|\w+Error\(", message):
        return f"its message speaks of Python: {message!r}"
    return None


# --- many ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Mutants of a format, whose random numbers have this seed, for this reader. `patience`:
    seconds with one mutant after which a process is ended."""

    format: str
    seed: int = 0
    reader: Reader = read
    patience: float = SECONDS + 5


@dataclass
class Tally:
    """slowest: seconds; share: the highest share of the memory bound that was used; ratio: the
    highest ratio of memory to file among files so large that ALLOWANCE is the smaller part."""

    read: int = 0
    refused: int = 0
    findings: int = 0
    slowest: float = 0.0
    share: float = 0.0
    ratio: float = 0.0

    def add(self, verdict: Verdict) -> None:
        self.read += verdict.outcome == "read"
        self.refused += verdict.outcome == "refused"
        self.findings += verdict.outcome == "finding"
        self.slowest = max(self.slowest, verdict.seconds)
        self.share = max(self.share, verdict.peak / bound(verdict.held))
        if verdict.held > ALLOWANCE // MEMORY:
            self.ratio = max(self.ratio, verdict.peak / verdict.held)


class _Worker:
    """A process that judges every `step`th mutant from `first` on, and starts anew behind one that
    ends or stops it. Its board, in shared memory, says at which mutant it is, and since when."""

    def __init__(self, task: Task, numbers: range) -> None:
        self.task = task
        self.numbers = numbers
        self.done = not numbers
        if not self.done:
            self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.board: SynchronizedArray[float] = context.Array("d", [-1, time.time()])
        self.results, sender = context.Pipe(duplex=False)
        self.folder = tempfile.TemporaryDirectory(dir=_fast_folder())
        arguments = (self.folder.name, self.task, self.numbers, self.board, sender)
        self.process = context.Process(target=work, args=arguments)
        self.process.start()
        sender.close()

    def verdicts(self) -> Iterator[tuple[int, Verdict]]:
        """What is new: (number of the mutant, verdict)."""
        alive = self.process.is_alive()
        number, since = int(self.board[0]), self.board[1]
        try:
            while self.results.poll():
                yield self.results.recv()
        except EOFError:  # all has been said
            pass
        if alive and time.time() - since < (self.task.patience if number >= 0 else 60):
            return
        self.process.kill()
        self.process.join()
        if not alive and self.process.exitcode == 0:
            self.done = True
        else:
            status = self.process.exitcode
            fault = f"no end after {time.time() - since:.0f} s" if alive else f"died: {status}"
            yield number, Verdict("finding", fault + self._last_words(), 0.0, 0, 1)
            self.numbers = (
                self.numbers[self.numbers.index(number) + 1 :] if number >= 0 else range(0)
            )
            self.done = not self.numbers
        self.folder.cleanup()
        if not self.done:
            self._start()

    def _last_words(self) -> str:
        words = (Path(self.folder.name) / "said").read_bytes()[:2000].decode(errors="replace")
        return f" [{words}]" if words else ""


def _fast_folder() -> str | None:
    """Memory where a file may lie, or else wherever temporary files do."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def work(folder: str, task: Task, numbers: range, board: Any, results: Connection) -> None:
    """Judge mutants; what takes more memory than any of them should is an error at once."""
    inside = Path(folder) / "inside"
    inside.mkdir()
    said = os.open(f"{folder}/said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    hdf5._running = forked  # type: ignore[assignment]
    judge = Judge(inside, task.format, task.reader)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    heard = 0
    for number in numbers:
        files = mutant(task.format, task.seed, number)
        board[0], board[1] = number, time.time()
        verdict = judge.judge(files, exactly=number % EXACTLY == 0)
        board[1] = time.time()
        if os.fstat(said).st_size > heard:
            heard = os.fstat(said).st_size
            text = f"something was printed; {verdict.text}"
            verdict = Verdict("finding", text, verdict.seconds, verdict.peak, verdict.held)
        for name in set(os.listdir(inside)) - {"mutant"}:
            shutil.rmtree(inside / name, ignore_errors=True)
            (inside / name).unlink(missing_ok=True)
        results.send((number, verdict))


class _Fork:
    """The program that parses HDF5, in a copy of this process, which has h5py already: so it
    starts a hundred times sooner. What it is asked, may use and answers is the same."""

    def __init__(self, program: str, argument: str, file: BinaryIO) -> None:
        (out, self.out), (err, self.err) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._be(program, argument, file)
        os.close(self.out)
        os.close(self.err)
        self.stdout, self.stderr = os.fdopen(out, "rb"), os.fdopen(err, "rb")

    def _be(self, program: str, argument: str, file: BinaryIO) -> None:
        try:
            tracemalloc.stop()
            for source, target in ((file.fileno(), 0), (self.out, 1), (self.err, 2)):
                os.dup2(source, target)
            os.closerange(3, 256)
            sys.argv = [program, argument]
            runpy.run_path(program, run_name="__main__")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def wait(self) -> int:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


@contextmanager
def forked(command: list[str], file: BinaryIO) -> Iterator[_Fork]:
    """In place of hdf5._running."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: there are only those that watch the clock
        child = _Fork(*command[-2:], file)
    try:
        yield child
    finally:
        child.kill()
        if child.pid:
            child.wait()
        child.stdout.close()
        child.stderr.close()


def run(task: Task, count: int, processes: int) -> Iterator[tuple[int, Verdict]]:
    """Judge mutants 0, 1, ... up to `count`, and yield the verdicts as they come."""
    workers = [_Worker(task, range(first, count, processes)) for first in range(processes)]
    while not all(worker.done for worker in workers):
        for worker in workers:
            if not worker.done:
                yield from worker.verdicts()
        time.sleep(0.05)
