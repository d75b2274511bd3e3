"""A server on this machine that gives one file, as badly as one asks it to."""

import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Answer:
    """How one request is answered; without arguments, as it should be.

    content: the file, instead of the server's. ranges: whether a wish for a part is heard.
    stop: bytes of the answer after which the connection ends, or, with `hold`, rests until
    `FileServer.go` is set.
    length: how many bytes more the answer announces than it has; None announces nothing.
    content_range: what stands there instead of the truth.
    status, location: of an answer that is no file.
    """

    content: bytes | None = None
    ranges: bool = True
    stop: int | None = None
    hold: bool = False
    length: int | None = 0
    content_range: str | None = None
    status: int | None = None
    location: str | None = None


class FileServer(ThreadingHTTPServer):
    """Give `content` at any address; the k-th request gets the k-th answer, later ones the last.

    requests: the Range header of each request, None where there was none.
    """

    daemon_threads = True

    def __init__(self, content: bytes, answers: Sequence[Answer] = (Answer(),)) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.answers = list(answers)
        self.requests: list[str | None] = []
        self.asked = threading.Event()
        self.go = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/weights.pth"

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wish = self.headers.get("Range")
        answer = self.server.answers[min(len(self.server.requests), len(self.server.answers) - 1)]
        self.server.requests.append(wish)
        self.server.asked.set()
        with suppress(ConnectionError):  # the client may leave early
            self._answer(answer, wish)

    def _answer(self, answer: Answer, wish: str | None) -> None:
        if answer.status is not None:
            self.send_response(answer.status)
            if answer.location is not None:
                self.send_header("Location", answer.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.content if answer.content is None else answer.content
        found = re.fullmatch(r"bytes=(\d+)-", wish or "")
        start = int(found[1]) if found and answer.ranges else 0
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        truth = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start or answer.content_range else 200)
        if start or answer.content_range:
            self.send_header("Content-Range", answer.content_range or truth)
        body = content[start:]
        if answer.length is not None:
            self.send_header("Content-Length", str(len(body) + answer.length))
        self.end_headers()
        self.wfile.write(body[: answer.stop])
        if answer.hold:
            self.server.go.wait(10)
            self.wfile.write(body[answer.stop :])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output is for the tests."""
