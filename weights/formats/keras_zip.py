"""Keras' `.keras`: a zip of metadata.json, config.json and the weights, an HDF5 file.

config.json describes the model, so that here the epsilon of its batch norms is known, and the names
of its layers, which the weights of older versions do not carry.
"""

import struct
import zipfile
import zlib
from collections import Counter
from typing import BinaryIO

from resnet_np.errors import UserError
from resnet_np.weights.file import Found
from resnet_np.weights.formats import hdf5, keras
from resnet_np.weights.formats.zip_entries import open_zip

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
PICKLED = "model.weights.npz"
SMALL = 1 << 20
"""Deflated weights may be half as large again as they are in the zip, and small ones so large. A
description of a ResNet-152 takes half of it."""

DAMAGE = (EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, zlib.error)


def is_keras_zip(path: str) -> bool:
    """Whether a zip is a `.keras`; False, too, if it is damaged."""
    try:
        with open(path, "rb") as file:
            there = set(open_zip(file).namelist())
    except (OSError, zipfile.BadZipFile, *DAMAGE):
        return False
    return CONFIG in there and bool(there & {WEIGHTS, PICKLED})


def from_keras_zip(path: str) -> Found:
    """Read a `.keras` with a ResNet-50, 101 or 152 (v1) in it, alone or nested."""
    try:
        with open(path, "rb") as file:
            archive = open_zip(file)
            config = _read_config(archive)
            part = _find_weights(archive, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, *DAMAGE) as error:
        reason = str(error) or "cut short"  # which zipfile leaves to be guessed
        raise UserError(f"{path}: a .keras file, not readable: {reason}") from error
    found = keras.find(path, hdf5.dump(path, part, skip=keras.OPTIMIZER), config)
    found.format = "keras-zip"
    return found


def _read_config(archive: zipfile.ZipFile) -> bytes:
    counts = Counter(archive.namelist())
    for name in (CONFIG, WEIGHTS):
        if counts[name] > 1:
            raise ValueError(f"{name!r} is there {counts[name]} times")
    if not counts[WEIGHTS]:
        raise ValueError(
            f"its weights are {PICKLED!r}, a pickle of Python objects that only running it would"
            " open; save it again with Keras' own choice of format"
        )
    if archive.getinfo(CONFIG).file_size > SMALL:
        raise ValueError(f"{CONFIG!r} is longer than any description of a model")
    return archive.read(CONFIG)


def _find_weights(archive: zipfile.ZipFile, file: BinaryIO) -> hdf5.Part:
    """Where the weights lie in the zip, after they have been compared with their checksum."""
    info = archive.getinfo(WEIGHTS)
    stored = info.compress_type == zipfile.ZIP_STORED
    if info.file_size > (info.compress_size if stored else info.compress_size * 3 // 2 + SMALL):
        raise ValueError(f"{WEIGHTS!r} declares {info.file_size} bytes of {info.compress_size}")
    with archive.open(info) as entry:
        while entry.read(1 << 20):
            pass
    file.seek(info.header_offset + 26)
    lengths = struct.unpack("<2H", file.read(4))  # of the name and of the extra field
    start = info.header_offset + 30 + sum(lengths)
    return hdf5.Part(start, info.compress_size, 0 if stored else info.file_size)
