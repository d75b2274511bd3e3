"""Measure whole models: each engine in a process of its own, and all of them in turns."""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from _common import benchmark_parser, cores, machine, parse, save_json
from _comparing import ALLOWED_DIFFERENCE, differences, fastest, ratio, spread
from _engines import engine_names
from _material import make_material, real_data
from _profile import profile, profile_table
from _workers import Job, Measured, Task, take_turns
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from resnet_np.command import Parser
from resnet_np.errors import UserError
from resnet_np.models import STAGES

NEEDS_GRAPH = {"onnxruntime", "openvino"}
ROUNDS = 7


def row_of(measured: dict[str, Measured], batch: int) -> dict[str, Any]:
    """What follows from the measurements, for the table and the JSON file."""
    names = list(measured)
    times = {name: one.times for name, one in measured.items()}
    ours = times[names[0]]
    row: dict[str, Any] = {"engines": {}}
    for name, one in measured.items():
        row["engines"][name] = {
            "setting": one.setting,
            "seconds": median(one.times),
            "images_per_second": batch / median(one.times),
            "peak_mib": one.peak_bytes / 2**20,
            "ratio": ratio(one.times, ours),
            "spread": spread(one.times, ours),
            "times": one.times,
        }
    row["differences"] = differences({name: one.output for name, one in measured.items()})
    row["largest_difference"] = max(row["differences"].values(), default=0.0)
    row["fastest_other"] = fastest({n: times[n] for n in names[1:]}) if names[1:] else None
    return row


def label(row: dict[str, Any]) -> str:
    """The task, and where its training begins if that is not at the first stage."""
    return row["task"] if row["unfreeze"] == "stem" else f"{row['task']} from {row['unfreeze']}"


def table(rows: list[dict[str, Any]]) -> Table:
    result = Table(title="ResNet-50, 224 x 224 pixels, float32", title_justify="left")
    for heading in ("task", "batch", "engine"):
        result.add_column(heading)
    ours = next(iter(rows[0]["engines"]))
    for heading in ("images/s", "ms", "peak MiB", f"time / {ours}", "in the rounds"):
        result.add_column(heading, justify="right")
    for row in rows:
        for name, own in row["engines"].items():
            cells = [f"{own['images_per_second']:.2f}", f"{1e3 * own['seconds']:.0f}"]
            cells += [f"{own['peak_mib']:.0f}", f"{own['ratio']:.2f}"]
            cells += ["{:.2f} to {:.2f}".format(*own["spread"])]
            result.add_row(label(row), str(row["batch"]), name, *cells)
        result.add_section()
    return result


def verdict(row: dict[str, Any]) -> str:
    """The fastest other engine, and whether all computed the same."""
    name = row["fastest_other"]
    own = row["engines"][name]
    low, high = own["spread"]
    return (
        f"{label(row)}, batch {row['batch']}: {own['ratio']:.2f} times as fast as the fastest "
        f"other, {name} ({low:.2f} to {high:.2f}); outputs differ by "
        f"{row['largest_difference']:.1e} at most"
    )


def check_outputs(rows: list[dict[str, Any]]) -> None:
    """Raise UserError if two engines did not compute the same."""
    for row in rows:
        for pair, difference in row["differences"].items():
            if difference > ALLOWED_DIFFERENCE:
                raise UserError(
                    f"{row['task']}, batch {row['batch']}: the outputs of {pair} differ by "
                    f"{difference:.1e} of the largest; {ALLOWED_DIFFERENCE:.0e} are allowed"
                )


def measure_all(
    args: argparse.Namespace, task: Task, batches: list[int], unfreeze: str = "stem"
) -> list[dict[str, Any]]:
    """A row for each batch: ours beside the engines of `--against`."""
    names = engine_names(args.against, task, args.device)
    graph = not NEEDS_GRAPH.isdisjoint(names)
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as bar:
        material = make_material(Path(folder), max(batches), graph)
        rows = []
        for batch in batches:
            jobs = {
                name: Job(name, task, batch, material, args.threads, args.device, unfreeze)
                for name in names
            }
            step = bar.add_task(f"{task}, batch {batch}", total=args.repetitions)
            measured = take_turns(jobs, args.repetitions, partial(bar.advance, step))
            row = {"task": task, "batch": batch, "unfreeze": unfreeze}
            rows.append(row | row_of(measured, batch))
    return rows


def whole_model_parser(description: str, batches: list[int]) -> Parser:
    """The arguments of all that measures whole models."""
    parser = benchmark_parser(description, batches, ROUNDS)
    parser.add_argument("--threads", type=int, default=cores(), help="of every engine")
    return parser


def parse_whole_model(parser: Parser) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The arguments, and what has to be known about the machine."""
    args = parse(parser)
    if not 1 <= args.threads <= cores():
        raise UserError(f"--threads must be from 1 to {cores()}, the cores that there are")
    facts = machine(args.device, args.threads)
    return args, facts | {"weights": "real" if real_data() else "random"}


def benchmark(task: Task, description: str, batches: list[int]) -> None:
    """The command line of both benchmarks."""
    parser = whole_model_parser(description, batches)
    if task == "training":
        stages = [stage for stage in STAGES if stage != "pool"]
        parser.add_argument("--unfreeze", choices=stages, default="stem", help="first one trained")
    else:
        parser.add_argument("--profile", action="store_true", help="of ours, step by step, instead")
    args, facts = parse_whole_model(parser)
    if task == "inference" and args.profile:
        return profile_all(args, facts)
    rows = measure_all(args, task, args.batch, getattr(args, "unfreeze", "stem"))
    print_rows(rows, facts)
    save_json(args, facts, rows)
    check_outputs(rows)


def profile_all(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Where the time goes, for each batch."""
    if args.device != "cpu" or args.against:
        raise UserError("--profile: is ours on the CPU; without --device gpu and --against")
    with tempfile.TemporaryDirectory() as folder:
        material = make_material(Path(folder), max(args.batch))
        found = [profile(material, n, args.threads, args.repetitions) for n in args.batch]
    cpu, threads = facts["cpu"], facts["threads"]
    print(f"{cpu}, {threads} thread(s), {facts['weights']} weights", file=sys.stderr)
    for one in found:
        Console(width=100).print(profile_table(one))
    save_json(args, facts, [one.to_record() for one in found])


def print_rows(rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """The table, each engine's setting, and the verdict of each row."""
    cpu, threads = facts["cpu"], facts["threads"]
    print(f"{cpu}, {threads} thread(s), {facts['weights']} weights", file=sys.stderr)
    Console(width=100).print(table(rows))
    for name, own in rows[0]["engines"].items():
        print(f"{name}: {own['setting']}")
    for row in rows:
        if row["fastest_other"]:
            print(verdict(row))
