"""Engines in processes of their own, which prepare a job each and then run it in turns.

A process of its own gives each engine its own peak of memory and its own thread pool. All get the
same cores, and as many threads.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
from _common import REST_SECONDS, run_seconds, runs_needed
from _engines import ENGINES, Call, Engine, Material, ResNetNp

from resnet_np.errors import UserError

Task = Literal["inference", "training", "gemm"]

# A turn that is shorter is repeated until it is not, and the time divided.
SHORTEST_TURN = 0.25
# The results of the first runs are compared: of a training step, too, before rounding has grown.
STEPS_COMPARED = {"inference": 1, "training": 2, "gemm": 1}


@dataclass(frozen=True)
class Job:
    """What one process does. unfreeze: the first stage that is trained. For "gemm", the matrix
    product of NumPy, `batch` is the size of the matrices.
    """

    engine: str
    task: Task
    batch: int
    material: Material
    threads: int
    device: str = "cpu"
    unfreeze: str = "stem"

    def prepare(self) -> tuple[Engine, Call]:
        engine = ENGINES[self.engine](self.device, self.threads)
        if self.task == "inference":
            return engine, engine.inference(self.material, self.batch)
        if self.task == "training":
            return engine, engine.training(self.material, self.batch, self.unfreeze)
        assert isinstance(engine, ResNetNp)
        return engine, engine.gemm(self.batch)


@dataclass
class Measured:
    """times: seconds of one run, by round. output: of the first runs, [runs, ...]."""

    times: list[float]
    peak_bytes: int
    setting: str
    output: np.ndarray


class Worker:
    """A process that has prepared a job and runs it when told."""

    def __init__(self, job: Job) -> None:
        os.environ.update(thread_limits(job.threads))  # read by libraries when they are loaded
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, job), daemon=True)
        self.process.start()
        other.close()  # so that a worker that dies ends our waiting for it
        self.setting, self.output = self._receive()

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


def thread_limits(threads: int) -> dict[str, str]:
    """The environment that gives every library this many threads."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {name: str(threads) for name in names}


def limit_threads(threads: int) -> None:
    """Keep this process on the first `threads` cores of those that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def serve(connection: Connection, job: Job) -> None:
    """The worker's side: prepare, run a few times uncounted, then answer until told to finish."""
    limit_threads(job.threads)
    try:
        engine, call = job.prepare()
    except UserError as error:
        connection.send(error)
        return
    first = [np.array(engine.on_host(call())) for _ in range(STEPS_COMPARED[job.task])]
    count = runs_needed(call, engine.wait, SHORTEST_TURN)
    connection.send((engine.setting, np.stack(first)))
    while connection.recv() == "run":
        run_seconds(call, engine.wait, 1)  # wakes the thread pool and fills the caches
        connection.send(run_seconds(call, engine.wait, count) / count)
    connection.send(engine.peak_bytes())


def take_turns(
    jobs: dict[str, Job], rounds: int, advance: Callable[[], Any] = lambda: None
) -> dict[str, Measured]:
    """Prepare all jobs, then run each once in every round; `advance()` is called after a round."""
    workers = {name: Worker(job) for name, job in jobs.items()}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.run())
        advance()
    return {
        name: Measured(times[name], worker.finish(), worker.setting, worker.output)
        for name, worker in workers.items()
    }
