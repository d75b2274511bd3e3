"""Where labelled images come from: class folders, with or without splits, or a table."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_np.data.folders import (
    Samples,
    about_pickles,
    files_below,
    find_splits,
    is_image_name,
    scan_folder,
    subfolders,
)
from resnet_np.data.tables import is_table, order_classes, read_table, scan_table
from resnet_np.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A file that is meant to be an image.

    name: what to call it: its path below the folder, or as the table has it.
    label: the name of its class, or None. split: "train", "validation", "test" or None.
    line: where a table has it.
    """

    path: Path
    name: str
    label: str | None
    split: str | None
    line: int | None = None


@dataclass(frozen=True)
class Listing:
    """Everything that a folder or table names, before anything is read.

    classes: their names, in order, also of class folders without an image.
    splits: those that labelled images are in, and train; none where they are still to be split.
    others: what else lies there, and is passed over; `outside` holds those that are images by their
        name, but in no class folder.
    columns: what a table says beside that, by name; a text for each of its entries.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    others: tuple[Entry, ...] = ()
    outside: tuple[Entry, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def scan(source: str | os.PathLike[str], rng: np.random.Generator) -> dict[str, Samples]:
    """The samples of a folder (`scan_folder`) or table (`scan_table`) by split."""
    return scan_table(source, rng) if _is_file(source) else scan_folder(source, rng)


def list_source(source: str | os.PathLike[str]) -> Listing:
    """What a folder or table names, with as few demands as possible: faults are for the doctor.

    Raises UserError where nothing can be listed: no such folder or table, a table that `read_table`
    refuses, folders that are neither classes nor splits.
    """
    return _list_table(Path(source)) if _is_file(source) else _list_folder(Path(source))


def _is_file(source: str | os.PathLike[str]) -> bool:
    return os.path.isfile(source) or (is_table(source) and not os.path.isdir(source))


def _list_table(path: Path) -> Listing:
    table = read_table(path)
    rows = table.rows
    entries = tuple(Entry(row.path, row.written, row.label, row.split, row.line) for row in rows)
    classes = order_classes(row.label for row in rows if row.label is not None)
    splits = {row.split for row in rows if row.label is not None} - {None}
    ordered = _in_order(splits | {"train"} if splits else ())
    return Listing(entries, classes, ordered, columns=table.columns)


def _list_folder(root: Path) -> Listing:
    parts: dict[str | None, Path] = dict(find_splits(root).items()) or {None: root}
    entries: list[Entry] = []
    others: list[Entry] = []
    classes: set[str] = set()
    loose = [path for part in {root, *parts.values()} for path in _files_in(part)]
    for split, part in parts.items():
        visited = {os.path.realpath(part)}  # the same again for another split is worth knowing
        for folder in subfolders(part):
            classes.add(folder.name)
            for path in files_below(folder, visited):
                entry = Entry(path, str(path.relative_to(root)), folder.name, split)
                (entries if is_image_name(path) else others).append(entry)
    if not classes:
        raise UserError(
            f"{root}: no class folders in it; expected {root}/<class>/<image>.jpg"
            f"{about_pickles(root)}"
        )
    outside = [Entry(path, str(path.relative_to(root)), None, None) for path in sorted(loose)]
    return Listing(
        tuple(sorted(entries, key=lambda entry: entry.name)),
        tuple(sorted(classes)),
        _in_order(parts),
        tuple(others),
        tuple(entry for entry in outside if is_image_name(entry.path)),
    )


def _files_in(folder: Path) -> list[Path]:
    """The visible files in a folder, not in those below it."""
    return [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]


def _in_order(splits: Iterable[str | None]) -> tuple[str, ...]:
    present = set(splits)
    return tuple(name for name in ("train", "validation", "test") if name in present)
