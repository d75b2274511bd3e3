"""Does it all hold on an NVIDIA card: right, the same on each run, and half as fast as PyTorch?

    python benchmarks/acceptance/21_on_a_card.py [--minutes N] [--out FOLDER] [--judge FILE]

Runs `gpu_suite.py`, which keeps its figures in FOLDER (default: benchmarks/results), and judges
them; or judges those of FILE, which a card once gave. PyTorch is the eager one with channels last,
in the same precision. Eight minutes. Exits with 1 if anything is missed, with 2 without a GPU.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from _showing import at_least, show

BENCHMARKS = Path(__file__).parents[1]
PARITY, CURVE, RATIO = 1e-4, 0.02, 0.5
PRECISIONS = ("tf32", "bf16")
BATCHES = {"inference": (1, 32, 256), "training": (64, 256)}
PEAK_BATCH = 256
NAMES = ("tests", "gradients", "parity", "mixed", "determinism", "inference", "training", "memory")

Row = dict[str, Any]
Part = dict[str, Any]  # what the suite has written of one: status, reason, rows


def run_suite(minutes: int, out: Path) -> Path:
    """The figures' file. Exits as the suite did where it has none: with 2 without a GPU."""
    began = time.time()
    command = [sys.executable, str(BENCHMARKS / "gpu_suite.py"), "--minutes", str(minutes)]
    status = subprocess.run([*command, "--out", str(out)]).returncode
    files = [file for file in out.glob("*-gpu.json") if file.stat().st_mtime >= began]
    if not files:
        sys.exit(status)
    return max(files, key=lambda file: file.stat().st_mtime)


def tests(what: str, part: Part) -> bool:
    counts = [
        f"{row['tests'] - row['skipped']} ran, {row['failures'] + row['errors']} failed"
        for row in part["rows"]
    ]
    return show_part(what, part, counts, "all pass")


def errors(what: str, part: Part, asked: float, names: tuple[str, ...], *precisions: str) -> bool:
    """The largest of the figures of these names, in these precisions."""
    rows = [row for row in part["rows"] if row.get("precision") in precisions]
    found = [row[name] for row in rows for name in names if name in row]
    largest = [f"{max(found):.1e}"] if found else []
    return show_part(what, part, largest, f"at most {asked:g}", not found or max(found) <= asked)


def same(part: Part) -> bool:
    different = [f"{row['precision']} {row['different']}" for row in part["rows"]]
    what = "arrays that differ when the same steps are done twice"
    return show_part(what, part, different, "none")


def show_part(what: str, part: Part, found: list[str], asked: str, right: bool = True) -> bool:
    """Parts that check pass as a whole, or not."""
    passed = right and bool(found) and part["status"] == "passed"
    if not found or (right and not passed):
        found = [*found, f"{part['status']}: {part['reason']}"]
    return show(what, ", ".join(found), asked, passed)


def speed(task: str, batch: int, precision: str, rows: list[Row]) -> bool:
    """Ours beside eager PyTorch's, from the same rounds."""
    what = f"{task}, batch {batch}, {precision}, ratio to eager PyTorch"
    wanted = ("torch", batch, precision)
    theirs = [r for r in rows if (r["engine"], r.get("batch"), r.get("precision")) == wanted]
    row = theirs[0] if theirs else {"note": "was not measured"}
    if "ratio" not in row:
        return show(what, f"no figure: {row.get('note', '')}", f"at least {RATIO:g}", False)
    low, high = row["rounds"]
    ours = row["ratio"] * row["images/s"]
    note = f" ({ours:,.0f} images/s; in the rounds {low:.2f} to {high:.2f})"
    fast = at_least(what, row["ratio"], RATIO, note=note)
    if not row["passed"]:
        return show(f"{what}, outputs", f"{row['difference']:.1e} apart", "the same", False)
    return fast


def peak(precision: str, rows: list[Row]) -> bool:
    found = {r["engine"]: r["GiB"] for r in rows if r["precision"] == precision and "GiB" in r}
    gib = ", ".join(f"{name} {value:.1f} GiB" for name, value in found.items())
    what = f"peak memory of training, batch {PEAK_BATCH}, {precision}"
    return show(what, gib or "no figure", "is measured", "resnet_np" in found)


def judge(record: dict[str, Any]) -> Iterator[bool]:
    """A line for each figure."""
    absent = {"status": "left out", "reason": "the suite ran without it", "rows": []}
    parts = {name: absent for name in NAMES} | {part["name"]: part for part in record["parts"]}
    yield tests("tests on the card", parts["tests"])
    yield tests("gradient checks on the card", parts["gradients"])
    what, kinds = "training steps, card against CPU", ("losses", "statistics", "parameters")
    yield errors(f"{what}, float32: {', '.join(kinds)}", parts["parity"], PARITY, kinds, "fp32")
    kinds = (*kinds, "worst single gradient")
    yield errors(f"{what}, float64: {', '.join(kinds)}", parts["parity"], PARITY, kinds, "fp64")
    what = "loss curves, 16 bits against 32"
    yield errors(what, parts["mixed"], CURVE, ("off by",), "bf16", "fp16")
    yield same(parts["determinism"])
    for task, batches in BATCHES.items():
        for batch, precision in product(batches, PRECISIONS):
            yield speed(task, batch, precision, parts[task]["rows"])
    for precision in PRECISIONS:
        yield peak(precision, parts["memory"]["rows"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=8)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "results", metavar="FOLDER")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="figures that there are already")
    args = parser.parse_args()
    file = args.judge or run_suite(args.minutes, args.out)
    record = json.loads(file.read_text())
    print(f"{record['machine']['gpu']}, {record['machine']['date'][:10]}")
    return 0 if all(list(judge(record))) else 1


if __name__ == "__main__":
    sys.exit(main())
