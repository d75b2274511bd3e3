"""How the parts of `gpu_suite.py` are run, each in a process of its own, and what is written."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LAST_LINES = 25  # of a part's output
TOO_SHORT = 5.0  # with less than this left a part is not begun

# What a part finds out, for one line of its table. "passed" is False where something is wrong.
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a part is told: where the rows of the parts before it are, and how long it may take."""

    folder: Path
    seconds: float


@dataclass(frozen=True)
class Part:
    """name: also the file's of its rows. most, least: seconds that it may take, and that those
    before it leave for it, however long they take. measure: gives its rows.
    """

    name: str
    title: str
    most: float
    least: float
    measure: Callable[[Run], Iterator[Row]]


@dataclass
class Outcome:
    """What came of a part. status: passed, failed or left out; reason: why, if not passed."""

    name: str
    title: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    output: list[str] = field(default_factory=list)  # its last lines


def run_parts(
    parts: list[Part],
    command: Callable[[Part, Run], list[str]],
    folder: Path,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """Run each as a command of its own, for as long as all together may take."""
    end = clock() + seconds
    for i, part in enumerate(parts):
        left = end - clock()
        kept = sum(later.least for later in parts[i + 1 :])
        run = Run(folder, min(part.most, left, max(part.least, left - kept)))
        if run.seconds < TOO_SHORT:
            reason = f"the {seconds:.0f} s for all parts were over"
            yield Outcome(part.name, part.title, "left out", reason)
        else:
            yield run_part(part, command(part, run), run)


def run_part(part: Part, command: list[str], run: Run) -> Outcome:
    """Run one; when its time is over, or it ends, stop all that it started."""
    log, start = run.folder / f"{part.name}.log", time.monotonic()
    # Nothing here is about the CPU's kernels, and compiling them would take half a minute.
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(run.seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # it is stuck in the driver
                process.wait(5)
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    reason = f"stopped after {run.seconds:.0f} s" if status is None else said if status else ""
    return Outcome(
        part.name, part.title, "failed" if reason else "passed", reason,
        time.monotonic() - start, read_rows(run.folder, part.name), lines,
    )  # fmt: skip


def rows_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


def read_rows(folder: Path, name: str) -> list[Row]:
    """The rows that a part has written so far, or none."""
    file = rows_file(folder, name)
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be cut off


def measure_here(part: Part, run: Run) -> bool:
    """A part's own process: write each row as soon as it is known; whether all is well."""
    wrong = 0
    with rows_file(run.folder, part.name).open("w") as file:
        for row in part.measure(run):
            print(json.dumps(row), file=file, flush=True)
            wrong += not row.get("passed", True)
    if wrong:
        print(f"{wrong} line(s) of the table did not pass")
    return not wrong


# --- what is written -----------------------------------------------------------------------------


def save(stem: Path, facts: Row, outcomes: list[Outcome]) -> None:
    """Everything as STEM.json, and tables as STEM.md."""
    record = {"machine": facts, "parts": [asdict(outcome) for outcome in outcomes]}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(facts, outcomes))


def markdown(facts: Row, outcomes: list[Outcome]) -> str:
    """The machine, a line for each part, and each part's own table."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    shown = [
        {"": name.replace("_", " "), "this machine": value}
        for name, value in (facts | {"versions": versions}).items()
    ]
    summary = [
        {"part": o.title, "": o.status, "s": round(o.seconds), "why": o.reason} for o in outcomes
    ]
    text = [f"# {facts['gpu']}, {facts['date'][:10]}", table(shown), "## All parts", table(summary)]
    for o in outcomes:
        text += [f"## {o.title}"] if o.rows or o.status == "failed" else []
        text += [table(o.rows)] if o.rows else []
        if o.status == "failed":
            text += ["The last lines of its output:", "\n".join(["```text", *o.output, "```"])]
    return "\n\n".join(text) + "\n"


def table(rows: list[Row]) -> str:
    """Rows as a table of Markdown; a column for each name that is in any of them, notes last."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key="note".__eq__)
    cells = [names, ["---"] * len(names), *([cell(row.get(n)) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def cell(value: Any) -> str:
    """A value as it is read best."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, list):
        return " to ".join(map(cell, value)) if len(value) == 2 else ", ".join(map(cell, value))
    return str(value).replace("|", "\\|")
