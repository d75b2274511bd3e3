"""Write a file, or a folder, so that it is there whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resnet_np.errors import UserError, some


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
        raise _failure(path, error) from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str], names: Collection[str]) -> Iterator[Path]:
    """A new folder to write files of these names into, which takes the name `path` in the end.

    A folder that is there already is replaced if it holds nothing but such files. If anything
    fails, Ctrl-C included, it is as it was and nothing else is left.

    Raises UserError if it holds other things, if it is the one that the program runs in, or if the
    folder cannot be written.
    """
    target = Path(path).resolve()
    try:
        if target == Path.cwd():
            raise UserError(f"{os.fspath(path)!r}: the folder that you are in; give a new folder")
        others = sorted(set(os.listdir(target)) - set(names)) if target.exists() else []
        if others:
            raise UserError(
                f"{path}: a folder that holds {some(others)}, which nobody asked to replace; give a"
                " new folder"
            )
        temporary, older = (
            target.with_name(f".{target.name}.{secrets.token_hex(4)}.{end}")
            for end in ("part", "old")
        )
        try:
            temporary.mkdir()
            yield temporary
            for name in os.listdir(temporary):
                with open(temporary / name, "rb") as file:
                    os.fsync(file.fileno())
            if target.exists():
                target.rename(older)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if older.exists() and not target.exists():
                older.rename(target)
            raise
        shutil.rmtree(older, ignore_errors=True)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: str | os.PathLike[str], error: OSError) -> UserError:
    folder = Path(path).parent
    reason = error.strerror or error if folder.is_dir() else f"there is no folder {folder}"
    return UserError(f"{path}: cannot be written: {reason}")
