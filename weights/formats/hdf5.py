"""HDF5 files, parsed by a process of their own (hdf5_child.py), which may crash in its stead.

Nothing of what comes back is taken on trust: the lengths of texts, the types and the shapes are
checked against the size of the file before memory is set aside for them.
"""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.formats.json_text import load_json
from resnet_np.weights.formats.zip_entries import fill

CHILD = Path(__file__).with_name("hdf5_child.py")
TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bfloat16")
RANK = 16
LINE = 4 << 20  # as in hdf5_child.py
START_SECONDS = 60.0  # importing h5py from a slow disk
SECONDS = 6.0
SLOWEST = 4_000_000
"""Bytes in a second; a large file on a slow disk gets so much time more."""
REFUSED = 2

Texts = dict[str, str | list[str]]


@dataclass(frozen=True)
class Dump:
    """What is in an HDF5 file. Paths have no leading slash; the root is "".

    texts: {group: {attribute: text or texts}}, a key for each group; other attributes are left out.
    arrays: {path: array}; bfloat16 widened to float32.
    skipped: groups at the root that were not looked into because they were not asked for.
    """

    texts: dict[str, Texts]
    arrays: dict[str, np.ndarray]
    skipped: list[str]


@dataclass(frozen=True)
class Part:
    """Where in a file the HDF5 file lies; inflated: its size, if it is deflated there, or 0."""

    start: int
    size: int
    inflated: int = 0


def dump(path: str | os.PathLike[str], part: Part | None = None, skip: Iterable[str] = ()) -> Dump:
    """All groups, texts and arrays of an HDF5 file, or of the part of a file that is one.

    skip: groups at the root whose content is of no interest and costs nothing.
    Raises UserError, naming the file, if it cannot be read, the library crashes on it or does not
    come to an end, or it holds what no weights need: links to elsewhere, objects under two names,
    arrays that were never written or declare more than the file holds, types other than numbers.
    """
    try:
        with open(path, "rb") as file:
            part = part or Part(0, os.fstat(file.fileno()).st_size)
            return _dump(os.fspath(path), file, part, list(skip))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _dump(path: str, file: BinaryIO, part: Part, skip: list[str]) -> Dump:
    # Numbers that lie in the file as they are cannot be more than it; gzip may double them. What
    # was deflated as a whole has had its share.
    limit = part.inflated or 2 * part.size
    seconds = SECONDS + part.size / SLOWEST
    task = _task(part, limit, math.ceil(seconds), skip)
    with _running(_command(task), file) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        found = None
        with _deadline(child, START_SECONDS):
            started = child.stdout.read(1) == b"\n"
        with _deadline(child, seconds) as late:
            try:
                if started:
                    found = _receive(child.stdout, min(LINE, part.size + 65536), limit)
            except EOFError:
                pass  # how it ended says why
            except ValueError as error:
                raise UserError(f"{path}: what its parser sent is damaged: {error}") from error
            status = child.wait()
        if found is None or status:
            said = child.stderr.read(65536).decode(errors="replace")
            raise UserError(f"{path}: {_reason(status, said, started, late.is_set(), seconds)}")
    return found


def _task(part: Part, limit: int, cpu: int, skip: list[str]) -> dict[str, Any]:
    """What hdf5_child.py is told. It finds h5py where this process would."""
    specs = [importlib.util.find_spec(name) for name in ("h5py", "numpy")]
    folders = {str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin}
    return {
        "path": sorted(folders),
        "start": part.start,
        "size": part.size,
        "inflated": part.inflated,
        "limit": limit,
        "cpu": cpu,
        "skip": skip,
    }


def _command(task: dict[str, Any]) -> list[str]:
    # Isolated (-I) and without site (-S): it starts sooner, and no setting changes what it imports.
    return [sys.executable, "-I", "-S", str(CHILD), json.dumps(task)]


@contextmanager
def _running(command: list[str], file: BinaryIO) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that reads the file; it is gone when the `with` block is left, however."""
    # No threads for algebra that is not done, no plug-ins that a file could ask for.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    with subprocess.Popen(
        command,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def _deadline(child: "subprocess.Popen[bytes]", seconds: float) -> Iterator[threading.Event]:
    """Ends the process if the `with` block takes longer, and sets the event."""
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _receive(stream: Any, longest: int, limit: int) -> Dump:
    """Read what was sent. EOFError: it ended too soon. ValueError: it was something else."""
    line = stream.readline(longest + 1)
    if not line.endswith(b"\n"):
        raise ValueError("a line too long") if len(line) > longest else EOFError
    header = load_json(line, limit)
    match header:
        case {"texts": dict() as texts, "skipped": list() as skipped, "arrays": list() as listed}:
            arrays = {}
            for path, dtype, shape in _checked(listed, limit):
                arrays[path] = _read_array(stream, dtype, shape)
        case _:
            raise ValueError("its first line is of another form")
    if stream.read(1):
        raise ValueError("more numbers than announced")
    if "" not in texts or not all(map(_is_texts, texts.values())):
        raise ValueError("texts of another form")
    return Dump(texts, arrays, skipped)


def _checked(listed: list[Any], limit: int) -> list[tuple[str, str, list[int]]]:
    """The announced arrays, all of them known to be fit before the first is read."""
    total = 0
    for item in listed:
        match item:
            case [str(), str() as dtype, list() as shape] if dtype in TYPES and len(shape) <= RANK:
                if not all(type(n) is int and 0 < n <= limit for n in shape):
                    raise ValueError("impossible shapes")
                total += math.prod(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
            case _:
                raise ValueError("an array of unknown form")
    if total > limit:
        raise ValueError("more numbers than the file can hold")
    if len({item[0] for item in listed}) < len(listed):
        raise ValueError("arrays of one name")
    return [(path, dtype, shape) for path, dtype, shape in listed]


def _read_array(stream: Any, dtype: str, shape: list[int]) -> np.ndarray:
    array = np.empty(shape, "<u2" if dtype == "bfloat16" else f"<{dtype}")
    if not fill(array, stream):
        raise EOFError
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_texts(attributes: object) -> bool:
    return isinstance(attributes, dict) and all(
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(text, str) for text in value))
        for value in attributes.values()
    )


def _reason(status: int, said: str, started: bool, late: bool, seconds: float) -> str:
    """Why nothing came of it, in one line."""
    said = " ".join(said.split())
    if not started:
        return f"h5py, which parses HDF5 files, could not be started ({said or status})"
    if late or (status < 0 and -status == getattr(signal, "SIGXCPU", None)):
        return f"the HDF5 library did not come to an end with it in {seconds:.0f} s"
    if status == REFUSED:
        return said
    if status < 0:
        return f"the HDF5 library crashed on it ({_signal_name(-status)})"
    return f"the process that parses it ended with status {status} ({said})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
