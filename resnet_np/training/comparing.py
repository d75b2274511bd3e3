"""Finished runs side by side: what they were told, and how right they are."""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_np.errors import UserError, one_line
from resnet_np.training.folder import HISTORY
from resnet_np.training.options import Options

if TYPE_CHECKING:
    from rich.console import Console

DAMAGED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
MOST_BYTES = 2**26  # of a history.json; a thousand epochs have less than one of its megabytes


def find_runs(folder: Path) -> list[Path]:
    """The run that a folder is, or all in it, by name. Raises UserError if there is none."""
    if (folder / HISTORY).is_file():
        return [folder]
    if folder.is_file():
        raise UserError(f"{folder}: is a file; name a run's folder, or one that holds some")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    # Also those of a sweep, which are one folder further down.
    found = [path.parent for deep in ("*", "*/*") for path in folder.glob(f"{deep}/{HISTORY}")]
    if not found:
        raise UserError(f"{folder}: no finished run in it: a run writes {HISTORY} at its end")
    return sorted(found, key=_place)


def _place(path: Path) -> tuple[str, str, int]:
    """By folder and name, with numbers as such."""
    return str(path.parent), path.name.rstrip("0123456789"), _number(path.name)


def _number(name: str) -> int:
    """The number at the end of a name, so that the 10th run stands behind the 9th."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits) if digits else 0


def read_run(folder: Path) -> dict[str, Any]:
    """What a run has written of itself, and its `folder`. Raises UserError if it is damaged."""
    path = folder / HISTORY
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        record = json.loads(path.read_text("utf-8"))
        missing = [part for part in ("arguments", "history", "figures") if part not in record]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        known = {
            "arguments": dict(record["arguments"]),
            "epochs": len(record["history"]),
            "seconds": sum(float(entry["seconds"]) for entry in record["history"]),
            "accuracy": {
                split: float(figures["accuracy"]) for split, figures in record["figures"].items()
            },
        }
    except DAMAGED as error:
        raise UserError(f"{path}: is no record of a run: {error}") from None
    return known | {"folder": str(folder)}


def differing(runs: list[dict[str, Any]]) -> list[str]:
    """The options that are not the same for all runs; of one run those that are not the usual."""
    usual = Options().to_record()
    names = [field.name for field in fields(Options) if field.name != "out"]
    told = [[run["arguments"].get(name, usual[name]) for run in runs] for name in names]
    return [
        name
        for name, values in zip(names, told, strict=True)
        if any(value != (values[0] if len(runs) > 1 else usual[name]) for value in values)
    ]


def print_runs(runs: list[dict[str, Any]], console: "Console") -> None:
    """A table with a row for each run: how right it is, and what it was told that differs."""
    from rich.table import Table
    from rich.text import Text

    names, usual = differing(runs), Options().to_record()
    table = Table("run", "validation", "test", "epochs", "seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in names:
        table.add_column(name, overflow="fold")
    for run in runs:
        shares = [run["accuracy"].get(split) for split in ("validation", "test")]
        figures = ["" if share is None else f"{share:.4f}" for share in shares]
        told = [one_line(_said(run["arguments"].get(name, usual[name]))) for name in names]
        took = [str(run["epochs"]), f"{run['seconds']:.1f}"]
        table.add_row(*map(Text, [one_line(run["folder"]), *figures, *took, *told]))
    console.print(table)


def _said(value: Any) -> str:
    """A value as short as it can be."""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        told = [{k: v for k, v in phase.items() if v is not None} for phase in value]
        return "; ".join(" ".join(f"{k}={v}" for k, v in phase.items()) for phase in told)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else f"{value}"
