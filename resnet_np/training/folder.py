"""The folder that a run writes its results into."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from resnet_np.errors import UserError

RUNS = Path("runs")
CHECKPOINT, BEST = "checkpoint.npz", "best.npz"
HISTORY = "history.json"  # written last of all: a run without it was broken off


@contextmanager
def result_folder(out: str | None, name: str, resumed: str | None = None) -> Iterator[Path]:
    """A folder to write into: `out`, or a new `runs/<name>-<number>`.

    It must not hold a checkpoint, which would be lost, unless it is `resumed`, with which the run
    goes on. It is made before the work starts, so that a folder that cannot be written to is found
    out at once. What was made here and is still empty at the end is removed again. Raises
    UserError.
    """
    if out is not None:
        _refuse_others(Path(out) / CHECKPOINT, resumed)
    made: list[Path] = []
    try:
        yield _make(Path(out), made) if out is not None else _make_numbered(name, made)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # it holds results: it stays
                folder.rmdir()


def _refuse_others(checkpoint: Path, resumed: str | None) -> None:
    """Raise UserError if there is a checkpoint already, and not the one that goes on."""
    if checkpoint.exists() and not (resumed and checkpoint.samefile(resumed)):
        raise UserError(
            f"--out {checkpoint.parent}: holds the checkpoint of another run; name another folder, "
            f"or go on with that run: --resume {checkpoint}"
        )


def _make_numbered(name: str, made: list[Path]) -> Path:
    for number in count(1):
        folder = RUNS / f"{name}-{number}"
        if not folder.exists():
            return _make(folder, made)
    raise AssertionError("the numbers do not end")


def _make(folder: Path, made: list[Path]) -> Path:
    """Make the folder and those above it, noting the new ones in `made`."""
    try:
        for part in [*reversed(folder.parents), folder]:
            if not part.exists():
                part.mkdir()
                made.append(part)
        if not folder.is_dir():
            raise NotADirectoryError(20, "is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write into it")
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}; name a folder to write to") from error
    return folder
