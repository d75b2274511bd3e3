"""PyTorch's files: what PyTorch wrote is read to the bit, what would do harm does nothing."""

import builtins
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import message_of, our_layout, torchvision_arrays

from resnet_np.errors import UserError
from resnet_np.weights import read, read_torch
from resnet_np.weights.formats.torch_file import open_torch
from resnet_np.weights.formats.torch_pickle import Stream, load
from resnet_np.weights.formats.torch_stand_ins import Opaque, Storage, StoredTensor
from resnet_np.weights.formats.torch_state import to_arrays

FOLDER = Path(__file__).parents[1] / "golden" / "torch_files"
HASHES = json.loads((FOLDER / "hashes.json").read_text())
LAYOUTS = ("zip", "legacy", "tar")


def check_hashes(path: Path) -> None:
    arrays = read_torch(path)
    assert set(arrays) == set(HASHES[path.name])
    for name, array in arrays.items():
        found = [array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        assert found == HASHES[path.name][name], name


# --- what PyTorch wrote --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zip", "legacy", "tar", "small_zip", "small_legacy"])
def test_every_tensor(name: str) -> None:
    check_hashes(FOLDER / f"{name}.pth")
    assert name.endswith(open_torch(FOLDER / f"{name}.pth").layout)


@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "resnet20_zip.pth"])
def test_published_files(test_data: Path, name: str) -> None:
    check_hashes(test_data / "formats" / name)


def test_views_share_their_storage() -> None:
    arrays = read_torch(FOLDER / "zip.pth")
    whole, part, turned = arrays["whole"], arrays["part"], arrays["turned"]
    np.testing.assert_array_equal(whole, np.arange(24).reshape(4, 6))
    np.testing.assert_array_equal(part, whole[1:3, ::2])
    np.testing.assert_array_equal(turned, whole.T)
    assert np.shares_memory(whole, part)


def test_a_step_along_an_axis_of_one_number_is_never_taken() -> None:
    tensor = StoredTensor(Storage("0", "float32", 2), 0, (2, 1), (1, 1 << 62))
    array = to_arrays({"w": tensor}, {"0": np.array([3, 4], np.float32)})["w"]
    assert array.tolist() == [[3], [4]]


def test_training_checkpoint() -> None:
    check_hashes(FOLDER / "checkpoint.pth")
    file = open_torch(FOLDER / "checkpoint.pth")
    assert set(file.left_out) == {"epoch", "arch", "best", "optimizer", "lr"}


# --- files made by hand --------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def tensor(
    key: str, count: int, offset: int = 0, size: tuple[int, ...] = (), stride: tuple[int, ...] = (),
    kind: bytes = b"ctorch\nFloatStorage\n",
) -> bytes:  # fmt: skip
    """Instructions for a tensor of a storage in a zip."""
    storage = tuple_of(text("storage"), kind, text(key), text("cpu"), integer(count)) + b"Q"
    sizes, strides = tuple_of(*map(integer, size)), tuple_of(*map(integer, stride))
    parts = (storage, integer(offset), sizes, strides, b"\x89", b"N")
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_of(*parts) + b"R"


def state_dict(**tensors: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(n) + t for n, t in tensors.items()) + b"u."


def write_zip(path: Path, pickled: bytes, *more: tuple[str, bytes], method: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (("data.pkl", pickled), *more):
            archive.writestr(f"archive/{name}", data)
    return path


def write_state(path: Path, arrays: dict[str, np.ndarray], prefix: str = "") -> Path:
    """A zip of float32 arrays, as torch.save lays it out."""
    tensors, entries = {}, []
    for i, (name, array) in enumerate(arrays.items()):
        strides = tuple(s // 4 for s in array.strides)
        tensors[prefix + name] = tensor(str(i), array.size, 0, array.shape, strides)
        entries.append((f"data/{i}", array.tobytes()))
    return write_zip(path, state_dict(**tensors), *entries)


FOUR = ("data/0", np.arange(4, dtype="<f4").tobytes())


def test_a_file_by_hand(tmp_path: Path) -> None:
    pickled = state_dict(a=tensor("0", 4, 1, (3,), (1,)), b=tensor("0", 4, 2))
    arrays = read_torch(write_zip(tmp_path / "a", pickled, FOUR, ("byteorder", b"little")))
    np.testing.assert_array_equal(arrays["a"], np.float32([1, 2, 3]))
    assert arrays["b"].shape == () and arrays["b"] == 2
    deflated = write_zip(tmp_path / "b", pickled, FOUR, method=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read_torch(deflated)["a"], arrays["a"])


def test_big_endian(tmp_path: Path) -> None:
    numbers = ("data/0", np.arange(4, dtype=">f4").tobytes())
    pickled = state_dict(a=tensor("0", 4, 0, (4,), (1,)))
    arrays = read_torch(write_zip(tmp_path / "a", pickled, numbers, ("byteorder", b"big")))
    np.testing.assert_array_equal(arrays["a"], np.float32([0, 1, 2, 3]))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "module.backbone."])
def test_a_network(tmp_path: Path, prefix: str) -> None:
    arrays = torchvision_arrays()
    file = read(write_state(tmp_path / "a.npz", arrays, prefix))
    assert (file.format, file.source, file.bn_eps) == ("pytorch-zip", "torchvision", 1e-5)
    assert set(file.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)


def test_what_lies_beside_a_network(tmp_path: Path) -> None:
    arrays = {f"backbone.{name}": a for name, a in torchvision_arrays().items()}
    arrays["decoder.conv.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    file = read(write_state(tmp_path / "a", arrays))
    assert file.left_out == {"decoder.conv.weight": "lies outside of the network under 'backbone.'"}


BFLOAT = b"ctorch\nBFloat16Storage\n"
WRONG: dict[str, tuple[bytes, str]] = {
    "offset": (tensor("0", 4, 4), "reaches to number 4 of a storage of 4"),
    "stride": (tensor("0", 4, 0, (2, 2), (3, 1)), "reaches to number 4 of a storage of 4"),
    "negative": (tensor("0", 4, 3, (2,), (-1,)), "no number from 0"),
    "below": (tensor("0", 4, -1), "no number from 0"),
    "expanded": (tensor("0", 4, 0, (1 << 40,), (0,)), "makes 1099511627776 numbers"),
    "huge": (tensor("0", 4, 0, (1 << 62, 1 << 62), (1 << 62, 1)), "reaches to number"),
    "beyond": (tensor("0", 4, 1 << 70), "no number from 0"),
    "empty": (tensor("0", 4, 0, (0, 1 << 62, 8), (1, 1, 1)), "tensor 'a'"),
    "rank": (tensor("0", 4, 0, (1,) * 65, (1,) * 65), "65 sizes"),
    "uneven": (tensor("0", 4, 0, (1, 1), (1,)), "2 sizes and 1 strides"),
    "lies": (tensor("0", 5), "'archive/data/0' has 16 bytes where 5 numbers of float32"),
    "lies more": (tensor("0", 1 << 60), "'archive/data/0' has 16 bytes where"),
    "other type": (tensor("0", 4, kind=BFLOAT), "'archive/data/0' has 16 bytes where 4 numbers"),
    "missing": (tensor("1", 4), "'archive/data/1' is missing"),
    "two sizes": (tensor("0", 4) + b"0" + tensor("0", 3), "two types or sizes"),
    "storage": (text("x") + b"Q", "refers to something that is no storage"),
    "no tensor": (b"N", "it holds no tensors"),
    "bad call": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "a tensor is made of"),
    "call of a text": (text("x") + b")R", "calls what cannot be called"),
    "a long text": (b"X\xff\xff\xff\xffabc", "expected 4294967295 bytes"),
    "escapes": (b"S'\\g'\n", "a text with escapes"),
    "memo": (b"Nr\xff\xff\xff\x7f", "it holds no tensors"),
    "no memo": (b"h\x07", "fetches a value that was not kept"),
    "stack": (b"0" * 9, "empty stack"),
    "mark": (b"ttt", "mark that was not set"),
    "unknown": (b"\xff", "opcode b'\\xff' unknown"),
    "bytearray": (b"\x96" + struct.pack("<Q", 1 << 40), "bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_sizes_that_lie(tmp_path: Path, name: str) -> None:
    instructions, message = WRONG[name]
    path = write_zip(tmp_path / "a", state_dict(a=instructions), FOUR)
    tracemalloc.start()
    try:
        found = message_of(path, read_torch)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert message in found


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_zips(tmp_path: Path) -> None:
    good = state_dict(a=tensor("0", 4, 0, (4,), (1,)))
    assert "TorchScript" in message_of(
        write_zip(tmp_path / "a", good, FOUR, ("constants.pkl", b"")), read_torch
    )
    assert "two entries of one name" in message_of(
        write_zip(tmp_path / "b", good, FOUR, FOUR), read_torch
    )
    strange = write_zip(tmp_path / "c", good, FOUR, ("byteorder", b"middle"))
    assert "neither little nor big" in message_of(strange, read_torch)
    lzma = write_zip(tmp_path / "d", good, FOUR, method=zipfile.ZIP_LZMA)
    assert "compression other than deflate" in message_of(lzma, read_torch)
    second = write_zip(tmp_path / "e", good, FOUR, ("more/data.pkl", good))
    assert "2 entries named data.pkl" in message_of(second, read_torch)


def test_a_zip_bomb(tmp_path: Path) -> None:
    zeros = ("data/0", bytes(4 << 20))
    good = state_dict(a=tensor("0", 1 << 20, 0, (1 << 20,), (1,)))
    path = write_zip(tmp_path / "a", good, zeros, method=zipfile.ZIP_DEFLATED)
    assert "that announces 4194" in message_of(path, read_torch)


def test_many_views_of_one_storage_do_not_fill_the_memory(tmp_path: Path) -> None:
    entry = ("data/0", bytes(40_000))
    view = tensor("0", 10_000, 0, (100, 100), (1, 1))
    path = write_zip(tmp_path / "a", state_dict(**{f"t{i}": view for i in range(100)}), entry)
    assert len(read_torch(path)) == 100  # views cost nothing
    with pytest.raises(UserError, match="its tensors overlap"):
        read(path)


def test_types_numpy_lacks(tmp_path: Path) -> None:
    float8 = tensor("0", 4).replace(b"_v2", b"_v3")[:-2] + b"ctorch\nfloat8_e5m2\ntR"
    assert "'torch.float8_e5m2'" in message_of(
        write_zip(tmp_path / "a", state_dict(a=float8)), read_torch
    )


# --- pickles that would do something -------------------------------------------------------------


class Runs:
    """Unpickled by Python, this calls a function; the canary says whether it did."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def canaries(path: Path) -> dict[str, bytes]:
    touch, code = f"touch {path}", f"open({str(path)!r}, 'w').close()"
    calls = {
        "system": Runs(os.system, touch),
        "eval": Runs(builtins.eval, code),
        "exec": Runs(builtins.exec, code),
        "open": Runs(builtins.open, str(path), "w"),
        "mkdir": Runs(os.mkdir, str(path)),
        "nested": {"a": [({"b": Runs(os.system, touch)},)]},
        "as argument": Runs(dict, [("a", Runs(os.system, touch))]),
    }
    by_protocol = {
        f"{name} {protocol}": pickle.dumps(value, protocol)
        for name, value in calls.items()
        for protocol in (0, 2, 3, 4, 5)
    }
    quoted = repr(str(path)).encode()
    by_hand = {
        "torch.load": b"ctorch.serialization\nload\n",
        "torch.hub": b"ctorch.hub\nload_state_dict_from_url\n",
        "a loader": b"ctorch.storage\n_load_from_bytes\n",
        "dotted": b"ctorch\nserialization.load\n",
        "dotted table": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n",
        "importlib": b"cimportlib\nimport_module\n",
        "dunder": b"ccollections\nOrderedDict.__init__\n",
        "extension": b"\x82\x01",
    }
    calls_by_hand = {n: b"\x80\x02" + g + text(str(path)) + b"\x85R." for n, g in by_hand.items()}
    inst = {
        "INST": b"\x80\x02(S" + repr(touch).encode() + b"\nios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\nS" + quoted + b"\no.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\n)}\x92.",
        "BUILD": b"\x80\x02ccollections\nOrderedDict\n}X\x08\0\0\0__init__cos\nsystem\nsb.",
    }
    return by_protocol | calls_by_hand | inst


def wrapped(canary: bytes, layout: str) -> bytes:
    """A file of PyTorch's that has the canary where the object is due."""
    if layout == "tar":
        whole = bytearray((FOLDER / "tar.pth").read_bytes())
        at = whole.index(b"\x80\x02", whole.index(b"pickle\0"))
        whole[at : at + len(canary)] = canary
        return bytes(whole)
    if layout == "legacy":
        whole = bytearray((FOLDER / "legacy.pth").read_bytes())
        stream = io.BytesIO(whole)
        for _ in range(3):
            pickle.load(stream)
        return bytes(whole[: stream.tell()]) + canary
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", canary)
    return buffer.getvalue()


@pytest.mark.parametrize("layout", [*LAYOUTS, "bare"])
def test_canaries(tmp_path: Path, layout: str) -> None:
    path, victim = tmp_path / "a.pth", tmp_path / "touched"
    for name, canary in canaries(victim).items():
        path.write_bytes(canary if layout == "bare" else wrapped(canary, layout))
        message_of(path, read_torch)
        with pytest.raises(UserError):
            read(path)
        assert not victim.exists(), name


def test_the_canaries_are_alive(tmp_path: Path) -> None:
    """Python's own unpickler does what they say: else their silence would prove nothing."""
    for name in ("system 2", "exec 4", "nested 5", "INST"):
        victim = tmp_path / name.replace(" ", "_")
        pickle.loads(canaries(victim)[name])
        assert victim.exists()


def test_the_message_names_place_and_culprit(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.pth", b"\x80\x02}" + b"cposix\nsystem\n.")
    message = message_of(path, read_torch)
    assert "'archive/data.pkl': pickle, byte 3: asks for 'posix.system'" in message


def test_nothing_nested_is_walked() -> None:
    """Python's own machine would hash 2**60 tuples, or run out of stack."""
    twice = b")q\x000" + b"h\0h\0\x86q\x000" * 60 + b"h\0"
    deep = b"]" * 40_000 + b"a" * 39_999
    begin = time.monotonic()
    as_key = load_bytes(b"\x80\x02}" + twice + b"Ns.")
    assert [type(key) for key in as_key] == [Opaque]
    load_bytes(b"\x80\x02\x8f(" + twice + b"\x90.")
    load_bytes(b"\x80\x02" + deep + b".")
    with pytest.raises(ValueError, match="refers to something outside"):
        load_bytes(b"\x80\x02" + twice + b"Q.")
    assert time.monotonic() - begin < 30  # of a time without end
    with pytest.raises(ValueError, match="too long"):
        load_bytes(b"\x80\x02" + b"]" * 500_000 + b".")


def load_bytes(data: bytes) -> Any:
    return load(Stream(io.BytesIO(data), len(data)))


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small_zip", "small_legacy", "tar"])
def test_cut_short_at_every_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pth"
    shutil.copy(FOLDER / f"{name}.pth", path)
    for n in reversed(range(path.stat().st_size)):
        os.truncate(path, n)
        for reader in (read_torch, read):
            with pytest.raises(UserError, match=r"a\.pth: .*\S"):
                reader(path)


@pytest.mark.parametrize("name", [*LAYOUTS, "checkpoint"])
@settings(max_examples=150)
@given(data=st.data())
def test_changed_bytes(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Arrays or one clear error, and never anything else."""
    changed = bytearray((FOLDER / f"{name}.pth").read_bytes())
    change(changed, data)
    path = tmp_path_factory.getbasetemp() / "changed.pth"
    path.write_bytes(changed)
    arrays_or_one_line(path)


@pytest.mark.parametrize("name", ["zip", "checkpoint"])
@settings(max_examples=150)
@given(data=st.data())
def test_changed_pickles(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """The same behind the checksums of a zip, which notice most other changes."""
    path = tmp_path_factory.getbasetemp() / "pickle.pth"
    with (
        zipfile.ZipFile(FOLDER / f"{name}.pth") as whole,
        zipfile.ZipFile(path, "w") as changed,
    ):
        for entry in whole.namelist():
            content = bytearray(whole.read(entry))
            if entry.endswith("/data.pkl"):
                change(content, data)
            changed.writestr(entry, content)
    arrays_or_one_line(path)


def change(content: bytearray, data: st.DataObject) -> None:
    """Other values for some bytes, mostly one of another instruction or a small number."""
    places = st.integers(0, len(content) - 1)
    values = st.one_of(st.sampled_from(content), st.integers(0, 255))
    for place, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=8)):
        content[place] = value


def arrays_or_one_line(path: Path) -> None:
    for reader in (read_torch, read):
        try:
            reader(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
