"""Engines in processes of their own, which prepare a job each and then run it in turns.

A process of its own gives each engine its own peak of memory and its own thread pool. All get the
same cores, and as many threads.
"""

import multiprocessing
import os
import time
import traceback
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
    precision: str = "fp32"

    def prepare(self) -> tuple[Engine, Call]:
        engine = ENGINES[self.engine](self.device, self.threads, self.precision)
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
    """A process that prepares a job and runs it when told; then, perhaps, another one."""

    setting: str
    output: np.ndarray

    def __init__(self, job: Job) -> None:
        os.environ.update(thread_limits(job.threads))  # read by libraries when they are loaded
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, job.threads), daemon=True)
        self.process.start()
        other.close()  # so that a worker that dies ends our waiting for it
        self.begin(job)

    def begin(self, job: Job) -> None:
        """Let the process prepare this, instead of what it had; it is not waited for."""
        self.rest = REST_SECONDS if job.device == "cpu" else 0
        self.connection.send(job)

    def wait(self, seconds: float | None = None) -> None:
        """Until the job is prepared. Raises UserError if that cannot be, or not in this time."""
        if not self.connection.poll(seconds):
            self.stop()
            raise UserError(f"was not ready after {seconds:.0f} s")
        self.setting, self.output = self._receive()

    def run(self) -> float:
        """Seconds of one run."""
        time.sleep(self.rest)
        self.connection.send("run")
        return self._receive()

    def finish(self) -> int:
        """End the process; the most bytes that it had in use."""
        self.connection.send("finish")
        peak = self._receive()
        self.process.join()
        return peak

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()

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


def serve(connection: Connection, threads: int) -> None:
    """The worker's side: one job after the other."""
    limit_threads(threads)
    said = connection.recv()
    while isinstance(said, Job):
        try:
            said = serve_job(connection, said)
        except UserError as error:
            connection.send(error)
            said = connection.recv()


def serve_job(connection: Connection, job: Job) -> Any:
    """Prepare, run a few times uncounted, then answer; what is said at the end that is no "run"."""
    try:
        engine, call = job.prepare()
        first = [np.array(engine.on_host(call())) for _ in range(STEPS_COMPARED[job.task])]
        engine.forget_peak()
        count = runs_needed(call, engine.wait, SHORTEST_TURN)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        first_line = (str(error) or "no message").splitlines()[0]
        raise UserError(f"{job.engine}: {type(error).__name__}: {first_line}") from error
    connection.send((engine.setting, np.stack(first)))
    while (said := connection.recv()) == "run":
        run_seconds(call, engine.wait, 1)  # wakes the thread pool and fills the caches
        connection.send(run_seconds(call, engine.wait, count) / count)
    if said == "finish":
        connection.send(engine.peak_bytes())
    return said


def run_in_turns(
    workers: dict[str, Worker], rounds: int, advance: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of one run of each, by round."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.run())
        advance()
    return times


def take_turns(
    jobs: dict[str, Job], rounds: int, advance: Callable[[], Any] = lambda: None
) -> dict[str, Measured]:
    """Prepare all jobs, then run each once in every round; `advance()` is called after a round."""
    workers = {}
    for name, job in jobs.items():
        workers[name] = Worker(job)
        workers[name].wait()
    times = run_in_turns(workers, rounds, advance)
    return {
        name: Measured(times[name], worker.finish(), worker.setting, worker.output)
        for name, worker in workers.items()
    }
