"""Write a state dict as `torch.save` does, without PyTorch.

The file is a zip, uncompressed:

    archive/data.pkl        a pickle: names, and for each a tensor of a storage
    archive/byteorder       little
    archive/data/0, 1, ...  the storages: the numbers of one tensor each
    archive/version         3

Numbers start at multiples of 64 bytes, as PyTorch places them, so that a file can be mapped into
memory. The pickle is put together here from the few instructions that it takes; see
torch_pickle.py for what they do.
"""

import math
import zipfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np

from resnet_np.weights.formats.torch_stand_ins import STORAGES

ROOT = "archive"
ALIGNMENT = 64
LOCAL_HEADER = 30  # bytes of a zip entry in front of its name
PADDING = b"FB"  # the kind of extra field that PyTorch fills

# Instructions of pickle, protocol 2.
PROTOCOL, STOP = b"\x80\x02", b"."
MARK, TUPLE, EMPTY_TUPLE = b"(", b"t", b")"
REDUCE, PERSISTENT_ID, SET_ITEMS, FALSE = b"R", b"Q", b"u", b"\x89"
DICT = b"ccollections\nOrderedDict\n" + EMPTY_TUPLE + REDUCE
REBUILD_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"

_STORAGE = {dtype: name for name, dtype in STORAGES.items()}


def write_state_dict(
    file: BinaryIO, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]
) -> None:
    """Write arrays in C order; texts become entries of their own, which PyTorch does not look at.

    Same contents, same bytes.
    """
    with zipfile.ZipFile(file, "w") as archive:
        _put(archive, "data.pkl", state_dict_pickle(arrays))
        _put(archive, "byteorder", b"little")
        for name, text in texts.items():
            _put(archive, name, text.encode())
        for key, array in enumerate(arrays.values()):
            numbers = array.astype(array.dtype.newbyteorder("<"), copy=False)
            _put(archive, f"data/{key}", numbers.reshape(-1).view(np.uint8).data)
        _put(archive, "version", b"3\n")


def _put(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    # A ZipInfo made by hand carries no clock time, so equal contents give equal bytes.
    info = zipfile.ZipInfo(f"{ROOT}/{name}")
    begin = archive.start_dir + LOCAL_HEADER + len(info.filename) + len(PADDING) + 2
    n = -begin % ALIGNMENT
    info.extra = PADDING + n.to_bytes(2, "little") + b"Z" * n
    archive.writestr(info, data)


def state_dict_pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An OrderedDict of tensors; tensor i lies in storage i."""
    items = b"".join(
        _text(name) + _tensor(i, array) for i, (name, array) in enumerate(arrays.items())
    )
    return PROTOCOL + DICT + MARK + items + SET_ITEMS + STOP


def _tensor(key: int, array: np.ndarray) -> bytes:
    """_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    kind = f"ctorch\n{_STORAGE[array.dtype.name]}Storage\n".encode()
    storage = _tuple([_text("storage"), kind, _text(str(key)), _text("cpu"), _int(array.size)])
    strides = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
    size, stride = _tuple(map(_int, array.shape)), _tuple(map(_int, strides))
    arguments = _tuple([storage + PERSISTENT_ID, _int(0), size, stride, FALSE, DICT])
    return REBUILD_TENSOR + arguments + REDUCE


def _tuple(parts: Iterable[bytes]) -> bytes:
    return MARK + b"".join(parts) + TUPLE


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _int(n: int) -> bytes:
    """LONG1: a length, and as many bytes in two's complement."""
    encoded = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded
