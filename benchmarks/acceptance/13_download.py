"""Does the cache ever hold a bad file, whatever the server does?

    python benchmarks/acceptance/13_download.py

A server on this machine gives a file of 8 MB: cut half-way, with wrong bytes, in a wrong length,
and so on. For each case: what became of the download, how many requests it took, and whether the
file's name in the cache ever stood for anything but the right bytes, also while they arrived: a
thread looks all the time. Processes that are interrupted, killed, or two at once are real ones.
Exits with 1 if anything is not as it should be. A quarter of a minute.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "weights"))
from file_server import Answer, FileServer

from resnet_np.errors import UserError
from resnet_np.weights import download
from resnet_np.weights.registry import Published

SIZE = 8_000_000
HALF = SIZE // 2
CONTENT = np.random.default_rng(0).bytes(SIZE)
WRONG = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = Answer(stop=HALF)
GOOD, REFUSED = "arrived", "refused"
LIES = f"bytes {HALF + 1}-{SIZE - 1}/{SIZE}"
CHILD = """
import signal
import sys
from resnet_np.command import run_command
from resnet_np.weights.download import fetch
from resnet_np.weights.registry import Published
# A background job of a shell ignores Ctrl-C, and so do its children, if they are not told.
signal.signal(signal.SIGINT, signal.default_int_handler)
address, size, sha256 = sys.argv[1:]
entry = Published("some/net", "weights", "", address, {}, bytes=int(size), sha256=sha256)
sys.exit(run_command(lambda: print(fetch(entry))))
"""


@dataclass(frozen=True)
class Case:
    """What the server answers, and what has to come of it: the outcome and the requests."""

    name: str
    answers: tuple[Answer, ...]
    outcome: str
    requests: int
    part: bytes = b""  # what an earlier run has left


CASES = (
    Case("as it should be", (Answer(),), GOOD, 1),
    Case("no length announced", (Answer(length=None),), GOOD, 1),
    Case("cut half-way", (CUT, Answer()), GOOD, 2),
    Case("cut half-way, no length announced", (Answer(stop=HALF, length=None), Answer()), GOOD, 2),
    Case("cut half-way, cannot go on", (CUT, Answer(ranges=False)), GOOD, 2),
    Case("cut again and again", (Answer(stop=1000),), REFUSED, download.TRIES),
    Case("cut, then another part than asked for", (CUT, Answer(content_range=LIES), CUT), GOOD, 4),
    Case("silent half-way", (Answer(stop=HALF, hold=True), Answer()), GOOD, 2),
    Case("silent for good", (Answer(stop=0, hold=True),), REFUSED, 1),
    Case("wrong bytes", (Answer(content=WRONG),), REFUSED, 1),
    Case("cut, then wrong bytes", (CUT, Answer(content=WRONG)), REFUSED, 3),
    Case("wrong bytes, cut, then right ones", (Answer(WRONG[::-1], stop=HALF), Answer()), GOOD, 3),
    Case("a web page instead", (Answer(content=b"<html>log in first</html>"),), REFUSED, 1),
    Case("a byte too few", (Answer(content=CONTENT[:-1]),), REFUSED, 1),
    Case("a byte too many", (Answer(content=CONTENT + b"x"),), REFUSED, 1),
    Case("a byte too many, unannounced", (Answer(CONTENT + b"x", length=None),), REFUSED, 1),
    Case("empty", (Answer(content=b""),), REFUSED, 1),
    Case("not found", (Answer(status=404),), REFUSED, 1),
    Case("cut, then out of order", (CUT, Answer(status=503)), REFUSED, 2),
    Case("goes on from an earlier run", (Answer(),), GOOD, 1, CONTENT[:HALF]),
    Case("an earlier run left everything", (Answer(),), GOOD, 1, CONTENT),
    Case("an earlier run left something else", (Answer(),), GOOD, 2, bytes(HALF)),
    Case("an earlier run left too much", (Answer(),), GOOD, 1, CONTENT + b"x"),
)


def published(server: FileServer) -> Published:
    return Published("some/net", "weights", "", server.address, {}, bytes=SIZE, sha256=SHA256)


@contextmanager
def watched(path: Path) -> Iterator[list[str]]:
    """Look at the name all the time; the list is of what it stood for and should not have."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while True:
            last = over.is_set()
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
                seen.append("a bad file under the good name")
                return
            if last:
                return
            over.wait(0.002)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run_case(case: Case, cache: Path) -> tuple[str, int, str, list[str]]:
    """(outcome, requests, what was said, what was wrong) of one case in this process."""
    path = cache / "some--net.pth"
    if case.part:
        path.with_name(f"{path.name}.part").write_bytes(case.part)
    with FileServer(CONTENT, case.answers) as server, watched(path) as wrong:
        try:
            download.fetch(published(server))
            outcome, said = GOOD, ""
        except UserError as error:
            outcome, said = REFUSED, str(error).partition("(")[2].partition("); fetch")[0]
        requests = len(server.requests)
    if outcome != case.outcome or requests != case.requests:
        wrong.append(f"{case.outcome} after {case.requests} requests was due")
    if path.exists() != (outcome == GOOD):
        wrong.append("the name is there and should not be, or the other way")
    return outcome, requests, said, wrong


@contextmanager
def child(server: FileServer) -> Iterator[subprocess.Popen[str]]:
    """A process that downloads."""
    command = [sys.executable, "-c", CHILD, server.address, str(SIZE), SHA256]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def run_stopped(number: signal.Signals, cache: Path) -> tuple[str, int, str, list[str]]:
    """Stop a process half-way; another one goes on."""
    path = cache / "some--net.pth"
    part = path.with_name(f"{path.name}.part")
    with (
        FileServer(CONTENT, [Answer(stop=HALF, hold=True), Answer()]) as server,
        watched(path) as wrong,
    ):
        with child(server) as process:
            while not part.exists() or part.stat().st_size < HALF - (1 << 20):
                server.asked.wait(0.01)
            process.send_signal(number)
            said = process.communicate(timeout=20)[1].strip()
        if process.returncode != (130 if number == signal.SIGINT else -number) or path.exists():
            wrong.append(f"status {process.returncode}")
        server.go.set()
        with child(server) as process:
            process.communicate(timeout=20)
        if not (server.requests[1] or "").startswith("bytes="):
            wrong.append("it did not go on")
        return GOOD if path.exists() else REFUSED, len(server.requests), said, wrong


def run_two(cache: Path) -> tuple[str, int, str, list[str]]:
    """Two processes at once: one request."""
    path = cache / "some--net.pth"
    with (
        FileServer(CONTENT, [Answer(stop=HALF, hold=True)]) as server,
        watched(path) as wrong,
        child(server) as first,
    ):
        server.asked.wait(20)
        with child(server) as second:
            assert second.stderr is not None
            said = second.stderr.readline().strip()
            server.go.set()
            for process in (first, second):
                if process.communicate(timeout=20)[0] != f"{path}\n" or process.returncode:
                    wrong.append(f"status {process.returncode}")
        if len(server.requests) != 1 or "waiting for another process" not in said:
            wrong.append("the second did not wait")
        return GOOD if path.exists() else REFUSED, len(server.requests), said, wrong


def main() -> int:
    os.environ["NO_PROXY"] = "*"
    download.TIMEOUT = 0.5
    runs: dict[str, Callable[[Path], tuple[str, int, str, list[str]]]] = {
        case.name: lambda cache, case=case: run_case(case, cache)  # type: ignore[misc]
        for case in CASES
    }
    runs["Ctrl-C, then once more"] = lambda cache: run_stopped(signal.SIGINT, cache)
    runs["killed, then once more"] = lambda cache: run_stopped(signal.SIGKILL, cache)
    runs["two processes at once"] = run_two
    table = Table("server", "download", "requests", "said", "cache")
    bad = 0
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["RESNET_NP_CACHE"] = folder
            outcome, requests, said, wrong = run(Path(folder))
            said = said.replace(folder, "CACHE")
        bad += bool(wrong)
        table.add_row(name, outcome, str(requests), said, "; ".join(wrong) or "good")
    Console(width=160).print(table)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
