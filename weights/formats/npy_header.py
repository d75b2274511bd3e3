"""The header of an `.npy`: what the numbers behind it are.

    {'descr': '<f4', 'fortran_order': False, 'shape': (64, 3, 7, 7), }

NumPy reads it with Python's own parser, which knows far more than such a header may hold, and has
many ways, warnings among them, to say that it does not like it.

Source: numpy/lib/format.py, "Format Version 1.0" and "2.0".
"""

import re
from typing import IO

import numpy as np

LENGTH_BYTES = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}
"""What an `.npy` begins with, and how many bytes say how long its header is."""

MAX_LENGTH = 10_000  # NumPy's, too

_FIELD = r"'(descr|fortran_order|shape)' ?: ?('[^']{1,20}'|True|False|\([0-9L, ]*\))"
_HEADER = re.compile(rf"\{{ ?{_FIELD}, ?{_FIELD}, ?{_FIELD},? ?\}}\s*")
_DTYPE = re.compile(r"'[<>|=][fiubcSUVO][0-9]{0,9}'")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the first axis is the innermost, type of the numbers).

    Raises ValueError, and TypeError for a type that NumPy lacks.
    """
    width = LENGTH_BYTES.get(file.read(8))
    if width is None:
        raise ValueError("not an .npy, or of a version that only tables have")
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_LENGTH:
        raise ValueError(f"an .npy whose header takes {length} bytes")
    text = file.read(length).decode("latin-1")
    found = _HEADER.fullmatch(text)
    fields = dict(zip(found.groups()[::2], found.groups()[1::2], strict=True)) if found else {}
    order = fields.get("fortran_order")
    shape, descr = fields.get("shape", ""), fields.get("descr", "")
    if order not in ("True", "False") or not shape.startswith("(") or not descr.startswith("'"):
        raise ValueError(f"an .npy whose header is {text.strip()[:100]!r}")
    if not _DTYPE.fullmatch(descr):
        raise ValueError(f"of type {descr}, which is no plain number or text")
    sizes = tuple(int(n) for n in re.findall("[0-9]+", shape))  # Python 2 wrote (64L, 3L)
    return sizes, order == "True", np.dtype(descr[1:-1])
