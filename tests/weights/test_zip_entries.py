"""Zips from strangers: refused before they cost more memory than they are large."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from resnet_np.errors import UserError
from resnet_np.weights import read_npz
from resnet_np.weights.formats.zip_entries import MAX_DIRECTORY, SMALL, fill, open_zip


def zip_of(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file


def test_an_ordinary_one() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with open_zip(zip_of({"a": b"1234", "b": b""}, method)) as archive:
            assert archive.read("a") == b"1234"
            assert archive.namelist() == ["a", "b"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(method: int) -> None:
    with pytest.raises(ValueError, match="other than deflate"):
        open_zip(zip_of({"a": bytes(1000)}, method))


def test_a_bomb() -> None:
    small = zip_of({"a": bytes(SMALL)}, zipfile.ZIP_DEFLATED)
    assert len(open_zip(small).read("a")) == SMALL
    bomb = zip_of({"a": bytes(SMALL + 1)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a zip of \d+ bytes that announces 1048577"):
        open_zip(bomb)


def test_one_entry_listed_many_times() -> None:
    """All entries of the directory may point at the same bytes."""
    data = zip_of({"a": bytes(1000)}).getvalue()
    directory = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    many = data[:directory] + data[directory:end] * 10
    sizes = struct.pack("<HHLL", 10, 10, 10 * (end - directory), directory)
    with pytest.raises(ValueError, match="that announces 10000"):
        open_zip(io.BytesIO(many + data[end : end + 8] + sizes + data[end + 20 :]))


def test_a_directory_of_very_many_entries() -> None:
    data = zip_of({"a": b""}).getvalue()
    directory, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[directory:end]
    n = MAX_DIRECTORY // len(entry) + 1
    sizes = struct.pack("<HHLL", n & 0xFFFF, n & 0xFFFF, n * len(entry), directory)
    bomb = data[:directory] + entry * n + data[end : end + 8] + sizes + data[end + 20 :]
    file = io.BytesIO(bomb)
    tracemalloc.start()
    with pytest.raises(ValueError, match="too many entries"):
        open_zip(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (npy(HEADER.format("<f4", f"({1 << 40},)"), b"1234"), "4 bytes where its header announces"),
        (npy(HEADER.format("<f4", "(-1, -1)"), b"1234"), "an .npy whose header is"),
        (npy(HEADER.format("|O", "(1,)") * 2, b"1234"), "an .npy whose header is"),
        (npy(HEADER.format("<f4", "(1L,)").replace("L", "L\\n"), b"1234"), "whose header is"),
        (npy(HEADER.format("<M8[ns]", "(1,)"), b"12345678"), "no plain number"),
        (npy(HEADER.format("[('a', '<f4')]", "(1,)"), b"1234"), "no readable array"),
        (npy(HEADER.format("<f4", "(2,)"), b"1234"), "4 bytes where its header announces 8"),
        (npy(HEADER.format("<f4", "(1,)"), b"12345"), "5 bytes where its header announces 4"),
        (npy(HEADER.format("|O", "(1,)"), b"12345678"), "only a pickle"),
        (npy(HEADER.format("<f4", "(1"), b"1234"), "no readable array"),
        (npy("(" * 100, b"1234"), "no readable array"),
        (npy("{" * 100, b"1234"), "no readable array"),
        (npy("-" * 118, b"1234"), "no readable array"),
        (npy(HEADER.format("<q9", "(1,)"), b"1234"), "no readable array"),
        (b"\x93NUMPY\3\0" + npy("")[8:], "of a version that only tables have"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{}", "no readable array"),
    ],
)
def test_arrays_that_lie(tmp_path: Path, entry: bytes, message: str) -> None:
    (tmp_path / "a.npz").write_bytes(zip_of({"a.npy": entry}).getvalue())
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        read_npz(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 1 << 22


def test_an_array_of_no_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros((0, 1 << 40)), b=np.zeros(3, "U0"), c=np.array("x"))
    arrays, _ = read_npz(tmp_path / "a.npz")
    assert [a.shape for a in arrays.values()] == [(0, 1 << 40), (3,), ()]


def test_deflated_arrays_take_their_own_size_in_memory(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=1 << 20).astype("f4")
    np.savez_compressed(tmp_path / "a.npz", a=numbers)
    tracemalloc.start()
    arrays, _ = read_npz(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(arrays["a"], numbers)
    assert peak < numbers.nbytes + (4 << 20)


def test_fill_says_when_the_file_ends() -> None:
    array = np.empty((2, 2), "<i2")
    assert fill(array, io.BytesIO(bytes(range(8))))
    assert array.tobytes() == bytes(range(8))
    assert not fill(array, io.BytesIO(bytes(7)))
