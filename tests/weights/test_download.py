"""Downloads: go on where they stopped, take the right bytes only, say in one line what is wrong."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest
from file_server import Answer, FileServer
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.errors import UserError
from resnet_np.weights import download, registry
from resnet_np.weights.cache import cache_folder, cached_class_names, place, read_names
from resnet_np.weights.download import fetch
from resnet_np.weights.registry import Published

CONTENT = np.random.default_rng(0).bytes(200_000)
WRONG = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def entry(server: FileServer, **changes: object) -> Published:
    plain = Published(
        name="some/net",
        kind="weights",
        title="",
        address=server.address,
        sources={},
        bytes=len(CONTENT),
        sha256=SHA256,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for each test; patience for half a second."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RESNET_NP_CACHE", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    return folder


def files(cache: Path) -> dict[str, int]:
    """What lies in the cache, and its length; locks do not count."""
    found = {path.name: path.stat().st_size for path in sorted(cache.iterdir())}
    return {name: size for name, size in found.items() if not name.endswith(".lock")}


def refused(published: Published) -> str:
    """The one line that says why a file cannot be had, and how to have it."""
    with pytest.raises(UserError) as raised:
        fetch(published)
    message = str(raised.value)
    assert message.isprintable()
    return message


def reason(published: Published) -> str:
    """What stands in the brackets of that line."""
    path = place(published)
    start = f"{published.name} cannot be downloaded ("
    end = f"); fetch {published.address} by other means and put it at {path}"
    message = refused(published)
    assert message.startswith(start) and message.endswith(end)
    assert not path.exists()
    return message.removeprefix(start).removesuffix(end)


# --- what arrives --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, None], ids=["announced", "no length"])
def test_a_file_arrives(cache: Path, length: int | None) -> None:
    calls: list[tuple[int, int | None]] = []
    with FileServer(CONTENT, [Answer(length=length)]) as server:
        path = fetch(entry(server), lambda done, total: calls.append((done, total)))
    assert path == cache / "some--net.pth"
    assert path.read_bytes() == CONTENT
    assert files(cache) == {"some--net.pth": len(CONTENT)}
    assert calls[-1] == (len(CONTENT), len(CONTENT) if length == 0 else None)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert fetch(entry(server)) == path  # the server is gone: it comes from the cache


@pytest.mark.parametrize(
    "facts",
    [
        {"bytes": None, "between": (150_000, 250_000)},
        {"bytes": None},
        {"sha256": SHA256[:8]},
        {"sha256": None, "md5": hashlib.md5(CONTENT).hexdigest()},
    ],
    ids=["about that long", "of unknown length", "a few digits", "md5"],
)
def test_as_much_as_is_published_is_enough(facts: dict[str, object]) -> None:
    with FileServer(CONTENT, [Answer(stop=HALF), Answer()]) as server:
        assert fetch(entry(server, **facts)).read_bytes() == CONTENT
        wrong = entry(server, name="other", **facts)
        server.content = WRONG
        assert " where " in reason(wrong)


def test_names_and_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"'nothing' is the name of no published file; `python"):
        fetch("nothing")
    monkeypatch.delenv("RESNET_NP_CACHE")
    assert place(registry.find("microsoft/resnet-50")).parts[-2:] == (
        "resnet_np",
        "microsoft--resnet-50.safetensors",
    )
    monkeypatch.setenv("RESNET_NP_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"


def test_a_file_without_a_hash_comes_by_hand_only(capsys: pytest.CaptureFixture[str]) -> None:
    with FileServer(CONTENT) as server:
        unknown = entry(server, sha256=None)
        assert reason(unknown) == "nobody has published its hash, so it could not be checked"
        assert server.requests == []
        path = place(unknown)
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        assert fetch(unknown) == path
        assert SHA256 in capsys.readouterr().err
        path.write_bytes(CONTENT[:-1])
        assert "199,999 bytes where 200,000 are due" in refused(unknown)


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, None], ids=["announced", "no length"])
def test_a_cut_connection_is_taken_up_again(length: int | None) -> None:
    with FileServer(CONTENT, [Answer(stop=HALF, length=length), Answer()]) as server:
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]


def test_a_later_run_goes_on(cache: Path) -> None:
    answers = [Answer(stop=HALF), Answer(status=500), Answer()]
    with FileServer(CONTENT, answers) as server:
        assert reason(entry(server)) == "the server answers 500 Internal Server Error"
        assert files(cache) == {"some--net.pth.part": HALF}
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert files(cache) == {"some--net.pth": len(CONTENT)}


def test_a_server_that_cannot_go_on_begins_again() -> None:
    with FileServer(CONTENT, [Answer(stop=HALF), Answer(ranges=False)]) as server:
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
        f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}",
        "bytes */*",
        "nonsense",
        "bytes " + "9" * 5000 + "-1/1",
    ],
)
def test_the_wrong_part_is_not_appended(content_range: str) -> None:
    answers = [Answer(stop=HALF), Answer(content_range=content_range), Answer()]
    with FileServer(CONTENT, answers) as server:
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-", None]


def test_a_part_that_was_not_asked_for_is_refused() -> None:
    with FileServer(CONTENT, [Answer(content_range="bytes 0-9/10")]) as server:
        assert "with something that was not asked for" in reason(entry(server))


@pytest.mark.parametrize("size", [1, HALF, len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_something_else_is_noticed(cache: Path, size: int) -> None:
    """By its hash; then once more from the start. One as long as the file gets a 416."""
    cache.mkdir()
    (cache / "some--net.pth.part").write_bytes(bytes(size))
    with FileServer(CONTENT) as server:
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests[-1] is None


def test_a_whole_part_gets_its_name(cache: Path) -> None:
    cache.mkdir()
    (cache / "some--net.pth.part").write_bytes(CONTENT)
    with FileServer(CONTENT) as server:  # which answers 416
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_tries_end() -> None:
    with FileServer(CONTENT, [Answer(stop=10)]) as server:
        assert reason(entry(server)) == "the connection ended after 50 bytes"
        assert len(server.requests) == download.TRIES
        server.answers = [Answer(stop=0)]
        assert reason(entry(server)) == "the connection ended after 50 bytes"
        assert len(server.requests) == download.TRIES + 1  # it brought nothing


# --- refusals ------------------------------------------------------------------------------------


def test_wrong_bytes_are_removed(cache: Path) -> None:
    with FileServer(WRONG) as server:
        found = hashlib.sha256(WRONG).hexdigest()
        assert reason(entry(server)) == (
            f"what came has a sha256 of {found[:8]}... where {SHA256[:8]}... is due,"
            " and was removed"
        )
    assert files(cache) == {}
    assert len(server.requests) == 1


def test_wrong_bytes_after_going_on_are_tried_once_more(cache: Path) -> None:
    with FileServer(WRONG, [Answer(stop=HALF), Answer()]) as server:
        assert "is due, and was removed" in reason(entry(server))
    assert server.requests == [None, f"bytes={HALF}-", None]
    assert files(cache) == {}


@pytest.mark.parametrize("size", [0, 1, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_wrong_length_is_refused_before_anything_is_written(cache: Path, size: int) -> None:
    with FileServer((CONTENT * 2)[:size]) as server:
        assert reason(entry(server)) == (
            f"the server announces {size:,} bytes where 200,000 are due"
        )
    assert files(cache) == {}


@pytest.mark.parametrize("part", [0, HALF])
def test_nothing_beyond_the_length_is_written(cache: Path, part: int) -> None:
    cache.mkdir()
    (cache / "some--net.pth.part").write_bytes(CONTENT[:part])
    written: list[int] = []
    with (
        FileServer(CONTENT * 50, [Answer(length=None, ranges=False)]) as server,
        pytest.raises(UserError, match="the server sends more than 200,000 bytes"),
    ):
        fetch(entry(server), lambda done, total: written.append(done))
    assert max(written, default=0) <= len(CONTENT)
    assert files(cache) == {}


def test_a_length_that_is_too_long_is_a_cut() -> None:
    published = {"bytes": None, "between": (100_000, 300_000)}
    with FileServer(CONTENT, [Answer(length=5)]) as server:
        # The second connection hears from a 416 that nothing is missing.
        assert fetch(entry(server, **published)).read_bytes() == CONTENT


def test_a_length_that_is_too_short_is_wrong_bytes() -> None:
    published = {"bytes": None, "between": (100_000, 300_000)}
    with FileServer(CONTENT, [Answer(length=-5)]) as server:
        assert "is due, and was removed" in reason(entry(server, **published))


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service Unavailable")],
)
def test_what_the_server_answers(status: int, text: str) -> None:
    with FileServer(CONTENT, [Answer(status=status)]) as server:
        assert reason(entry(server)) == f"the server answers {text}"
    assert len(server.requests) == 1


def test_no_server() -> None:
    with FileServer(CONTENT) as server:
        pass
    assert reason(entry(server)) == "Connection refused"


def test_no_other_kinds_of_address(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    with FileServer(CONTENT) as server:
        local = entry(server, address=(tmp_path / "weights.pth").as_uri())
        assert reason(local) == "unknown url type: file"


def test_silence() -> None:
    with FileServer(CONTENT, [Answer(stop=HALF, hold=True), Answer(stop=0, hold=True)]) as server:
        assert reason(entry(server)) == "nothing came for 0.5 seconds"
        server.go.set()


# --- redirections --------------------------------------------------------------------------------


def test_redirections_are_followed_and_parts_asked_for_behind_them() -> None:
    with FileServer(CONTENT, [Answer(stop=HALF), Answer()]) as far, FileServer(b"") as near:
        near.answers = [Answer(status=302, location=far.address)]
        assert fetch(entry(near)).read_bytes() == CONTENT
    assert far.requests == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x/"])
def test_redirections_to_anything_else_are_refused(target: str) -> None:
    with FileServer(b"", [Answer(status=302, location=target)]) as server:
        said = reason(entry(server))
    assert said.startswith("the server answers 302 ") and target in said


def test_redirections_in_a_circle_are_refused() -> None:
    with FileServer(b"") as server:
        server.answers = [Answer(status=302, location=server.address)]
        assert "the server answers 302" in reason(entry(server))


def test_https_does_not_become_http() -> None:
    request = Request("https://a.example/x")
    redirects = download._Redirects()
    with pytest.raises(HTTPError, match=r"and redirects to http://b.example/x") as raised:
        redirects.redirect_request(
            request, None, 302, "Found", request.headers, "http://b.example/x"
        )  # type: ignore[arg-type]
    raised.value.close()
    followed = redirects.redirect_request(
        request, None, 302, "Found", request.headers, "https://b.example/x"
    )  # type: ignore[arg-type]
    assert followed is not None and followed.full_url == "https://b.example/x"


# --- this machine --------------------------------------------------------------------------------


def test_a_bad_file_loses_its_name(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that rotted, or that someone put there by hand."""
    with FileServer(CONTENT) as server:
        path = fetch(entry(server))
        path.write_bytes(WRONG)
        assert fetch(entry(server)).read_bytes() == CONTENT
        assert "is due; this file is some--net.pth.wrong now" in capsys.readouterr().err
    path.write_bytes(CONTENT[:-1])
    assert reason(entry(server)) == "Connection refused"
    assert files(cache) == {"some--net.pth.wrong": len(CONTENT) - 1}


def test_ctrl_c_keeps_what_arrived(cache: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done >= HALF:
            raise KeyboardInterrupt

    with FileServer(CONTENT, [Answer(stop=HALF, hold=True), Answer()]) as server:
        with pytest.raises(
            KeyboardInterrupt, match=r"interrupted; 100,000 bytes are kept in .*part"
        ):
            fetch(entry(server), interrupt)
        server.go.set()
        assert files(cache) == {"some--net.pth.part": HALF}
        assert fetch(entry(server)).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file may grow beyond the limit, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk(cache: Path) -> None:
    with FileServer(CONTENT) as server:
        with small_files(HALF):
            message = refused(entry(server))
        part = cache / "some--net.pth.part"
        assert message == (
            f"{part}: cannot be written: File too large; what has arrived stays there"
        )
        assert files(cache) == {part.name: HALF}
        assert fetch(entry(server)).read_bytes() == CONTENT


def test_no_place_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNET_NP_CACHE", str(tmp_path / "file" / "cache"))
    with FileServer(CONTENT) as server:
        message = refused(entry(server))
    assert message.endswith("Not a directory; RESNET_NP_CACHE can name another folder")


CHILD = """
import sys
from resnet_np.weights.download import fetch
from resnet_np.weights.registry import Published
address, size, sha256 = sys.argv[1:]
print(fetch(Published("some/net", "weights", "", address, {}, bytes=int(size), sha256=sha256)))
"""


def test_two_processes(cache: Path) -> None:
    """The second waits, says so, and finds what the first has fetched."""
    with FileServer(CONTENT, [Answer(stop=HALF, hold=True)]) as server:

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-c", CHILD, server.address, str(len(CONTENT)), SHA256],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        with start() as first:
            assert server.asked.wait(20)
            with start() as second:
                assert second.stderr is not None and first.stdout is not None
                path = cache / "some--net.pth"
                assert second.stderr.readline() == (
                    f"{path}: waiting for another process that is fetching it\n"
                )
                assert files(cache) == {"some--net.pth.part": HALF}
                server.go.set()
                for process in (first, second):
                    shown, said = process.communicate(timeout=20)
                    assert (shown, said, process.returncode) == (f"{path}\n", "", 0)
    assert server.requests == [None]
    assert files(cache) == {"some--net.pth": len(CONTENT)}


# --- whatever the server does --------------------------------------------------------------------

ANSWERS = st.builds(
    Answer,
    content=st.sampled_from([None, None, WRONG, b"", CONTENT[:-1], CONTENT + b"x", b"<html>"]),
    ranges=st.booleans(),
    stop=st.none() | st.integers(0, len(CONTENT)),
    length=st.none() | st.sampled_from([0, 0, 1, -1, 10**6]),
    content_range=st.none()
    | st.builds("bytes {}-{}/{}".format, *[st.sampled_from([0, 1, HALF, len(CONTENT), -1])] * 3),
    status=st.none() | st.none() | st.sampled_from([204, 304, 404, 416, 500]),
)


@given(answers=st.lists(ANSWERS, min_size=1, max_size=6), part=st.none() | st.integers(0, 210_000))
def test_the_name_stands_for_the_right_bytes_or_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Answer], part: int | None
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    if part is not None:
        (cache / "some--net.pth.part").write_bytes((CONTENT * 2)[:part])
    os.environ["RESNET_NP_CACHE"] = str(cache)  # the fixture above puts it back
    with FileServer(CONTENT, answers) as server:
        try:
            assert fetch(entry(server)).read_bytes() == CONTENT
        except UserError as error:
            assert str(error).startswith("some/net cannot be downloaded (")
            assert "some--net.pth" not in files(cache)
            assert files(cache).get("some--net.pth.part", 0) <= len(CONTENT)


# --- class names ---------------------------------------------------------------------------------


def put_names(monkeypatch: pytest.MonkeyPatch, text: bytes, cache: Path) -> Published:
    """Make this text the published list of class names, and have it in the cache."""
    names = replace(
        registry.find("imagenet-classes"),
        name="some-classes",
        between=None,
        md5=hashlib.md5(text).hexdigest(),
    )
    weights = replace(registry.find("imagenet-v2"), classes="some-classes")
    for module in ("cache", "download"):
        table = {"some-classes": names, "some-net": weights}
        monkeypatch.setattr(f"resnet_np.weights.{module}.find", table.__getitem__)
    cache.mkdir()
    (cache / "some-classes.json").write_bytes(text)
    return weights


def test_class_names(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"1": ["n3", "crane"], "0": ["n1", "tench"], "2": ["n2", "crane"]}
    weights = put_names(monkeypatch, json.dumps(record).encode(), cache)
    expected = ("tench", "crane (n3)", "crane (n2)")
    assert download.class_names("some-net") == download.class_names(weights) == expected
    assert cached_class_names(weights) == expected
    headless = registry.find("keras-notop")
    assert download.class_names(headless) is cached_class_names(headless) is None


def test_class_names_that_are_not_there(cache: Path) -> None:
    assert cached_class_names(registry.find("imagenet-v2")) is None


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[]]",
        b"[1]",
        b'{"1": ["n", "tench"]}',
        b'{"0": ["tench"]}',
        b'{"0": [1, 2]}',
        b'{"0": ["n", ["tench"]]}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
)
def test_no_class_names(cache: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    weights = put_names(monkeypatch, text, cache)
    with pytest.raises(UserError, match=r"some-classes.json: not a list of class names"):
        download.class_names(weights)


def test_the_published_class_names(test_data: Path) -> None:
    names = read_names(test_data / "images" / "imagenet_class_index.json")
    assert len(set(names)) == len(names) == 1000
    assert names[:2] == ("tench", "goldfish") and names[134] == "crane (n02012849)"
