"""HDF5 files made to do harm, and the process that parses them when it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import message_of

from resnet_np.weights.formats import hdf5, hdf5_child

GOLDEN = Path(__file__).parents[1] / "golden"

posix = pytest.mark.skipif(os.name != "posix", reason="Windows knows no signals")


def written(path: Path, write: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


# --- what is in a file ---------------------------------------------------------------------------


def test_numbers_and_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4)).astype("<f4"),
        "g/big_endian": rng.normal(size=5).astype(">f8"),
        "g/half": rng.normal(size=(2, 1, 2)).astype("f2"),
        "g/h/whole": rng.integers(0, 100, 7, dtype="u1"),
        "scalar": np.array(3, "<i8"),
        "zipped": rng.normal(size=(50, 50)),
        "brain": np.array([1.5, -2, 3], ml_dtypes.bfloat16),
    }

    def write(file: h5py.File) -> None:
        for name, array in arrays.items():
            filters = {"compression": "gzip", "shuffle": True} if name == "zipped" else {}
            dataset = file.create_dataset(name, data=array, **filters)
            if name == "brain":
                dataset.attrs["dtype"] = "bfloat16"
        file["optimizer/vars/0"] = np.zeros(1000)
        file.attrs["text"] = "é"
        file["g"].attrs["bytes"] = np.array([b"a", b"bc"])
        file["g"].attrs["texts"] = ["a", "bc"]
        file["g"].attrs["none"] = []
        file["g"].attrs["number"] = 3

    found = hdf5.dump(written(tmp_path / "a.h5", write), skip=["optimizer", "other"])
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array.astype(array.dtype.newbyteorder()))
        assert found.arrays[name].dtype.isnative
    assert found.texts == {
        "": {"text": "é"},
        "g": {"bytes": ["a", "bc"], "texts": ["a", "bc"], "none": []},
        "g/h": {},
    }
    assert found.skipped == ["optimizer"]


def test_part_of_a_file(tmp_path: Path) -> None:
    data = (GOLDEN / "keras_legacy_top.h5").read_bytes()
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1001 + data + b"y" * 77)
    part = hdf5.dump(path, hdf5.Part(1001, len(data)))
    whole = hdf5.dump(GOLDEN / "keras_legacy_top.h5")
    assert part.texts == whole.texts
    assert {n: a.tobytes() for n, a in part.arrays.items()} == {
        n: a.tobytes() for n, a in whole.arrays.items()
    }


def test_places_outside_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(20)))
    with open(path, "rb", buffering=0) as file:
        window = hdf5_child.Window(file, 5, 10)
        for place, there in ((-1, b""), (0, b"\5\6\7\10"), (8, b"\15\16"), (10, b"")):
            window.seek(place)
            assert window.read(4) == there
        window.seek(2**64)
        assert window.read(4) == b""


@given(
    st.lists(st.integers(1, 9), max_size=5).map(tuple),
    st.sampled_from([1, 2, 8]),
    st.integers(8, 400),
)
def test_pieces(shape: tuple[int, ...], itemsize: int, most: int) -> None:
    """Laid end to end they are the array, and none is larger than it may be."""
    array = np.arange(np.prod(shape, dtype=int), dtype=f"u{itemsize}").reshape(shape)
    before, hdf5_child.PIECE = hdf5_child.PIECE, most
    try:
        parts = [array[index] for index in hdf5_child.pieces(shape, itemsize)]
    finally:
        hdf5_child.PIECE = before
    assert b"".join(part.tobytes() for part in parts) == array.tobytes()
    assert all(part.nbytes <= most for part in parts)


# --- files made to do harm -----------------------------------------------------------------------


def nest(file: h5py.File) -> None:
    file["/".join(["g"] * 100)] = np.zeros(3)


def link_to_itself(file: h5py.File) -> None:
    file["g/h/again"] = file.create_group("g/h").parent


def loop_of_soft_links(file: h5py.File) -> None:
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
    file.create_virtual_dataset("x", layout)


def two_axes_of_text(file: h5py.File) -> None:
    file.attrs["layer_names"] = np.array([[b"a"]])


HARMFUL: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "external link": (
        lambda f: f.update(x=h5py.ExternalLink("/etc/passwd", "/x")),
        "'x' in '/' is a link to another place or file",
    ),
    "soft link": (lambda f: f.update(x=h5py.SoftLink("/y")), "'x' in '/' is a link"),
    "loop of soft links": (loop_of_soft_links, "is a link to another place"),
    "group in itself": (link_to_itself, "'again' in 'g/h' is there under two names"),
    "two names": (lambda f: f.update(x=f.create_dataset("y", data=[1.0])), "under two names"),
    "nothing of much": (lambda f: f.create_dataset("x", (10**12,), "f4"), "and holds 0"),
    "chunks of nothing": (
        lambda f: f.create_dataset("x", (10**6, 10**6), "f4", chunks=(100, 100)),
        "declares 4000000000000 bytes and holds 0",
    ),
    "bomb": (
        lambda f: f.create_dataset("x", data=np.zeros(10**6), compression="gzip"),
        "declare more bytes than it holds (up to 'x')",
    ),
    "numbers elsewhere": (
        lambda f: f.create_dataset("x", (4,), "u1", external=[("/etc/passwd", 0, 4)]),
        "the numbers of 'x' lie in another file",
    ),
    "virtual": (virtual, "the numbers of 'x' lie in another file"),
    "other filter": (
        lambda f: f.create_dataset("x", data=np.ones(99), compression="lzf"),
        "compressed by something else than gzip",
    ),
    "reference": (
        lambda f: f.create_dataset("x", data=f.ref, dtype=h5py.ref_dtype),
        "of a type that no weights have",
    ),
    "lists": (lambda f: f.create_dataset("x", (2,), h5py.vlen_dtype("f4")), "of a type that no"),
    "record": (lambda f: f.update(x=np.zeros(2, "f4,i4")), "of a type that no weights have"),
    "text": (lambda f: f.update(x="a text"), "of a type that no weights have"),
    "no shape": (lambda f: f.update(x=h5py.Empty("f4")), "'x' is empty"),
    "no length": (lambda f: f.update(x=np.zeros((3, 0))), "'x' is empty"),
    "named type": (lambda f: f.update(x=np.dtype("f4")), "neither a group nor an array"),
    "deep": (nest, "more than 32 deep"),
    "name of two lines": (lambda f: f.update({"a\nb": [1.0]}), "none that a layer can have"),
    "long text": (lambda f: f.attrs.update(a="x" * 5_000_000), "longer than those of any network"),
    "axes of text": (two_axes_of_text, "larger than any list of names"),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_harm(tmp_path: Path, case: str) -> None:
    write, message = HARMFUL[case]
    assert message in message_of(written(tmp_path / "a.h5", write), hdf5.dump)


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.h5", lambda f: [f.create_group(f"{i}/a") for i in range(3)])
    with h5py.File(path, "r") as file:
        for most in (7, 6):  # the root is one
            monkeypatch.setattr(hdf5_child, "OBJECTS", most)
            walk = hdf5_child.Walk({"skip": [], "limit": 1000})
            if most == 7:
                walk.visit(file)
                assert len(walk.texts) == 7
            else:
                with pytest.raises(hdf5_child.RefusedError, match="more than 6 groups"):
                    walk.visit(file)


@pytest.mark.parametrize("keep", [0, 1, 9, 40, 96, 800, 2048, 50_000, 192_000, 192_487])
def test_cut_short(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((GOLDEN / "keras_legacy_top.h5").read_bytes()[:keep])
    assert "not a readable HDF5 file, or one cut short" in message_of(path, hdf5.dump)


def test_no_such_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in message_of(tmp_path / "a.h5", hdf5.dump)


# --- a process that fails ------------------------------------------------------------------------

GROUPS = {"texts": {"": {}}, "skipped": []}


def sends(arrays: Any = (), then: str = "", **other: Any) -> str:
    """A child that announces arrays, and then does something else."""
    line = json.dumps({**GROUPS, "arrays": list(arrays), **other})
    return f"import os, time; os.write(1, b'\\n' + {line.encode()!r} + b'\\n'); {then}"


RAW = "import os, time; os.write(1, b'\\n'); "
FLOOD = "[os.write(1, bytes(65536)) for _ in iter(int, 1)]"
DAMAGED = "what its parser sent is damaged"
FAILING = {
    "no python": ("raise ImportError('no h5py')", "could not be started (", "no h5py"),
    "no word": (RAW, "ended with status 0"),
    "status": (RAW + "os._exit(7)", "ended with status 7"),
    "refusal": (RAW + "os.write(2, b'far\\nfetched'); os._exit(2)", ": far fetched"),
    "sleep": (RAW + "time.sleep(60)", "did not come to an end with it in 1 s"),
    "half a line": (RAW + "os.write(1, b'{'); time.sleep(60)", "did not come to an end"),
    "flood": (RAW + FLOOD, DAMAGED, "a line too long"),
    "flood of errors": (RAW + FLOOD.replace("write(1", "write(2"), "did not come to an end"),
    "no JSON": (RAW + "os.write(1, b'hello\\n')", DAMAGED),
    "no UTF-8": (RAW + "os.write(1, b'\\xff\\n')", DAMAGED),
    "deep JSON": (RAW + "os.write(1, b'[' * 50000 + b'\\n')", DAMAGED),
    "another form": (RAW + "os.write(1, b'[]\\n')", DAMAGED),
    "too little": (sends([["a", "f4", [3]]], "os.write(1, b'12345678')"), "ended with status 0"),
    "too much": (sends([["a", "f4", [1]]], "os.write(1, b'12345')"), DAMAGED, "more numbers"),
    "no end": (sends([["a", "f4", [1]]], FLOOD), DAMAGED, "more numbers than announced"),
    "never comes": (sends([["a", "f4", [1]]], "time.sleep(60)"), "did not come to an end"),
    "huge": (sends([["a", "f4", [10**12]]]), DAMAGED, "impossible shapes"),
    "huge together": (sends([["a", "f4", [9000] * 3]]), DAMAGED, "than the file can hold"),
    "negative": (sends([["a", "f4", [-1, -1]]]), DAMAGED, "impossible shapes"),
    "no number": (sends([["a", "f4", [True]]]), DAMAGED, "impossible shapes"),
    "fraction": (sends([["a", "f4", [1.0]]]), DAMAGED, "impossible shapes"),
    "objects": (sends([["a", "O", [1]]]), DAMAGED, "an array of unknown form"),
    "many axes": (sends([["a", "f4", [1] * 99]]), DAMAGED, "an array of unknown form"),
    "twice": (sends([["a", "f4", []], ["a", "f4", []]]), DAMAGED, "arrays of one name"),
    "texts": (sends(texts={"": {"a": 3}}), DAMAGED, "texts of another form"),
    "no root": (sends(texts={}), DAMAGED, "texts of another form"),
}


def replace_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", code]
    monkeypatch.setattr(hdf5, "_command", lambda task: command)
    monkeypatch.setattr(hdf5, "SECONDS", 0.7)


@pytest.mark.parametrize("case", FAILING)
def test_failing_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(bytes(10_000))
    code, *expected = FAILING[case]
    replace_child(monkeypatch, code)
    message = message_of(path, hdf5.dump)
    assert all(text in message for text in expected), message


@posix
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGKILL"])
def test_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(bytes(10))
    number = int(getattr(signal, name))
    replace_child(monkeypatch, RAW + f"os.kill(os.getpid(), {number}); time.sleep(60)")
    assert f"the HDF5 library crashed on it ({name})" in message_of(path, hdf5.dump)


def test_interrupt_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    path = tmp_path / "a.h5"
    path.write_bytes(bytes(10))
    replace_child(monkeypatch, RAW + "time.sleep(60)")
    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(hdf5, "_receive", interrupt)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        hdf5.dump(path)
    assert len(started) == 1
    assert started[0].returncode is not None
    assert time.monotonic() - before < 50  # it did not sleep to its end


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory as asked")
def test_the_child_is_shut_in(tmp_path: Path) -> None:
    """It cannot open another file, write one, or take much memory."""
    tries = """
import sys
sys.path.insert(0, sys.argv[1])
import hdf5_child
hdf5_child.shut_in({"cpu": 9, "size": 1000, "inflated": 0})
def attempt(action):
    try:
        return f"did {action()!r}"
    except (OSError, MemoryError) as error:
        return type(error).__name__
print(attempt(lambda: open("/etc/passwd")), attempt(lambda: len(bytes(100 << 20))))
"""
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", tries, str(Path(hdf5_child.__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["OSError", "MemoryError"]
