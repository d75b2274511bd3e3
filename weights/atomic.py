"""Write a file so that it is there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resnet_np.errors import UserError


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into, which takes the name `path` when the `with` block ends well.

    The bytes go to a temporary file beside the target and are flushed to disk first: a reader sees
    the old file or the new one, never half of one. If anything fails, Ctrl-C included, the
    temporary file is removed and the target is as it was.

    Raises UserError if the file cannot be written (no space, no such folder, no permission).
    """
    target = Path(path).resolve()  # through a symbolic link, so that the link itself stays
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
