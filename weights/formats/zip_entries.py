"""Open a zip from a stranger: what it announces is looked at before memory is set aside for it.

Python's `zipfile` makes an object of some hundred bytes for each entry of the directory at the end
of a zip, and a deflated entry may announce, and become, a thousand times what it takes.
"""

import zipfile
from typing import IO

import numpy as np

MAX_DIRECTORY = 1 << 20
"""Bytes. A ResNet-152 with its optimizer takes a quarter of this."""

GROWTH = 16
"""Deflated entries may grow to so many times the file's size. Plain weights shrink by a tenth;
those that were quantised and written out again as float32 take an eighth or less."""

SMALL = 1 << 20
"""A small file may always grow to so many bytes."""

CHUNK = 1 << 20


class _Guarded:
    """A file, of which a zip's directory is read first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.most = MAX_DIRECTORY
        self.tell, self.seek, self.seekable = file.tell, file.seek, file.seekable

    def read(self, n: int = -1) -> bytes:
        if n > self.most:
            raise ValueError(f"a zip whose directory takes {n} bytes: too many entries for weights")
        return self.file.read(n)


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """A zip for reading, whose entries together are no larger than what such a file may hold.

    Raises ValueError if they are, if there are too many of them, or if they are compressed in
    another way than deflated; zipfile.BadZipFile if it is no zip. The file stays the caller's.
    """
    guarded = _Guarded(file)
    archive = zipfile.ZipFile(guarded)
    size = file.seek(0, 2)
    guarded.most = size
    methods = {info.compress_type for info in archive.infolist()}
    if not methods <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError("a zip with a compression other than deflate; save it without compression")
    announced = sum(info.file_size for info in archive.infolist())
    if announced > (max(GROWTH * size, SMALL) if zipfile.ZIP_DEFLATED in methods else size):
        raise ValueError(
            f"a zip of {size} bytes that announces {announced}; save it without compression"
        )
    return archive


def fill(array: np.ndarray, file: IO[bytes]) -> bool:
    """Read numbers into a contiguous array, piece by piece; False if the file ends before."""
    view = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), CHUNK):
        piece = view[start : start + CHUNK]
        # A memoryview is a buffer to fill, which the type of `readinto` of any file leaves open.
        if file.readinto(piece) != len(piece):  # type: ignore[attr-defined]
            return False
    return True
