"""Named arrays in an `.npz` file: written atomically, read without pickle.

An `.npz` is a zip of `.npy` entries, one per array. Ours may carry one entry more, `__record__`: a
JSON object as bytes, for all that is no array (class names, the input contract, arguments).
"""

import json
import math
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.formats.json_text import load_json
from resnet_np.weights.formats.npy_header import read_header
from resnet_np.weights.formats.zip_entries import fill, open_zip

FORMAT = 1
RECORD = "__record__"
CHECKPOINT = "checkpoint.npz"  # what a run calls the one in its folder
PYTORCH = "a PyTorch file where an .npz is due"

DAMAGE = (
    *(ValueError, TypeError, KeyError, OverflowError, MemoryError, RuntimeError),
    *(EOFError, struct.error, zipfile.BadZipFile, zlib.error),
)

Arrays = dict[str, np.ndarray]


def save_npz(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write arrays, and a JSON record if there is one, to an `.npz` at exactly `path`.

    Atomic, as `atomic_file` says. The record is stored with `"format": 1`. Same arrays and record,
    same bytes.

    Raises:
        UserError: the file cannot be written (no space, no such folder, no permission).
        ValueError: an array holds Python objects, which only a pickle could store.
    """
    if RECORD in arrays:
        raise ValueError(f"an array may not be named {RECORD!r}")
    entries = {name: np.asarray(a) for name, a in arrays.items()}
    if record is not None:
        text = json.dumps({**record, "format": FORMAT})
        entries[RECORD] = np.frombuffer(text.encode(), dtype=np.uint8)
    with atomic_file(path) as file:
        _write_zip(file, entries)


def _write_zip(file: BinaryIO, entries: Arrays) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, a in entries.items():
            # A ZipInfo made by hand carries no clock time, so equal contents give equal bytes.
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, a, allow_pickle=False)


def has_record(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an `.npz` with a JSON record: one of our own checkpoints."""
    try:
        with open(path, "rb") as file, open_zip(file) as archive:
            return f"{RECORD}.npy" in archive.namelist()
    except (OSError, *DAMAGE):
        return False


def refuse_run(path: str | os.PathLike[str]) -> None:
    """Raise UserError for the folder of a run, where one of the files in it is wanted."""
    inside = Path(path) / CHECKPOINT
    if inside.is_file():
        raise UserError(f"{path}: a run's folder; name the checkpoint in it: {inside}")


def read_npz(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, Any] | None]:
    """Read every array of an `.npz`, and its JSON record or None.

    Raises:
        UserError: no such file, not an `.npz`, cut short, damaged, arrays of Python objects, two
            arrays of one name, or a record of a format this version does not know. What is wrong
            with single arrays is listed together.
    """
    refuse_run(path)
    try:
        with open(path, "rb") as file, open_zip(file) as archive:
            arrays, problems = _read_zip(archive)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error, ValueError) as error:
        raise UserError(
            f"{path}: not an .npz file (nor a zipped .pth or .keras), or one cut short ({error})"
        ) from error
    if problems:
        raise UserError(f"{path}: {some(problems, '; ')}", problems)
    record = arrays.pop(RECORD, None)
    return arrays, None if record is None else _parse_record(path, record)


def _read_zip(archive: zipfile.ZipFile) -> tuple[Arrays, list[str]]:
    """The arrays that can be read, and what is wrong with the others."""
    counts = Counter(archive.namelist())
    if any(entry.endswith("/data.pkl") for entry in counts):
        return {}, [PYTORCH]
    strange = [entry for entry in counts if not entry.endswith(".npy")]
    if strange or not counts:
        found = f"{len(strange)} entries like {strange[0]!r}" if strange else "nothing"
        return {}, [f"a zip, but no .npz: it holds {found}"]
    arrays: Arrays = {}
    problems = [f"{entry!r} is there {n} times" for entry, n in counts.items() if n > 1]
    for entry in counts:
        try:
            arrays[entry.removesuffix(".npy")] = _read_array(archive, archive.getinfo(entry))
        except DAMAGE as error:
            problems.append(f"{entry!r} is no readable array ({error})")
    return arrays, problems


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One `.npy`. Memory is set aside once its header and its size agree."""
    with archive.open(info) as entry:
        shape, fortran_order, dtype = read_header(entry)
        if dtype.hasobject:
            raise ValueError("Python objects, which only a pickle can store")
        due = math.prod(shape) * dtype.itemsize
        if entry.tell() + due != info.file_size:
            there = info.file_size - entry.tell()
            raise ValueError(f"{there} bytes where its header announces {due}")
        array = np.empty(shape, dtype, order="F" if fortran_order else "C")
        if due and not fill(array.T if fortran_order else array, entry):
            raise ValueError("cut short")
        entry.read(1)  # only behind the last byte is the checksum compared
    return array


def _parse_record(path: str | os.PathLike[str], stored: np.ndarray) -> dict[str, Any]:
    try:
        record = load_json(stored.tobytes(), os.path.getsize(path))
    except ValueError as error:
        raise UserError(f"{path}: its {RECORD} is not JSON ({error})") from error
    if not isinstance(record, dict) or "format" not in record:
        raise UserError(f"{path}: its {RECORD} does not say which format it is")
    if record["format"] != FORMAT:
        raise UserError(
            f"{path}: checkpoint format {record['format']!r}; this version reads format {FORMAT}"
        )
    return record
