"""Files made to harm: nothing in them is run, little memory is used, one line says what is wrong.

What single modules guard against is tested with them; here every format meets `read` as it would
meet a user. Memory: 3 x the smaller of what a file declares and what it holds, and 16 MiB.
"""

import base64
import builtins
import copyreg
import functools
import io
import json
import marshal
import operator
import os
import pickle
import stat
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import seeds
from fuzzing import wrong_message
from mutants import IN_A_CHILD, Files, seeds_of, write, zip_entries
from seeds import Entry, make_zip, network, npy, safetensors_of, torch_legacy, torch_tar, torch_zip

from resnet_np.errors import UserError
from resnet_np.weights import read, read_torch

ALLOWANCE = 16 << 20


def refused(path: Path, content: bytes | Files, declared: int | None = None) -> str:
    """What is said of a file; it takes little memory to say so."""
    files = {"": content} if isinstance(content, bytes) else content
    write(path, files)
    held = sum(map(len, files.values()))
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * min(held, declared or held) + ALLOWANCE
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert wrong_message(message, path) is None
    assert os.listdir(path.parent) == [path.name]
    return message


# --- code ----------------------------------------------------------------------------------------


class Calls:
    """Unpickled by Python, this calls a function, which may be another of these."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call

    def __call__(self) -> None:
        """Pickle wants to see that it can be called."""


def canaries(touched: str) -> dict[str, bytes]:
    """Pickles that make the file `touched` if they are run."""
    shell, code = f"touch {touched}", f"open({touched!r}, 'w').close()"
    system = Calls(os.system, shell)
    module = Calls(builtins.__import__, "posix")
    calls: dict[str, Any] = {
        "os.system": system,
        "eval": Calls(builtins.eval, code),
        "exec": Calls(builtins.exec, code),
        "open": Calls(builtins.open, touched, "w"),
        "mkdir": Calls(os.mkdir, touched),
        "subprocess": Calls(subprocess.call, ["touch", touched]),
        "getattr": Calls(Calls(builtins.getattr, module, "system"), shell),
        "attrgetter": Calls(Calls(operator.attrgetter("system"), module), shell),
        "methodcaller": Calls(operator.methodcaller("system", shell), module),
        "partial": Calls(functools.partial(os.system, shell)),
        "map": Calls(list, Calls(map, os.system, [shell])),
        "pickled bytes": Calls(pickle.loads, pickle.dumps(system)),
        "in a state dict": {"state_dict": {"conv1.weight": system}},
        "as a name": {system: 1},
    }
    made = {f"{n} {p}": pickle.dumps(value, p) for n, value in calls.items() for p in (0, 2, 4)}
    argument = seeds.text(shell) + b"\x85"
    posix, name = seeds.text("posix"), seeds.text("system")
    return made | {
        "STACK_GLOBAL": b"\x80\4" + posix + name + b"\x93" + argument + b"R.",
        "dotted": b"\x80\4" + seeds.text("os") + seeds.text("path.os.system") + b"\x93"
        + argument + b"R.",
        "memo of names": b"\x80\4" + posix + b"q\0" + name + b"q\x0100h\0h\1\x93" + argument
        + b"R.",
        "memo of a global": b"\x80\2cposix\nsystem\nq\x050h\5" + argument + b"R.",
        "INST": b"\x80\2(" + seeds.text(shell) + b"iposix\nsystem\n.",
        "OBJ": b"\x80\2(cposix\nsystem\n" + seeds.text(shell) + b"o.",
        "EXT1": b"\x80\2\x82\xf0" + argument + b"R.",
        "EXT4": b"\x80\2\x84\xf0\0\0\0" + argument + b"R.",
        "BUILD": b"\x80\2ctypes\nSimpleNamespace\n)R}" + seeds.text("x") + b"cposix\nsystem\n"
        + argument + b"Rsb.",
        "in a persistent id": b"\x80\2(" + seeds.text("storage") + b"cposix\nsystem\n" + argument
        + b"RtQ.",
        "as text": b"(S" + repr(shell).encode() + b"\niposix\nsystem\n.",
    }  # fmt: skip


class Obliging(pickle.Unpickler):
    """Python's own, which runs what it is told."""

    def persistent_load(self, saved_id: Any) -> None:
        return None


def containers() -> dict[str, Callable[[bytes], bytes]]:
    net = network()
    return {
        "zip": lambda state: torch_zip(net, state),
        "legacy": lambda state: torch_legacy(net, state),
        "tar": lambda state: torch_tar(net, state),
        "bare": lambda state: state,
        "older Hugging Face": lambda state: torch_zip(net, state),
    }


@pytest.mark.parametrize("container", containers())
def test_pickles_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for name, canary in canaries("touched").items():
        content: bytes | Files = containers()[container](canary)
        if container == "older Hugging Face":
            config = seeds.hugging_face()["config.json"]
            content = {"config.json": config, "pytorch_model.bin": bytes(content)}
        refused(tmp_path / "here" / "a", content)
        if container != "older Hugging Face":
            with pytest.raises(UserError):
                read_torch(tmp_path / "here" / "a")
            (tmp_path / "here" / "a").unlink()
        else:
            (tmp_path / "here" / "a" / "pytorch_model.bin").unlink()
        assert os.listdir(tmp_path) == ["here"], name


def test_python_would_have_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("posix", "system", 0xF0)
    try:
        for name, canary in canaries("touched").items():
            result = Obliging(io.BytesIO(canary)).load()
            assert os.path.exists("touched"), name
            if hasattr(result, "close"):
                result.close()
            if os.path.isdir("touched"):
                os.rmdir("touched")
            else:
                os.remove("touched")
    finally:
        copyreg.remove_extension("posix", "system", 0xF0)


@pytest.mark.parametrize("entry", ["conv1.weight", "__record__", "resnet_np"])
def test_arrays_of_objects_are_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    buffer = io.BytesIO()
    objects = np.array([Calls(os.system, "touch touched")], dtype=object)
    np.savez(buffer, allow_pickle=True, **{entry: objects})
    assert "only a pickle" in refused(tmp_path / "here" / "a", buffer.getvalue())
    assert os.listdir(tmp_path) == ["here"]
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)[entry]
    assert sorted(os.listdir(tmp_path)) == ["here", "touched"]


def test_functions_in_a_keras_file_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    code = marshal.dumps(compile("open('touched', 'w').close()", "a", "exec"))
    function = {
        "class_name": "__lambda__",
        "config": {"code": base64.b64encode(code).decode(), "defaults": None, "closure": None},
    }
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": "os>system",
        "config": {"name": "conv1_bn", "function": function, "epsilon": 1e-3},
    }
    config = {"module": "os", "class_name": "system", "config": {"name": "a", "layers": [layer]}}
    for weights in (seeds.keras_weights(), b""):
        content = make_zip(
            [
                Entry(b"metadata.json", b"{}"),
                Entry(b"config.json", json.dumps(config).encode()),
                Entry(b"model.weights.h5", weights),
            ]
        )
        (tmp_path / "here" / "a").write_bytes(content)
        if weights:
            read(tmp_path / "here" / "a")
        else:
            refused(tmp_path / "here" / "a", content)
    assert os.listdir(tmp_path) == ["here"]
    exec(marshal.loads(code))  # it would have
    assert sorted(os.listdir(tmp_path)) == ["here", "touched"]


WRITERS: dict[str, Callable[[seeds.Arrays], bytes]] = {
    "npz": seeds.npz,
    "checkpoint": seeds.checkpoint,
    "safetensors": seeds.safetensors,
    "torch-zip": torch_zip,
    "torch-legacy": torch_legacy,
    "torch-tar": torch_tar,
}


# --- sizes ---------------------------------------------------------------------------------------


def quoted(count: int, kernel: bytes) -> bytes:
    """A zip whose every entry holds all that are behind it, headers included."""
    body, directory = kernel, []
    for i in range(count):
        name = b"%03d.npy" % i
        fields = (20, 0, 0, 0, 0x21, zlib.crc32(body), len(body), len(body), len(name), 0)
        directory.append((name, fields, len(body)))
        body = struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + name + body
    end = len(body)
    central = b"".join(
        struct.pack("<4sH5H3I2H", b"PK\1\2", 20, *fields)
        + struct.pack("<3H2I", 0, 0, 0, 0, end - behind - 30 - len(name)) + name
        for name, fields, behind in directory
    )  # fmt: skip
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(central), end, 0)
    return body + central + tail


def zeros(count: int) -> bytes:
    return npy(np.zeros(count, np.float32))


BOMBS: dict[str, tuple[bytes, str]] = {
    "deflated": (make_zip([Entry(b"conv1.weight.npy", zeros(1 << 24), True)]), "announces"),
    "of many entries": (
        make_zip([Entry(b"%d.npy" % i, zeros(1 << 18), True) for i in range(64)]),
        "announces",
    ),
    "quoted": (quoted(300, zeros(1 << 14)), "announces"),
    "in a zip": (
        make_zip([Entry(b"a.npy", make_zip([Entry(b"b.npy", zeros(1 << 20), True)]), True)]),
        "no readable array",
    ),
    "PyTorch's": (
        make_zip(
            [
                Entry(b"a/data.pkl", seeds.torch_pickle({"w": np.zeros(1 << 24, np.float32)})),
                Entry(b"a/data/0", bytes(1 << 26), True),
            ]
        ),
        "announces",
    ),
    "of pickle": (
        make_zip([Entry(b"a/data.pkl", b"\x80\2" + b"]" * (1 << 23), True)]),
        "announces",
    ),
    "Keras' description": (
        make_zip(
            [
                Entry(b"config.json", b'{"config": [' + b"[]," * (1 << 23) + b"0]}", True),
                Entry(b"model.weights.h5", seeds.keras_weights()),
            ]
        ),
        "announces",
    ),
    "Keras' weights": (
        make_zip([Entry(b"config.json", b"{}"), Entry(b"model.weights.h5", bytes(1 << 26), True)]),
        "announces",
    ),
    "its directory": (make_zip([Entry(b"%d.npy" % i, b"") for i in range(40_000)]), "directory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_zip_bombs(tmp_path: Path, name: str) -> None:
    content, message = BOMBS[name]
    assert message in refused(tmp_path / "a", content)


@pytest.mark.parametrize("lie", ["size", "packed", "local size", "local packed", "crc", "offset"])
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFE])
def test_zips_that_lie(tmp_path: Path, lie: str, value: int) -> None:
    entries = [Entry(f"{n}.npy".encode(), npy(a)) for n, a in network().items()]
    entries[2].lies[lie] = value
    if lie.startswith("local"):  # what stands in front of an entry is not asked
        (tmp_path / "a").write_bytes(make_zip(entries))
        read(tmp_path / "a")
    else:
        refused(tmp_path / "a", make_zip(entries))


def test_what_a_file_holds_beside_its_weights_is_not_loaded(tmp_path: Path) -> None:
    arrays, beside = network(), 40 << 20
    state = seeds.torch_pickle(arrays)
    entries = [Entry(b"a/data.pkl", state), Entry(b"a/data/99", bytes(beside))]
    entries += [Entry(b"a/data/%d" % i, a.tobytes()) for i, a in enumerate(arrays.values())]
    files = {"zip": make_zip(entries), "stream": torch_legacy(arrays) + bytes(beside)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < ALLOWANCE
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("format", ["npz", "safetensors", "torch-zip", "torch-legacy", "torch-tar"])
def test_one_large_tensor_takes_three_times_its_size_at_most(
    tmp_path: Path, format: str, dtype: str
) -> None:
    arrays = network()
    arrays["conv1.weight"] = np.zeros((2, 3, 1024, 1024), np.float32)
    typed = {name: array.astype(dtype) for name, array in arrays.items()}
    content = WRITERS[format](typed)
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    read(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(content) + (1 << 20)


def test_a_tensor_of_bfloat16_takes_no_more(tmp_path: Path) -> None:
    numbers = np.full((2, 3, 1024, 1024), 1.5, np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    arrays = network() | {"conv1.weight": halves.view(np.float16)}
    half, brain = b"ctorch\nHalfStorage", b"ctorch\nBFloat16Storage"
    content = torch_zip(arrays, seeds.torch_pickle(arrays).replace(half, brain))
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    file = read(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.arrays["conv1.weight"].dtype == np.float32
    assert (file.arrays["conv1.weight"] == 1.5).all()
    assert peak < 3 * len(content) + (1 << 20)


def test_views_of_the_same_16_bit_numbers_do_not_fill_the_memory(tmp_path: Path) -> None:
    arrays = {n: a.astype(np.float16) for n, a in network().items()}
    arrays["conv1.weight"] = np.zeros((2, 3, 512, 512), np.float16)
    one = seeds.torch_pickle({"conv1.weight": arrays["conv1.weight"]})
    again = one[one.index(b"X") : -2].replace(b"conv1.weight", b"conv2.weight")
    state = seeds.torch_pickle(arrays)
    content = torch_zip(arrays, state[:-2] + again + b"u.")
    assert "its tensors overlap" in refused(tmp_path / "a", content)


def one_tensor(**fields: Any) -> bytes:
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | fields
    return safetensors_of(json.dumps({"conv1.weight": tensor}).encode(), bytes(16))


def two_tensors(first: list[int], second: list[int]) -> bytes:
    header = {
        "conv1.weight": {"dtype": "F32", "shape": [2], "data_offsets": first},
        "bn1.weight": {"dtype": "F32", "shape": [2], "data_offsets": second},
    }
    return safetensors_of(json.dumps(header).encode(), bytes(16))


SAFETENSORS = {
    "overlap": two_tensors([0, 8], [4, 12]),
    "same place": two_tensors([0, 8], [0, 8]),
    "hole": two_tensors([0, 8], [12, 20]),
    "out of range": one_tensor(data_offsets=[8, 24]),
    "backwards": one_tensor(data_offsets=[16, 0]),
    "below zero": one_tensor(data_offsets=[-16, 0]),
    "far away": one_tensor(data_offsets=[1 << 62, (1 << 62) + 16]),
    "beyond": one_tensor(data_offsets=[1 << 64, (1 << 64) + 16]),
    "overflow": one_tensor(shape=[1 << 32, 1 << 32, 4]),
    "overflow to 16": one_tensor(shape=[(1 << 62) + 1, 4]),
    "much": one_tensor(shape=[1 << 40]),
    "none": one_tensor(shape=[0, 1 << 62]),
    "rank": one_tensor(shape=[4] + [1] * 1000),
    "negative": one_tensor(shape=[-2, -2]),
    "fraction": one_tensor(shape=[4.0]),
    "no shape": one_tensor(shape=None),
    "type": one_tensor(dtype="F31"),
    "type of 4 bits": one_tensor(dtype="F4", shape=[32]),
    "list": safetensors_of(b'[{"a": 1}]', b""),
    "long header": struct.pack("<Q", 1 << 63) + b"{",
    "nested": safetensors_of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""),
    "lists": safetensors_of(b'{"a":[' + b"[]," * 600_000 + b"1]}", b""),
    "twice": safetensors_of(
        one_tensor()[8:-16].replace(b"}}", b'}, "conv1.weight": {"dtype": "F32", "shape": [4],'
        b' "data_offsets": [0, 16]}}'),
        bytes(16),
    ),
    "metadata": safetensors_of(b'{"__metadata__": {"a": 1}}', b""),
    "no text": safetensors_of(b'{"\xff\xfe": 1}', b""),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_lie(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "a", SAFETENSORS[name])


def hdf5(fill: Callable[[h5py.Group], object]) -> bytes:
    buffer = io.BytesIO(seeds.keras_weights())
    with h5py.File(buffer, "r+") as file:
        fill(file["layers/conv2d/vars"])
    return buffer.getvalue()


def deep(group: h5py.Group) -> None:
    for _ in range(1000):
        group = group.create_group("a")


HDF5: dict[str, Callable[[h5py.Group], object]] = {
    "external link": lambda g: g.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")),
    "external numbers": lambda g: g.create_dataset("x", (4,), "f4", external="/etc/passwd"),
    "soft link": lambda g: g.__setitem__("x", h5py.SoftLink("/layers")),
    "loop": lambda g: g.__setitem__("x", g.file["layers"]),
    "huge": lambda g: g.create_dataset("x", (1 << 40,), "f4"),
    "huge chunks": lambda g: g.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 28,)),
    "overflow": lambda g: g.create_dataset("x", (1 << 32, 1 << 32), "f4", chunks=(1, 1)),
    "bomb": lambda g: g.create_dataset("x", data=np.zeros(1 << 24, "f4"), compression="gzip"),
    "deep": deep,
    "objects": lambda g: g.create_dataset("x", (9,), h5py.vlen_dtype("f4")),
    "references": lambda g: g.create_dataset("x", (9,), h5py.ref_dtype),
    "attribute": lambda g: g.attrs.__setitem__("name", ["a" * 9000] * 6),
    "escapes": lambda g: g.create_group("x\n\x1b[31m\u202e").create_dataset("y", (0,), "f4"),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_that_lies(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "a", hdf5(HDF5[name]))


# --- numbers and names ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", WRITERS)
def test_numbers_that_are_none(tmp_path: Path, format: str, number: float) -> None:
    arrays = network()
    arrays["bn1.running_var"][1] = number
    message = refused(tmp_path / "a", WRITERS[format](arrays))
    assert "values that are not finite: bn1.running_var" in message


def test_numbers_that_are_none_in_keras_files(tmp_path: Path) -> None:
    content = hdf5(lambda group: group["1"].__setitem__(0, np.nan))
    assert "values that are not finite: conv1.bias" in refused(tmp_path / "a", content)


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "\x1b[2J\x1b[31mOK", "a\0b", "a\r", "\u202egnp", "x" * 9999]
)
@pytest.mark.parametrize("format", WRITERS)
def test_names_cannot_steer_a_terminal(tmp_path: Path, format: str, name: str) -> None:
    arrays = {name: np.zeros(2, np.float32)} | network()
    refused(tmp_path / "a", WRITERS[format](arrays))


@pytest.mark.parametrize("format", ["npz", "torch-zip"])
def test_an_entry_that_is_a_link_is_no_link(tmp_path: Path, format: str) -> None:
    entries = [Entry(name, content) for name, content, _ in zip_entries(WRITERS[format](network()))]
    for entry in entries:
        entry.lies["attributes"] = (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "a").write_bytes(make_zip(entries))
    read(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]
    outside = [*entries, Entry(b"../../b.npy", npy(np.zeros(2)))]
    if format == "npz":
        refused(tmp_path / "a", make_zip(outside))


# --- cut short -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["npz", "safetensors", "huggingface"])
def test_cut_short(tmp_path: Path, format: str) -> None:
    """At every byte near both ends, where the descriptions are, and at some between them."""
    files = seeds_of(format)[0]
    for name, content in files.items():
        size = len(content)
        for n in sorted({*range(min(200, size)), *range(0, size, 97), *range(size)[-200:]}):
            write(tmp_path / "a", files | {name: content[:n]})
            with pytest.raises(UserError) as caught:
                read(tmp_path / "a")
            assert wrong_message(str(caught.value), tmp_path / "a") is None


@pytest.mark.parametrize("format", IN_A_CHILD)
def test_hdf5_cut_short(tmp_path: Path, format: str) -> None:
    content = seeds_of(format)[0][""]
    for n in (100, len(content) // 2):
        refused(tmp_path / "a", content[:n])
    refused(tmp_path / "a", content[:-1])
