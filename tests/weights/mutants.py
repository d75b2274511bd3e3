"""Mutants of weight files: `mutant(format, seed, number)`; the same three, the same bytes.

Each is made of a small valid file (seeds.py), a golden one, or one of the real ones where
RESNET_NP_TEST_DATA is set. What contains other things (a zip its entries, an entry its header, a
tar its members) is taken apart, changed inside, and put together again with correct sizes and
checksums, so that damage gets past the door; or it is changed from outside like any other bytes.
"""

import io
import json
import os
import random
import re
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from pickletools import genops, opcodes
from zipfile import ZipFile

import h5py
import numpy as np
import seeds
from seeds import Entry, make_zip

Files = dict[str, bytes]
"""The content of a folder, or of a single file under the name ""."""


def write(path: Path, files: Files) -> None:
    """Put a file, or a folder, in the place of what is there."""
    if "" in files:
        path.write_bytes(files[""])
        return
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)


# --- seeds ---------------------------------------------------------------------------------------

CANARY = "canary"
"""The file that some pickles among the seeds would touch in the current folder if they were run."""

TOUCH = f"touch {CANARY}".encode()
CANARIES = (
    b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(TOUCH)) + TOUCH + b"\x85R.",
    b"\x80\x02(S'" + TOUCH + b"'\nios\nsystem\n.",
)


@cache
def seeds_of(format: str) -> list[Files]:
    """The small files of a format, which take turns."""
    net = seeds.network()
    stem = {n: a for n, a in net.items() if not n.startswith("fc")}
    half = {n: a.astype(np.float16) for n, a in stem.items()}
    double = {n: a.astype(np.float64) for n, a in stem.items()}
    double["bn1.num_batches_tracked"] = np.array(7)
    match format:
        case "npz":
            made = [seeds.npz(net), seeds.npz(double, deflated=True), seeds.npz(half)]
        case "checkpoint":
            made = [seeds.checkpoint(net), seeds.checkpoint(double)]
        case "safetensors":
            made = [seeds.safetensors(net), seeds.safetensors(half, {"format": "pt"})]
        case "torch-zip":
            made = [seeds.torch_zip(net), seeds.torch_zip(double)]
            made += [seeds.torch_zip(net, state) for state in CANARIES]
            made += _golden("torch_files/small_zip.pth", "torch_files/zip.pth")
        case "torch-legacy":
            made = [seeds.torch_legacy(net), seeds.torch_legacy(half)]
            made += [seeds.torch_legacy(net, state) for state in CANARIES]
            made += _golden("torch_files/small_legacy.pth", "torch_files/legacy.pth")
        case "torch-tar":
            made = [seeds.torch_tar(net), seeds.torch_tar(double)]
            made += [seeds.torch_tar(net, state) for state in CANARIES]
            made += _golden("torch_files/tar.pth")
        case "keras-h5":
            made = [seeds.keras_legacy(), seeds.keras_legacy("model_weights")]
        case "keras-weights-h5":
            made = [seeds.keras_weights(), seeds.keras_weights(chunked=True)]
        case "keras-zip":
            made = [seeds.keras_zip()]
        case "huggingface":
            return [seeds.hugging_face()]
        case _:
            raise ValueError(f"no format {format!r}")
    return [{"": data} for data in made]


FORMATS = (
    "npz", "checkpoint", "safetensors", "torch-zip", "torch-legacy", "torch-tar", "huggingface",
    "keras-zip", "keras-h5", "keras-weights-h5",
)  # fmt: skip
IN_A_CHILD = ("keras-zip", "keras-h5", "keras-weights-h5")
"""Formats that hold HDF5, which is read in a child process."""

LARGE = {
    "npz": ("torch_ops.npz",),
    "checkpoint": ("checkpoint_format1.npz",),
    "torch-zip": ("resnet20_zip.pth",),
    "torch-legacy": ("resnet20-12fca82f.th",),
    "keras-h5": (
        "keras_legacy_top.h5", "mlperf_tiny_resnet8_keras24_model.h5",
        "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "keras-weights-h5": ("keras3_top.weights.h5", "keras3_nested_hidden.weights.h5"),
}  # fmt: skip
SHARE_OF_LARGE = 0.01


def _golden(*names: str) -> list[bytes]:
    return [(seeds.GOLDEN / name).read_bytes() for name in names]


@cache
def large_seeds_of(format: str) -> list[Files]:
    """Larger files: golden ones, and published ones where they are at hand."""
    folders = [seeds.GOLDEN]
    if "RESNET_NP_TEST_DATA" in os.environ:
        folders.append(Path(os.environ["RESNET_NP_TEST_DATA"]) / "formats")
    paths = [folder / name for name in LARGE.get(format, ()) for folder in folders]
    return [{"": path.read_bytes()} for path in paths if path.is_file()]


# --- mutants -------------------------------------------------------------------------------------


def mutant(format: str, seed: int, number: int) -> Files:
    """Mutant `number` of a format; number 0 is a seed as it is."""
    rng = random.Random(f"{format} {seed} {number}")
    small, large = seeds_of(format), large_seeds_of(format)
    if large and rng.random() < SHARE_OF_LARGE:
        files = dict(rng.choice(large))
    else:
        files = dict(small[number % len(small)])
    if number == 0:
        return files
    other = rng.choice(small)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            name = rng.choice(list(files))
            files[name] = mutate(rng, files[name], rng.choice(list(other.values())))
    return files


Mutator = Callable[[random.Random, bytes, bytes], bytes]
"""Takes the bytes to change, and other bytes of the same format to borrow from."""


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change some bytes by what they are, or just as bytes."""
    special = next((found for matches, found in KINDS if matches(data)), None)
    if special is not None and rng.random() < 0.6:
        try:
            return rng.choice(special)(rng, data, other)
        except Exception:  # damaged already, it cannot be taken apart
            pass
    return rng.choice(ANY)(rng, data, other)


# Any bytes.


def flip_bits(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        edge = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.choice(changed), rng.randrange(256)))
        changed[rng.randrange(len(changed))] = edge
    return bytes(changed)


def truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def insert(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, n = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 100, 5000))
    new = rng.choice((rng.randbytes(n), bytes(n), rng.randbytes(1) * n))
    return data[:at] + new + data[at:]


def delete(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, n = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 100, 1000))
    return data[:at] + data[at + n :]


def copy_block(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed, n = bytearray(data), rng.choice((1, 4, 16, 64, 512))
    source, target = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    changed[target : target + rng.choice((0, n))] = data[source : source + n]
    return bytes(changed)


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


EDGES = (0, 1, 2, -1, -2, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, *(
    n + d for n in (1 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 62, 1 << 63, 1 << 64) for d in (-1, 0)
))  # fmt: skip


def edge(rng: random.Random, near: int) -> int:
    """A number at which something may end; some are near to a given one."""
    around = (near - 1, near + 1, 2 * near, near // 2, -near, near + (1 << 32), rng.randrange(2000))
    return rng.choice(EDGES if rng.random() < 0.6 else around)


def edge_integer(rng: random.Random, data: bytes, other: bytes) -> bytes:
    width, order = rng.choice((2, 4, 4, 8, 8)), rng.choice(("little", "little", "big"))
    at = rng.randrange(max(len(data) - width, 0) + 1)
    near = rng.choice((int.from_bytes(data[at : at + width], order), len(data)))  # type: ignore[arg-type]
    value = edge(rng, near) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


NUMBER = re.compile(rb"\d+")


def ascii_number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A number in text: of a header, a tar, a name."""
    begin = rng.choice((0, rng.randrange(len(data) + 1)))
    found = list(NUMBER.finditer(data, begin, begin + 4096))
    if not found:
        return set_bytes(rng, data, other)
    hit = rng.choice(found)
    text = b"%d" % edge(rng, int(hit[0][:18]))
    if rng.random() < 0.5:  # where every byte has its place
        text = text[: len(hit[0])].rjust(len(hit[0]), b"0")
    return data[: hit.start()] + text + data[hit.end() :]


ANY: tuple[Mutator, ...] = (
    flip_bits, set_bytes, truncate, insert, delete, copy_block, splice, edge_integer, edge_integer,
    ascii_number,
)  # fmt: skip

# Text that a parser takes apart: JSON, and the header of an array.

TOKEN = re.compile(
    rb"""b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'|-?\d[\d.eE+-]*|true|false|null|True|False|None"""
    rb"""|[\[\](){},:]"""
)
STRANGE = (
    b"NaN", b"-Infinity", b"1e999", b"-0", b"0.5", b"1" * 5000, b"null", b"true", b"None", b"True",
    b"[]", b"{}", b"()", b"[[1]]", b'""', b"''", b'"\\u0000"', b'"\\ud800"', b'"\\n\\u001b[31m"',
    b"'\\n\\x1b[31m'", b"'O'", b"'|O'", b"'<f4'", b"'>f8'", b"'|V0'", b"'<U1000000000'",
    b"'<M8[ns]'",
    b"'|V2147483647'", b"[('a', '<f4')]", b'"F16"', b'"BF16"', b'"F8_E4M3"', b'"U64"', b'"BOOL"',
    b"[" * 3000, b'{"a":' * 3000, b"(" * 300, b"-" * 3000, b"1L", b"0x10", b"\xff", b"\0",
    b'"__metadata__"', b'"weights_only"', b"'descr'", b"1j", b"1" * 30,
    b"-1", b"9223372036854775808",
)  # fmt: skip


def change_token(rng: random.Random, data: bytes, other: bytes) -> bytes:
    begin = rng.choice((0, 0, rng.randrange(len(data) + 1)))
    found = list(TOKEN.finditer(data, begin, begin + 4096))
    if not found:
        return set_bytes(rng, data, other)
    hit, donor = rng.choice(found), rng.choice(found)
    match rng.randrange(4):
        case 0:
            text = rng.choice(STRANGE)
        case 1:
            text = donor[0]
        case 2:  # a run of tokens, once more or not at all
            run = data[min(hit.start(), donor.start()) : max(hit.end(), donor.end())]
            text = rng.choice((b"", run + run, run))
        case _ if hit[0].isdigit():
            text = b"%d" % edge(rng, int(hit[0][:18]))
        case _:
            text = b""
    return data[: hit.start()] + text + data[hit.end() :]


TEXT: tuple[Mutator, ...] = (change_token, ascii_number)


def inside_npy(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change the header of an array, and write its length anew."""
    version = data[6]
    at, width = (10, 2) if version == 1 else (12, 4)
    length = int.from_bytes(data[8:at], "little")
    header = rng.choice(TEXT)(rng, data[at : at + length], other)
    if rng.random() < 0.1:
        version = rng.choice((0, 1, 2, 3, 4, 255))
    size = min(len(header), (1 << 8 * width) - 1).to_bytes(width, "little")
    return b"\x93NUMPY" + bytes([version, data[7]]) + size + header + data[at + length :]


def inside_safetensors(rng: random.Random, data: bytes, other: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, numbers = data[8 : 8 + length], data[8 + length :]
    header = (swap_values if rng.random() < 0.3 else rng.choice(TEXT))(rng, header, other)
    return seeds.safetensors_of(header, numbers)


def swap_values(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """JSON of objects in an object: one gets a field of another, or another's name."""
    header = json.loads(data)
    a, b = rng.choice(list(header)), rng.choice(list(header))
    match rng.randrange(3):
        case 0:
            key = rng.choice(list(header[b]))
            header[a][key] = header[b][key]
        case 1:
            header[a], header[b] = header[b], header[a]
        case _:
            header[b + rng.choice(("", "x", "\n", "\x1b[2J"))] = header.pop(a)
    return json.dumps(header).encode()


# Pickles.

OPCODES = [op.code.encode("latin-1") for op in opcodes]
SNIPPETS = (
    *(canary[2:-1] for canary in CANARIES),
    b"cposix\nsystem\n", b"cbuiltins\neval\n", b"X\5\0\0\0posixX\6\0\0\0system\x93", b"\x82\1",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ctorch\nBFloat16Storage\n",
    b"ccollections\nOrderedDict\n", b"ccollections\ndefaultdict\n", b"ctorch\nSize\n", b")R", b"tR",
    b"}", b"]", b")", b"(", b"N", b"b", b"0", b"\x88", b"\x89", b"Q", b"u", b"s", b"e", b"a", b"2",
    b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x09" + b"\xff" * 8 + b"\0", b"K\0", b"h\0",
    b"r\xff\xff\xff\xff", b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f",
    b"\x95" + b"\xff" * 8,
    b"I01\n", b"L1L\n", b"F1e999\n", b"S'a'\n", b"Va\n", b"P1\n", b"I" + b"9" * 900 + b"\n",
)  # fmt: skip


def inside_pickle(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Swap, drop, repeat or add an instruction, or change what it has behind it."""
    places = instructions(data)
    i = rng.randrange(len(places) - 1)
    begin, end = places[i], places[i + 1]
    instruction = data[begin:end]
    match rng.randrange(6):
        case 0:
            instruction = rng.choice(OPCODES) + instruction[1:]
        case 1:
            instruction = b""
        case 2:
            instruction *= rng.choice((2, 3, 100))
        case 3:
            instruction += rng.choice(SNIPPETS)
        case 4:
            instruction = pickled_number(rng, data)
        case _:
            j = rng.randrange(len(places) - 1)
            instruction = data[places[j] : places[j + 1]]
    return data[:begin] + instruction + data[end:]


def pickled_number(rng: random.Random, data: bytes) -> bytes:
    return seeds.pickled(edge(rng, len(data)))[2:-1]


@lru_cache(64)
def instructions(data: bytes) -> list[int]:
    """Where the instructions of the pickles at the beginning of some bytes begin and end."""
    stream, places = io.BytesIO(data), [0]
    try:
        for _ in range(5):
            for _, _, _ in genops(stream):
                places.append(stream.tell())
    except ValueError:
        pass
    return places


# Tar.

TAR_FIELDS = (
    (0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (124, 12), (148, 8), (156, 1), (157, 100),
    (257, 8), (345, 155),
)  # fmt: skip


def inside_tar(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change a member, or a field of its header behind a correct checksum."""
    members = list(tar_members(data))
    at, size = rng.choice(members)
    if rng.random() < 0.5:
        begin, width = rng.choice(TAR_FIELDS)
        text = rng.choice((b"%o" % abs(edge(rng, size)), b"-1", b"0" * width, b"\xff" * width, b""))
        header = bytearray(data[at : at + 512])
        header[begin : begin + width] = text[:width].ljust(width, b"\0")
        if begin != 148:
            header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
        return data[:at] + bytes(header) + data[at + 512 :]
    named = {}
    for place, n in members:
        name = data[place : place + 100].rstrip(b"\0").decode("latin-1")
        named[name] = data[place + 512 : place + 512 + n]
    name = rng.choice(list(named))
    named[name] = mutate(rng, named[name], other[:1000])
    return seeds.make_tar(named)


def tar_members(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while data[at : at + 1] not in (b"", b"\0"):
        size = int(data[at + 124 : at + 136].strip(b" \0"), 8)
        yield at, size
        at += 512 + -(-size // 512) * 512


# Zip.

ZIP_HEADER = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)")
ZIP_FIELDS = {
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\1\2": (
        (4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2),
        (34, 2), (38, 4), (42, 4),
    ),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"PK\6\6": ((4, 8), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)),
    b"PK\6\7": ((4, 4), (8, 8), (16, 4)),
}  # fmt: skip


def zip_field(rng: random.Random, data: bytes, other: bytes) -> bytes:
    hit = rng.choice(list(ZIP_HEADER.finditer(data)))
    begin, width = rng.choice(ZIP_FIELDS[hit[0]])
    at = hit.start() + begin
    value = edge(rng, int.from_bytes(data[at : at + width], "little")) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


ENTRY_NAMES = (
    b"", b"/", b"../a", b"/etc/passwd", b"a\0b", b"\x1b[31m", b"\n", b"a" * 60_000, b"\xff\xfe",
    b"__record__.npy", b"data.pkl", b"a/data.pkl", b"a/constants.pkl", b"a/byteorder", b"a/data/0",
    b"b/data.pkl", b"config.json", b"model.weights.h5", b"metadata.json",
    b"model.weights.npz", b"x.npy",
    b"conv1.weight.npy", b"resnet_np.npy", b"a/resnet_np.json", b"\xe2\x80\xae.npy", b"a\\b.npy",
)  # fmt: skip
LIES = ("method", "flags", "crc", "packed", "size", "offset", "attributes")


def inside_zip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change an entry and put the zip together again."""
    entries = [Entry(*parts) for parts in zip_entries(data)]
    i = rng.randrange(len(entries))
    entry = entries[i]
    match rng.randrange(16):
        case 0:
            entries.pop(i)
        case 1:
            entries.insert(rng.randrange(len(entries)), Entry(entry.name, entry.content))
        case 2:
            entry.name = rng.choice((*ENTRY_NAMES, rng.choice(entries).name))
        case 3:
            rng.shuffle(entries)
        case 4:
            entry.deflated = not entry.deflated
        case 5 | 6:
            lie = rng.choice(("", "local ", "central ")) + rng.choice(LIES)
            entry.lies[lie] = edge(rng, len(entry.content))
        case 7:
            entry.content = rng.choice((b"", bytes(100_000), rng.choice(entries).content))
            entry.deflated = rng.random() < 0.5
        case 8:
            foreign = rng.choice(zip_entries(other))
            entries.append(Entry(*foreign))
        case 9:
            return rng.randbytes(rng.choice((1, 100))) + make_zip(entries)
        case 10:
            return make_zip(entries, comment=rng.choice((b"x" * 70_000, b"PK\5\6" * 6, b"a")))
        case _:
            entry.content = mutate(rng, entry.content, rng.choice(entries).content)
    return make_zip(entries)


@lru_cache(32)
def zip_entries(data: bytes) -> list[tuple[bytes, bytes, bool]]:
    with ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > 1 << 24:
            raise ValueError("too much to put together again")
        return [(i.filename.encode(), archive.read(i), i.compress_type != 0) for i in infos]


# HDF5.


def inside_hdf5(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change a name, an attribute or a dataset by the library itself."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        places: list[str] = []
        file.visit(places.append)
        place = rng.choice(places)
        rng.choice(HDF5_CHANGES)(rng, file, place, rng.choice(places))
    return buffer.getvalue()


def hdf5_attribute(rng: random.Random, file: h5py.File, place: str, other: str) -> None:
    owner = rng.choice((file, file[place], file[place].parent))
    name = rng.choice([*owner.attrs, "layer_names", "weight_names", "name"])
    value = rng.choice(HDF5_VALUES)
    if isinstance(value, str) and value == "delete":
        owner.attrs.pop(name)
    else:
        owner.attrs[name] = value


HDF5_VALUES: tuple[object, ...] = (
    "delete", 3, 0.5, "", "x", "../x", "/", "a\n\x1b[31m", b"\xff\xfe", h5py.Empty("f"),
    np.zeros((2, 2)), np.array([], "S1"), np.array([b"conv1_conv", b"conv1_conv"]),
    np.array([b"..", b"/", b"."]), np.zeros(3, [("a", "f4"), ("b", "S3")]), ["a" * 9000] * 3,
    np.array([1 << 62], np.uint64), np.bool_(True), np.array([b"conv1_conv/kernel:0"] * 50),
)  # fmt: skip


def hdf5_move(rng: random.Random, file: h5py.File, place: str, other: str) -> None:
    target = rng.choice((other + "/x", "layers", "vars", "model_weights", "optimizer", "7", "a\n"))
    file.move(place, target)


def hdf5_link(rng: random.Random, file: h5py.File, place: str, other: str) -> None:
    del file[place]
    link: object = rng.choice(
        (
            h5py.SoftLink("/" + other),
            h5py.SoftLink("/" + place),
            h5py.ExternalLink("/etc/passwd", "/"),
            h5py.ExternalLink("canary.h5", "/x"),
            file,
            file.get(other, file),
            np.dtype("f4"),
        )
    )
    file[place] = link


def hdf5_dataset(rng: random.Random, file: h5py.File, place: str, other: str) -> None:
    if isinstance(file[place], h5py.Group):
        place += "/0"
    if place in file:
        del file[place]
    match rng.randrange(6):
        case 0:
            file[place] = rng.choice(HDF5_VALUES[1:])
        case 1:  # announced, never written
            shape = rng.choice(((1 << 40,), (1 << 31, 4), (10_000, 10_000), (0,), (), (1,) * 32))
            options = {"chunks": True} if len(shape) == 2 else {}
            file.create_dataset(place, shape, rng.choice(("f4", "f8", "S10", "f2")), **options)
        case 2:  # packed a thousandfold
            file.create_dataset(place, data=np.zeros(1 << 20, "u1"), compression="gzip")
        case 3:
            text = h5py.string_dtype() if rng.random() < 0.5 else h5py.vlen_dtype("f4")
            file.create_dataset(place, (1000,), text)
        case 4:
            layout = h5py.VirtualLayout((100, 100), "f4")
            layout[0] = h5py.VirtualSource(rng.choice((".", "canary.h5")), "x", (100,))
            file.create_virtual_dataset(place, layout)
        case _:
            file.create_dataset(place, (4,), "f4", external=[("canary.raw", 0, 16)])


HDF5_CHANGES = (hdf5_attribute, hdf5_attribute, hdf5_move, hdf5_link, hdf5_dataset)

KINDS: tuple[tuple[Callable[[bytes], bool], tuple[Mutator, ...]], ...] = (
    (lambda data: data.startswith(b"PK\3\4"), (inside_zip, inside_zip, inside_zip, zip_field)),
    (lambda data: data.startswith(b"\x93NUMPY"), (inside_npy,)),
    (lambda data: data.startswith(b"\x89HDF\r\n"), (inside_hdf5,)),
    (lambda data: data[8:9] == b"{", (inside_safetensors,)),
    (lambda data: data[:2] in (b"\x80\2", b"\x80\4"), (inside_pickle,)),
    (lambda data: data[257:262] == b"ustar", (inside_tar,)),
    (lambda data: data.startswith(b"{"), TEXT),
)
