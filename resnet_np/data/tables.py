"""Tables of images: `path,label[,split]` and further columns, as CSV or TSV."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_np.data.folders import SPLIT_NAMES, Samples, cut_parts
from resnet_np.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OWN_COLUMNS = ("path", "label", "split")
UNLABELLED = -1
"""The label of an image whose class nobody said, as in a table; `cross_entropy` leaves it out."""


@dataclass(frozen=True)
class Row:
    """One image of a table.

    line: where it stands. written: its path as the table has it. path: as seen from here.
    label: the name of its class, or None. split: "train", "validation", "test" or None.
    """

    line: int
    written: str
    path: Path
    label: str | None
    split: str | None


@dataclass(frozen=True)
class Table:
    """The rows of a table; columns: the further ones by name, one text for each row."""

    path: Path
    rows: tuple[Row, ...]
    columns: dict[str, tuple[str, ...]]


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken for a table, by its name."""
    return Path(path).suffix.lower() in DELIMITERS


def scan_table(path: str | os.PathLike[str], rng: np.random.Generator) -> dict[str, Samples]:
    """The samples of a table by split, as `scan_folder` has them, and those without a label.

    Without a `split` column the labelled images are split 80/10/10; without a validation part, a
    tenth of `train` becomes one. Images whose label is empty or -1 are in none of these parts, so
    that no loss and no figure counts them: they make up the part "unlabelled", whatever their
    split, with labels of -1.

    Raises:
        UserError: a table that `read_table` refuses; no such image; no labels, one class only, a
            class that is too small to be split or that `train` does not know; no train part.
    """
    table = read_table(path)
    for row in table.rows:
        if not row.path.is_file():
            raise _wrong(table.path, row.line, f"no such file: {row.path}")
    labelled = [i for i, row in enumerate(table.rows) if row.label is not None]
    splits = {table.rows[i].split for i in labelled}
    classes = _find_classes(table, labelled)
    places = {name: [i for i in labelled if table.rows[i].split == name] for name in splits}
    if None in splits:
        parts = cut_parts(table.path, _take(table, labelled, classes), ("test", "validation"), rng)
    else:
        parts = {str(name): _take(table, rows, classes) for name, rows in places.items()}
    if "validation" not in parts:
        parts |= cut_parts(table.path, parts["train"], ("validation",), rng)
    rest = [i for i, row in enumerate(table.rows) if row.label is None]
    return parts | ({"unlabelled": _take(table, rest, classes)} if rest else {})


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table in UTF-8 whose first line names the columns; further ones are kept.

    Paths are relative to the table's folder. A label that is empty or -1 is none. Splits are called
    as the folders of `scan_folder`: train; val, valid or validation; test. If one labelled image
    has a split, all must.

    Raises UserError, naming file and line: no such file, no table, not UTF-8, unknown, missing or
    double columns, rows that are longer or shorter, no path, a path twice, an unknown split.
    """
    path = Path(path)
    if not is_table(path):
        raise UserError(
            f"{path}: neither a folder nor a table whose name ends in {' or '.join(DELIMITERS)}"
        )
    records = _records(path)
    first, header = next(records, (1, []))
    names = [name.strip() for name in header]
    _check_header(path, first, names)
    rows: list[Row] = []
    further: list[list[str]] = []
    lines: dict[str, int] = {}
    for line, record in records:
        if len(record) != len(names):
            raise _wrong(path, line, f"{len(record)} fields, but the header has {len(names)}")
        fields = dict(zip(names, record, strict=True))
        row = _make_row(path, line, fields)
        known = os.path.normpath(row.path)
        if known in lines:
            raise _wrong(
                path, line, f"{row.written!r} is in line {lines[known]} already; keep one of them"
            )
        lines[known] = line
        rows.append(row)
        further.append([fields[name] for name in names if name not in OWN_COLUMNS])
    _check_rows(path, rows)
    others = [name for name in names if name not in OWN_COLUMNS]
    columns = {name: tuple(texts[k] for texts in further) for k, name in enumerate(others)}
    return Table(path, tuple(rows), columns)


def order_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The different labels in their order: by number if all of them are numbers, else by letter."""
    different = sorted(set(labels))
    if all(re.fullmatch(r"[0-9]{1,18}", label) for label in different):
        different.sort(key=int)
    return tuple(different)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, fields) of each record that is not blank. Raises UserError."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # Excel puts a mark in front
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _wrong(path, line, "not in UTF-8; save the table in that encoding") from error
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise _wrong(path, line, f"no proper row ({error}); look at its quotes") from error


def _check_header(path: Path, line: int, names: list[str]) -> None:
    for name in OWN_COLUMNS[:2]:
        if name not in names:
            raise _wrong(
                path,
                line,
                f"no column {name!r} among {', '.join(map(repr, names)) or 'none'}; the first line"
                f" must name the columns, as {DELIMITERS[path.suffix.lower()].join(OWN_COLUMNS)!r}",
            )
    for name in names:
        if names.count(name) > 1 or not name:
            fault = f"two columns called {name!r}" if name else "a column without a name"
            raise _wrong(path, line, f"{fault}; give each a name of its own")


def _make_row(path: Path, line: int, fields: dict[str, str]) -> Row:
    written, label = fields["path"].strip(), fields["label"].strip()
    if not written or "\0" in written:
        raise _wrong(path, line, "no path; name an image file in it")
    split = None
    if said := fields.get("split", "").strip():
        split = SPLIT_NAMES.get(said.lower())
        if split is None:
            raise _wrong(path, line, f"unknown split {said!r}; use train, val or test")
    known = None if label in ("", str(UNLABELLED)) else label
    return Row(line, written, path.parent / written, known, split)


def _check_rows(path: Path, rows: list[Row]) -> None:
    """Raise UserError for an empty table, and for labelled images half of which have a split."""
    if not rows:
        raise _wrong(path, 2, "no rows; each must name an image and its class")
    labelled = [row for row in rows if row.label is not None]
    without = [row for row in labelled if row.split is None]
    if without and len(without) < len(labelled):
        raise _wrong(
            path, without[0].line, "no split, though other rows have one; say train, val or test"
        )


def _find_classes(table: Table, labelled: list[int]) -> tuple[str, ...]:
    """The classes: those of `train` where the table has splits. Raises UserError."""
    rows = [table.rows[i] for i in labelled]
    training = [row for row in rows if row.split in (None, "train")]
    if not training:
        reason = "but none in train" if rows else "all are empty or -1"
        raise UserError(f"{table.path}: nothing to train with: {len(rows)} labels, {reason}")
    classes = order_classes(str(row.label) for row in training)
    if len(classes) < 2:
        raise UserError(
            f"{table.path}: one class only ({classes[0]!r}); at least two are needed to train"
        )
    for row in rows:
        if row.label not in classes:
            raise _wrong(
                table.path,
                row.line,
                f"class {row.label!r} is not among those of train; "
                "add rows of it there, or remove it",
            )
    return classes


def _take(table: Table, places: list[int], classes: tuple[str, ...]) -> Samples:
    """The rows at these places as samples; labels that are none become -1."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [table.rows[i] for i in places]
    labels = [UNLABELLED if row.label is None else numbers[row.label] for row in rows]
    columns = {name: tuple(texts[i] for i in places) for name, texts in table.columns.items()}
    return Samples(
        tuple(row.path for row in rows), np.array(labels, dtype=np.int64), classes, columns
    )


def _wrong(path: Path, line: int, fault: str) -> UserError:
    return UserError(f"{path}, line {line}: {fault}")
