"""Fetch published files into a cache folder, where only files with the right hash have a name.

What arrives goes into NAME.part beside its place. It gets its name once its length and its hash
agree with the registry; a .part that a lost connection left behind is gone on with the next time.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from resnet_np.errors import UserError
from resnet_np.weights.cache import find_fault, place, read_names
from resnet_np.weights.registry import Published, find, hash_file

TIMEOUT = 20.0  # seconds without a byte
TRIES = 5  # connections for one file, as long as each brings something
PIECE = 1 << 20
CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:(\d{1,15})|\*)", re.ASCII)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and all that are due, None if the server does not say. The
first number falls if a download has to begin again."""


class IncompleteError(Exception):
    """A connection brought less than the whole file. What it brought stays in the .part."""


def _nothing(done: int, total: int | None) -> None:
    pass


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def fetch(
    published: str | Published,
    progress: Progress = _nothing,
    say: Callable[[str], None] = _to_stderr,
) -> Path:
    """The path of a published file, downloaded first if it is not in the cache.

    Its length and hash are compared each time. Two processes do not disturb each other: the second
    waits, and then finds the file. `say` gets what the user should know meanwhile, a line each.
    Raises UserError if the file cannot be had; the message says where to put it by hand.
    """
    entry = find(published) if isinstance(published, str) else published
    path = place(entry)
    if not entry.has_hash:
        return _unchecked(entry, path, say)
    if find_fault(path, entry) is None:
        return path
    with _alone(path, say):
        fault = find_fault(path, entry)  # another process may have fetched it meanwhile
        if fault is not None:
            _move_aside(path, fault, say)
            _download(entry, path, progress)
    return path


def class_names(
    published: str | Published,
    progress: Progress = _nothing,
    say: Callable[[str], None] = _to_stderr,
) -> tuple[str, ...] | None:
    """The class names of published weights, fetched as they are; None if they have no head."""
    entry = find(published) if isinstance(published, str) else published
    return None if entry.classes is None else read_names(fetch(entry.classes, progress, say))


def _move_aside(path: Path, fault: str, say: Callable[[str], None]) -> None:
    """Take the name from a file that must not have it; someone may have put it there by hand."""
    if path.is_file():
        aside = path.with_name(f"{path.name}.wrong")
        with _writing(path):
            os.replace(path, aside)
        say(f"{path}: {fault}; this file is {aside.name} now, and the right one is fetched")


def _unchecked(entry: Published, path: Path, say: Callable[[str], None]) -> Path:
    """A file without a published hash: only the user can vouch for it, by putting it there."""
    if not path.is_file():
        raise _refusal(entry, "nobody has published its hash, so it could not be checked")
    hashes = hash_file(path)
    if fault := entry.wrong_size(hashes.bytes):
        raise UserError(f"{path}: {fault} for {entry.name}")
    say(f"{path}: used as it is, nobody has published its hash; its sha256 is {hashes.sha256}")
    return path


def _refusal(entry: Published, reason: str) -> UserError:
    return UserError(
        f"{entry.name} cannot be downloaded ({reason}); fetch {entry.address} by other means and"
        f" put it at {place(entry)}"
    )


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from fetching the same file."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with _writing(path.parent, "; RESNET_NP_CACHE can name another folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{path}: waiting for another process that is fetching it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(path: Path, advice: str = "") -> Iterator[None]:
    """Make a failure of the file system one line. Network errors must not get here."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}{advice}") from error


def _download(entry: Published, path: Path, progress: Progress) -> None:
    """Bring the whole file to its place. A .part of something else is noticed by the hash: then
    once more, from the start."""
    part = path.with_name(f"{path.name}.part")
    for _ in range(2):
        try:
            resumed = _receive(entry, part, progress)
        except IncompleteError as error:
            raise _refusal(entry, str(error)) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; {_length(part):,} bytes are kept in {part} to go on from"
            ) from None
        with _writing(part):
            fault = entry.wrong(hash_file(part))
            if fault is None:
                with open(part, "r+b") as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
                return
            part.unlink()
        if not resumed:
            break
    raise _refusal(entry, f"what came has {fault}, and was removed")


def _receive(entry: Published, part: Path, progress: Progress) -> bool:
    """Fill the .part over as many connections as it takes; whether it took more than one."""
    resumed = False
    for k in range(TRIES):
        have = _length(part)
        if have > entry.least_and_most[1]:
            part.unlink()
            have = 0
        resumed |= have > 0
        try:
            _connect(entry, part, have, progress)
            return resumed
        except IncompleteError:
            if k == TRIES - 1 or _length(part) == have:
                raise
    raise AssertionError("not reached")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _connect(entry: Published, part: Path, have: int, progress: Progress) -> None:
    """Append to the .part what one connection brings.

    Raises IncompleteError if something is missing still, UserError if the server has another file.
    """
    request = Request(entry.address, headers={"User-Agent": "resnet_np"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _opener().open(request, timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and have:
                return  # nothing comes behind what is there: now the hash decides
            reason = " ".join(str(error.reason).split())
            raise IncompleteError(f"the server answers {error.code} {reason}") from error
    except (OSError, HTTPException, UnicodeError) as error:
        raise IncompleteError(_reason(error)) from error
    with response:
        start, total = _announced(response, part, have)
        if total is not None and (fault := entry.wrong_size(total)):
            raise _refusal(entry, f"the server announces {fault}")
        most = entry.least_and_most[1] if total is None else total
        done = _copy(response, part, start, most, lambda done: progress(done, total))
    if done > most:
        part.unlink()
        raise _refusal(entry, f"the server sends more than {most:,} bytes")
    if done < (entry.least_and_most[0] if total is None else total):
        raise IncompleteError(f"the connection ended after {done:,} bytes")


def _announced(response: HTTPResponse, part: Path, have: int) -> tuple[int, int | None]:
    """At which byte of the file an answer begins, and how many the whole file has, if it says so.

    A server need not be able to go on: one that answers 200 sends everything again.
    """
    if response.status == 200:
        return 0, response.length
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and found and int(found[1]) == have > 0:
        return have, None if found[3] is None else int(found[3])
    if have:
        part.unlink()  # the next connection asks for all of it
    raise IncompleteError(
        f"the server answers {response.status} with something that was not asked for"
    )


def _copy(
    response: HTTPResponse, part: Path, start: int, most: int, report: Callable[[int], None]
) -> int:
    """Write from byte `start` on; the length that is there afterwards.

    What goes beyond `most` is never written; a result above it says that there was such.
    """
    done = start
    with _writing(part, "; what has arrived stays there"), open(part, "ab" if start else "wb") as f:
        for piece in _pieces(response):
            done += len(piece)
            if done > most:
                break
            f.write(piece)
            report(done)
    return done


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    """What arrives, as it arrives."""
    try:
        while piece := response.read1(PIECE):
            yield piece
    except (OSError, HTTPException) as error:
        raise IncompleteError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """The few words of a network error that say something."""
    if isinstance(error, URLError):
        return error.reason if isinstance(error.reason, str) else _reason(error.reason)
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} seconds"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


class _Redirects(HTTPRedirectHandler):
    """Follow redirections, but never from https to something that others can read and change."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise HTTPError(newurl, code, f"and redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    """http and https, through the proxies that the environment names; no other kinds of address."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _Redirects(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
        UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
