"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resnet_np.errors import UserError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into that takes the name `path` when the block ends well.

    The bytes go to a temporary file beside the target, are flushed to disk, and only then renamed:
    a reader finds the old file or the new one. Whatever fails, Ctrl-C included, the temporary file
    is removed. Raises UserError when the file cannot be written (no space, no permission).
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
