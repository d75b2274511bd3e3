"""The folder that a run writes its results into."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from resnet_np.errors import UserError
from resnet_np.weights.formats.npz import CHECKPOINT

RUNS = Path("runs")
BEST = "best.npz"
HISTORY = "history.json"  # written last of all: a run without it was broken off


@contextmanager
def result_folder(out: str | None, name: str, resumed: str | None = None) -> Iterator[Path]:
    """A folder to write into: `out`, or a new `runs/<name>-<number>`.

    It must not hold weights or figures of another run, which would be lost; with `resumed`, a
    checkpoint in it, they are this run's own. It is made before the work starts, so that a folder
    that cannot be written to is found out at once. What was made here and is still empty at the end
    is removed again. Raises UserError.
    """
    if out is not None:
        _refuse_others(Path(out), resumed)
    made: list[Path] = []
    try:
        yield _make(Path(out), made) if out is not None else _make_numbered(name, made)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # it holds results: it stays
                folder.rmdir()


def _refuse_others(out: Path, resumed: str | None) -> None:
    """Raise UserError if there are results already, and not those of the run that goes on."""
    held = [out / name for name in (CHECKPOINT, BEST, HISTORY) if (out / name).exists()]
    if not held or (resumed and held[0].samefile(resumed)):
        return
    go_on = "" if held[0].name == HISTORY else f", or go on with that run: --resume {held[0]}"
    raise UserError(f"--out {out}: holds {held[0].name} of another run; name another folder{go_on}")


def _make_numbered(name: str, made: list[Path]) -> Path:
    """The first of the numbered folders that is not there: two runs may look for it at once."""
    _make(RUNS, made)
    folders = (RUNS / f"{name}-{number}" for number in count(1))
    return next(folder for folder in folders if _is_made(folder, made))


def _make(folder: Path, made: list[Path]) -> Path:
    """Make the folder and those above it, as far as they are not there."""
    try:
        for part in [*reversed(folder.parents), folder]:
            _is_made(part, made)
        if not folder.is_dir():
            raise NotADirectoryError(20, "is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write into it")
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}; name a folder to write to") from error
    return folder


def _is_made(folder: Path, made: list[Path]) -> bool:
    """Make a folder, noting it in `made`; False if there is something of this name already."""
    if folder.exists():
        return False
    try:
        folder.mkdir()
    except FileExistsError:  # of another run, a moment ago
        return False
    made.append(folder)
    return True
