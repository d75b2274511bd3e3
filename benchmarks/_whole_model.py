"""Measure whole models: each engine in a process of its own, and all of them in turns.

A process of its own gives each engine its own peak of memory and its own thread pool.
"""

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Literal

from _common import (
    REST_SECONDS,
    benchmark_parser,
    engine_names,
    machine,
    parse,
    save_json,
)
from _engines import ENGINES
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from resnet_np.errors import UserError

Task = Literal["inference", "training"]


class Worker:
    """An engine in its own process that has prepared a task and runs it when told."""

    def __init__(self, name: str, device: str, task: Task, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, name, device, task, batch)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()  # so that a worker that dies ends our waiting for it
        self._receive()

    def run(self) -> float:
        """Seconds of one run."""
        time.sleep(REST_SECONDS)
        self.connection.send("run")
        return self._receive()

    def finish(self) -> int:
        """End the process; the most bytes that it had in use."""
        self.connection.send("finish")
        peak = self._receive()
        self.process.join()
        return peak

    def _receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except EOFError:
            raise UserError("a measured process died; was there enough memory?") from None
        if isinstance(answer, UserError):
            raise answer
        return answer


def serve(connection: Connection, name: str, device: str, task: Task, batch: int) -> None:
    """The worker's side: prepare, run once uncounted, then answer until told to finish."""
    try:
        engine = ENGINES[name](device)
        call = engine.inference(batch) if task == "inference" else engine.training(batch)
    except UserError as error:
        connection.send(error)
        return
    call()
    engine.wait()
    connection.send("ready")
    while connection.recv() == "run":
        start = time.perf_counter()
        call()
        engine.wait()
        connection.send(time.perf_counter() - start)
    connection.send(engine.peak_bytes())


def measure(
    names: list[str], device: str, task: Task, batch: int, repetitions: int, bar: Progress
) -> dict[str, Any]:
    """Images per second and peak memory of each engine."""
    step = bar.add_task(f"{task}, batch {batch}", total=repetitions)
    workers = {name: Worker(name, device, task, batch) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        for name, worker in workers.items():
            times[name].append(worker.run())
        bar.advance(step)
    row: dict[str, Any] = {"task": task, "batch": batch}
    for name, worker in workers.items():
        seconds = median(times[name])
        row[name] = {
            "seconds": seconds,
            "images_per_second": batch / seconds,
            "peak_mib": worker.finish() / 2**20,
            "ratio": seconds / median(times[names[0]]),
        }
    return row


def table(rows: list[dict[str, Any]], names: list[str]) -> Table:
    result = Table(title="ResNet-50, 224 x 224 pixels, float32", title_justify="left")
    for heading in ("task", "batch", "engine"):
        result.add_column(heading)
    for heading in ("images/s", "ms", "peak MiB", f"time / {names[0]}"):
        result.add_column(heading, justify="right")
    for row in rows:
        for name in names:
            own = row[name]
            cells = [f"{own['images_per_second']:.2f}", f"{1e3 * own['seconds']:.0f}"]
            cells += [f"{own['peak_mib']:.0f}", f"{own['ratio']:.2f}"]
            result.add_row(row["task"], str(row["batch"]), name, *cells)
        result.add_section()
    return result


def benchmark(task: Task, description: str, batches: list[int]) -> None:
    """The command line of both benchmarks."""
    args = parse(benchmark_parser(description, batches))
    names, facts = engine_names(args), machine(args.device)
    with Progress(console=Console(stderr=True)) as bar:
        rows = [
            measure(names, args.device, task, batch, args.repetitions, bar) for batch in args.batch
        ]
    print(f"{facts['cpu']}, {facts['threads']} thread(s)", file=sys.stderr)
    Console(width=100).print(table(rows, names))
    save_json(args, facts, rows)
