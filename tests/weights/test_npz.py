"""Atomic `.npz` files: what is written comes back, what is wrong is said, nothing is left half."""

import os
import resource
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from resnet_np.errors import UserError
from resnet_np.weights import read_npz, save_npz

ARRAYS = {
    "model/conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "file": np.array(7),  # a name that numpy.savez could not store
    "rng": np.arange(3, dtype=np.uint64),
    "transposed": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"  # the name is taken as it is: no .npz is added
    save_npz(path, ARRAYS, {"classes": ["ä", "b"], "lr": 0.1})
    arrays, record = read_npz(path)
    assert record == {"format": 1, "classes": ["ä", "b"], "lr": 0.1}
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_numpy_reads_it_and_its_files_are_read(tmp_path: Path) -> None:
    save_npz(tmp_path / "ours.npz", ARRAYS)
    with np.load(tmp_path / "ours.npz") as loaded:
        np.testing.assert_array_equal(loaded["model/conv1.weight"], ARRAYS["model/conv1.weight"])
    np.savez_compressed(tmp_path / "theirs.npz", a=np.eye(2))
    arrays, record = read_npz(tmp_path / "theirs.npz")
    assert record is None
    np.testing.assert_array_equal(arrays["a"], np.eye(2))


def test_same_contents_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_npz(tmp_path / name, ARRAYS, {"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    save_npz(tmp_path / "a", ARRAYS)
    (tmp_path / "b").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes[0] == modes[1]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    save_npz(tmp_path / "real.npz", {"a": np.zeros(1)})
    (tmp_path / "link.npz").symlink_to("real.npz")
    save_npz(tmp_path / "link.npz", {"a": np.ones(1)})
    assert (tmp_path / "link.npz").is_symlink()
    assert read_npz(tmp_path / "real.npz")[0]["a"] == 1


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        save_npz(tmp_path / "a.npz", {"good": np.zeros(3), "bad": np.array([{}])})
    assert os.listdir(tmp_path) == []


def test_no_space_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, {"a": np.arange(3)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"a\.npz: cannot be written: "):
            save_npz(path, {"a": np.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_npz(tmp_path / "a.npz", ARRAYS)
    assert os.listdir(tmp_path) == []


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: there is no folder"):
        save_npz(tmp_path / "no" / "a.npz", ARRAYS)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_npz(tmp_path / "no" / "a.npz")


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_cut_short(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, ARRAYS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(UserError, match=r"a\.npz: not an \.npz file .*, or one cut short"):
        read_npz(path)


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, {"a": np.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"'a\.npy' is no readable array .*CRC"):
        read_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_everything_wrong_is_listed_together(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, pickled=np.array([{}], dtype=object), good=np.zeros(2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("good.npy", archive.read("good.npy"))
        archive.writestr("rubbish.npy", b"rubbish")
        archive.writestr("long.npy", archive.read("good.npy") + b"x")
    with pytest.raises(UserError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("'good.npy' is there 2 times", "'pickled.npy'", "'rubbish.npy'", "'long.npy'"):
        assert part in message


def test_another_kind_of_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/text", b"")
    with pytest.raises(UserError, match=r"no \.npz: it holds 1 entries like 'a/text'"):
        read_npz(tmp_path / "a.pth")


def test_a_zip_of_pytorch(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/data/0", b"")
    with pytest.raises(UserError, match=r"a\.pth: a PyTorch file where an \.npz is due"):
        read_npz(tmp_path / "a.pth")


def test_many_wrong_arrays_fit_into_a_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{f"a{i}": np.array([{}]) for i in range(100)})
    with pytest.raises(UserError, match=r"and 96 more$") as caught:
        read_npz(tmp_path / "a.npz")
    assert len(caught.value.details) == 100


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "does not say which format"),
        (b'{"format": 2}', "checkpoint format 2; this version reads format 1"),
    ],
)
def test_records_from_elsewhere(tmp_path: Path, record: bytes, message: str) -> None:
    np.savez(tmp_path / "a.npz", __record__=np.frombuffer(record, np.uint8))
    with pytest.raises(UserError, match=message):
        read_npz(tmp_path / "a.npz")
