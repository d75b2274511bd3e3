"""PyTorch's files, `.pth` and `.pt`, in their three layouts: a zip, a bare stream, a tar.

All three hold a pickle (torch_pickle.py) that describes tensors, and the numbers outside of it:

    zip (since 1.6)   <root>/data.pkl and, for each storage, <root>/data/<key>
    stream (before)   pickles one behind the other, then for each storage a count and its numbers
    tar (0.1)         torch_tar.py

Source: torch/serialization.py of PyTorch, which reads all three.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.formats import torch_tar
from resnet_np.weights.formats.torch_pickle import Stream, load
from resnet_np.weights.formats.torch_stand_ins import Storage, StorageType
from resnet_np.weights.formats.torch_state import Buffers, StateDict, find_state_dict, to_arrays
from resnet_np.weights.formats.zip_entries import open_zip

MAGIC = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001
FACTS = "resnet_np.json"
"""What torch_writing.py's files have beside the tensors."""
DAMAGE = (ValueError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class TorchFile:
    """The tensors of a PyTorch file under the names and in the layout they have there.

    layout: "zip", "legacy" or "tar".
    arrays: as stored. They may share memory where the file's tensors do.
    left_out: what else is in the file, each with the reason.
    held: bytes of numbers that were read.
    facts: the text that our own writer puts beside the tensors, or None.
    """

    layout: str
    arrays: dict[str, np.ndarray]
    left_out: dict[str, str]
    held: int
    facts: bytes | None


def read_torch(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The state dict in a PyTorch file: {name: array}, convolutions [K, C, R, S].

    bfloat16, which NumPy lacks, is widened to float32. Nothing of the file is run.
    Raises UserError as `open_torch` does.
    """
    arrays = open_torch(path).arrays
    return {n: a.astype("f4") if a.dtype.name == "bfloat16" else a for n, a in arrays.items()}


def open_torch(path: str | os.PathLike[str]) -> TorchFile:
    """Read a PyTorch file of any of the three layouts.

    Raises UserError, naming the file and the place in it: cut short or damaged, TorchScript, a
    pickle that asks for more than tensors, tensors outside of their storages, types NumPy lacks.
    """
    try:
        with open(path, "rb") as file:
            stream = Stream(file, os.fstat(file.fileno()).st_size)
            head = file.read(512)
            file.seek(0)
            facts = None
            if head.startswith(b"PK"):
                layout, (state, buffers, facts) = "zip", _read_zip(stream)
            elif torch_tar.is_tar(head):
                layout, (state, buffers) = "tar", torch_tar.read(stream)
            else:
                layout, (state, buffers) = "legacy", _read_stream(stream)
        held = sum(buffer.nbytes for buffer in buffers.values())
        return TorchFile(layout, to_arrays(state.tensors, buffers), state.left_out, held, facts)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise UserError(
            f"{path}: a PyTorch file, not readable: {str(error) or 'cut short'}"
        ) from error


def is_torch_zip(path: str | os.PathLike[str]) -> bool:
    """Whether a zip is PyTorch's; False, too, if it cannot be read."""
    try:
        with open(path, "rb") as file, open_zip(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, *DAMAGE):
        return False


class _Storages:
    """Turns the persistent ids of a pickle into storages, and keeps them by key."""

    def __init__(self) -> None:
        self.by_key: dict[str | int, Storage] = {}

    def persistent_load(self, saved_id: Any) -> Storage:
        """("storage", type, key, location, count), in a stream one more: a view of it, or None."""
        match saved_id:
            case ("storage", StorageType(dtype), str() as key, str(), int() as count, *rest):
                storage = self.by_key.setdefault(key, Storage(key, dtype, count))
            case _:
                raise ValueError("refers to something that is no storage")
        if (storage.dtype, storage.count) != (dtype, count) or count < 0:
            raise ValueError(f"storage {key[:40]!r} has two types or sizes, or one below zero")
        match rest:
            case [] | [None]:
                return storage
            case [(_, int() as start, int() as size)] if 0 <= start <= start + size <= count:
                return Storage(key, dtype, size, start)
        raise ValueError(f"storage {key[:40]!r} has a view outside of it")


# --- zip -----------------------------------------------------------------------------------------


def _read_zip(stream: Stream) -> tuple[StateDict, Buffers, bytes | None]:
    with open_zip(stream.file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ValueError("a zip with two entries of one name")
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{len(roots)} entries named data.pkl, where one is due")
        root = roots[0]
        if f"{root}constants.pkl" in entries:
            raise ValueError(
                "it is TorchScript, a program; save model.state_dict() with torch.save instead"
            )
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"{root + 'byteorder'!r} is neither little nor big")
        storages = _Storages()
        pickled = archive.read(f"{root}data.pkl")
        try:
            source = Stream(BytesIO(pickled), len(pickled))
            saved = load(source, storages.persistent_load, stream.end)
        except ValueError as error:
            raise ValueError(f"{root + 'data.pkl'!r}: {error}") from error
        state = find_state_dict(saved)
        buffers: Buffers = {}
        for key in _keys(state):
            name, storage = f"{root}data/{key}", storages.by_key[key]
            if name not in entries:
                raise ValueError(f"{name!r} is missing")
            buffers[key] = _read_storage(archive, entries[name], storage, order == b"big")
        found = [name for name in entries if name.endswith(f"/{FACTS}")]
        facts = archive.read(found[0]) if found else None
    return state, buffers, facts


def _read_storage(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, storage: Storage, big_endian: bool
) -> np.ndarray:
    dtype = _stored_type(storage.dtype)
    if info.file_size != storage.count * np.dtype(dtype).itemsize:
        raise ValueError(
            f"{info.filename!r} has {info.file_size} bytes where {storage.count} numbers of"
            f" {storage.dtype} are due"
        )
    with archive.open(info) as entry:
        array = Stream(entry, info.file_size).numbers(dtype, storage.count)
        entry.read(1)  # only behind the last byte is the checksum compared
    return array.byteswap(inplace=True) if big_endian else array


# --- stream --------------------------------------------------------------------------------------


def _read_stream(stream: Stream) -> tuple[StateDict, Buffers]:
    if load(stream) != MAGIC:
        raise ValueError("a pickle, but none of torch.save: its first number is another one")
    if load(stream) != STREAM_VERSION:
        raise ValueError(f"its version is not {STREAM_VERSION}")
    load(stream)  # about the machine that wrote it; numbers are little-endian on all of them
    storages = _Storages()
    state = find_state_dict(load(stream, storages.persistent_load, stream.end))
    wanted = set(_keys(state))
    buffers: Buffers = {}
    keys = load(stream)
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in storages.by_key or key in buffers:
            raise ValueError(f"byte {stream.tell()}: numbers of an unknown or repeated storage")
        storage = storages.by_key[key]
        dtype = _stored_type(storage.dtype)
        count = int(stream.numbers("int64", 1)[0])
        if count != storage.count:
            raise ValueError(
                f"byte {stream.tell()}: storage {key[:40]!r} has {count} numbers where"
                f" {storage.count} are due"
            )
        if key in wanted:
            buffers[key] = stream.numbers(dtype, count)
        else:
            stream.skip(count * np.dtype(dtype).itemsize)
    if missing := wanted - set(buffers):
        raise ValueError(f"storage {min(missing)[:40]!r} is missing")
    return state, buffers


def _keys(state: StateDict) -> Iterable[str]:
    """Keys of the storages that a state dict's tensors lie in, each once."""
    tensors = state.tensors.values()
    return dict.fromkeys(str(t.storage.key) for t in tensors if t.storage is not None)


def _stored_type(dtype: str) -> str:
    """NumPy's type for the bytes of a storage: bfloat16 is widened later."""
    return "uint16" if dtype == "bfloat16" else dtype
