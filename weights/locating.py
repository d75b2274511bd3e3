"""From what a user says to a path: a weight file, a folder, or the name of published weights."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_np.errors import UserError
from resnet_np.weights import registry
from resnet_np.weights.download import Progress, class_names, fetch
from resnet_np.weights.file import WeightFile

Say = Callable[[str], None]


def locate(named: str) -> str:
    """The path of a file or folder; of a published name in the cache, fetched if it is not there.

    What exists under this name wins. Raises UserError if it is no name, or cannot be fetched.
    """
    if os.path.exists(named) or (named not in registry.names() and _is_path(named)):
        return named
    try:
        entry = registry.find(named)
    except UserError as error:
        raise UserError(f"{named or repr(named)}: no file or folder, and {error}") from None
    return os.fspath(download(entry.name))


def _is_path(named: str) -> bool:
    """Whether it looks like one: reading it will say that it is not there."""
    return bool(
        os.path.splitext(named)[1] or os.path.isabs(named) or os.path.isdir(os.path.dirname(named))
    )


def download(name: str) -> Path:
    """Fetch published weights into the cache, with a progress bar. Raises UserError."""
    entry = registry.find(name)
    with _bar(name) as (progress, say):
        return fetch(entry, progress, say)


def names_of_classes(file: WeightFile) -> tuple[str, ...] | None:
    """The class names of a file; for a published one, those that were published with it.

    Where these cannot be fetched, a line on stderr says so, and the result is None. So it is for a
    file of which nothing is known: a thousand classes need not be ImageNet's.
    """
    if file.classes is not None or file.published is None:
        return file.classes
    with _bar("class names") as (progress, say):
        try:
            return class_names(file.published, progress, say)
        except UserError as error:
            say(f"without class names: {error}")
            return None


@contextmanager
def _bar(what: str) -> Iterator[tuple[Progress, Say]]:
    """A progress bar on stderr, from the first bytes on; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
        TextColumn("left"),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None, visible=False)

        def progress(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total, visible=True)

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield progress, say
