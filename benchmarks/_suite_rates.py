"""The parts of `gpu_suite.py` that measure: how fast, and with how much memory?"""

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _common import cores
from _comparing import ratio, relative_difference, spread
from _engines import PASSES, Call, Convolution, ResNetNp
from _material import make_material
from _suite import Row, Run, read_rows
from _workers import Job, Task, Worker, run_in_turns

from resnet_np.errors import UserError

PRECISIONS = ("bf16", "tf32")
OTHERS = ("torch", "torch-compile")
# Logits, or the losses of two steps, may differ by this: 50 layers with so few digits.
ALLOWED_DIFFERENCE = {"tf32": 1e-2, "bf16": 5e-2}
BATCHES: dict[Task, tuple[int, ...]] = {"inference": (256, 32, 1), "training": (256, 64)}
ROUNDS = 5
SPARE_SECONDS = 10  # of a part's time: for its start, and for the turns of the last that got ready
LAYERS_BATCH, MEMORY_BATCH = 32, 256
GEMM_SIZE, COPY_BYTES = 8192, 2**30


# --- the card's own clock ------------------------------------------------------------------------


def card_seconds(call: Call, least: float = 0.02) -> float:
    """Of one call: the median of five turns, each of which takes `least` seconds or more."""
    timed(call, 1)
    count = 1 + min(1000, int(least / timed(call, 1)))
    return median(timed(call, count) / count for _ in range(5))


def timed(call: Call, count: int) -> float:
    """Seconds of so many calls."""
    from cupy import cuda

    start, end = cuda.Event(), cuda.Event()
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return cuda.get_elapsed_time(start, end) / 1e3


# --- what the card can do ------------------------------------------------------------------------


def machine(run: Run) -> Iterator[Row]:
    """How fast it copies, bytes read and written, and multiplies, by cuBLAS."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    source = cupy.zeros(min(COPY_BYTES, free // 4) // 4, "float32")
    target = cupy.empty_like(source)
    seconds = card_seconds(lambda: cupy.copyto(target, source))
    yield {"what": "copy", "rate": 2e-9 * source.nbytes / seconds, "unit": "GB/s"}
    for precision in ("fp32", *reversed(PRECISIONS)):
        seconds = card_seconds(gemm(GEMM_SIZE, precision))
        rate = 2e-12 * GEMM_SIZE**3 / seconds
        yield {"what": precision, "rate": rate, "unit": "TFLOP/s", "size": GEMM_SIZE}


def gemm(n: int, precision: str) -> Call:
    """C = A @ B, n x n each, by cuBLAS itself; sums are in float32."""
    import cupy
    from cupy.cuda import runtime
    from cupy_backends.cuda.libs import cublas

    a = (cupy.arange(n * n, dtype="uint32") * 2654435761 >> 8).astype("float32") * 2.0**-23 - 1
    if precision == "bf16":
        a = (a.view("uint32") >> 16).astype("uint16")  # a bfloat16 is the upper half of a float32
    c, kind = cupy.empty_like(a), runtime.CUDA_R_16BF if precision == "bf16" else 0
    fast = precision == "tf32"
    sums = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if fast else cublas.CUBLAS_COMPUTE_32F
    factors, handle = np.array([1, 0], "float32"), cupy.cuda.get_cublas_handle()
    one = factors.ctypes.data

    def call() -> None:
        cublas.gemmEx(
            handle, 0, 0, n, n, n, one, a.data.ptr, kind, n, a.data.ptr, kind, n,
            one + factors.itemsize, c.data.ptr, kind, n, sums, cublas.CUBLAS_GEMM_DEFAULT,
        )  # fmt: skip

    return call


# --- whole models --------------------------------------------------------------------------------


def inference(run: Run) -> Iterator[Row]:
    return whole_models("inference", run)


def training(run: Run) -> Iterator[Row]:
    return whole_models("training", run)


def whole_models(task: Task, run: Run) -> Iterator[Row]:
    """Ours beside one other engine in turns: all of it with the first, then with the next.

    torch.compile is the last, and its compiling is given the time that is left.
    """
    end = time.monotonic() + run.seconds - SPARE_SECONDS
    with tempfile.TemporaryDirectory() as name:
        material = make_material(Path(name), max(BATCHES[task]))
        for other in installed():
            workers: dict[str, Worker] = {}
            for batch, precision in product(BATCHES[task], PRECISIONS):
                if time.monotonic() > end:
                    left_out = {"precision": precision, "batch": batch, "engine": other}
                    yield left_out | {"note": "left out: the time was over"}
                    continue
                job = Job("", task, batch, material, cores(), "gpu", precision=precision)
                jobs = {name: replace(job, engine=name) for name in ("resnet_np", other) if name}
                yield from side_by_side(jobs, workers, end)
            for worker in workers.values():
                worker.stop()  # its memory is free for the next
    if not any(installed()):
        yield {"engine": "torch", "note": "is not installed: nothing to compare with"}


def installed() -> tuple[str, ...]:
    """The other engines; "" for none."""
    return OTHERS if importlib.util.find_spec("torch") else ("",)


def side_by_side(jobs: dict[str, Job], workers: dict[str, Worker], end: float) -> Iterator[Row]:
    """A row for each engine. Processes in `workers` are used again, and new ones added to them."""
    heads: dict[str, Row] = {
        name: {"precision": job.precision, "batch": job.batch, "engine": name}
        for name, job in jobs.items()
    }
    reasons = prepare(jobs, workers, end)
    for name, reason in reasons.items():
        yield heads[name] | not_measured(name, reason)
    ready = {name: workers[name] for name in jobs if name not in reasons}
    times = run_in_turns(ready, ROUNDS)
    for name, worker in ready.items():
        row, seconds = heads[name], median(times[name])
        row |= {"images/s": jobs[name].batch / seconds, "ms": 1e3 * seconds}
        if name != "resnet_np" and "resnet_np" in ready:
            ours = times["resnet_np"]
            row |= {"ratio": ratio(times[name], ours), "rounds": spread(times[name], ours)}
            row["difference"] = relative_difference(ready["resnet_np"].output, worker.output)
            row["passed"] = row["difference"] <= ALLOWED_DIFFERENCE[jobs[name].precision]
        yield row | {"note": worker.setting}


def not_measured(engine: str, reason: str) -> Row:
    """That another one fails, or is not ready when the time is over, is no mistake of ours."""
    return {"note": reason} | ({"passed": False} if engine == "resnet_np" else {})


def prepare(jobs: dict[str, Job], workers: dict[str, Worker], end: float) -> dict[str, str]:
    """Let one after the other get ready; why some are not.

    Not all at once: a library that tries several ways, to take the fastest, needs the card alone.
    """
    reasons = {}
    for name, job in jobs.items():
        if name in workers and workers[name].process.is_alive():
            workers[name].begin(job)
        else:
            workers[name] = Worker(job)
        try:
            workers[name].wait(max(0, end - time.monotonic()))
        except UserError as error:
            reasons[name] = str(error)
    return reasons


def memory(run: Run) -> Iterator[Row]:
    """What the memory pools hold after some steps; CUDA itself and the libraries come on top."""
    with tempfile.TemporaryDirectory() as name:
        material = make_material(Path(name), MEMORY_BATCH)
        names = [name for name in ("resnet_np", installed()[0]) if name]
        for name, precision in product(names, PRECISIONS):
            job = Job(name, "training", MEMORY_BATCH, material, cores(), "gpu", precision=precision)
            row: Row = {"precision": precision, "batch": MEMORY_BATCH, "engine": name}
            try:
                yield row | {"GiB": peak_bytes(job) / 2**30}
            except UserError as error:
                yield row | not_measured(name, str(error))


def peak_bytes(job: Job) -> int:
    """Of some steps, in a process that has the card's memory for itself."""
    worker = Worker(job)
    try:
        worker.wait()
        worker.run()
        return worker.finish()
    finally:
        worker.stop()


# --- layers --------------------------------------------------------------------------------------


def layers(run: Run) -> Iterator[Row]:
    """Each distinct convolution beside what the rates of the part `machine` would allow.

    The roofline: a pass takes no less than its products at the rate of a large matrix product, and
    no less than reading and writing its arrays once. (Small arrays stay in the card's cache between
    calls: these can be faster than memory.) The last rows are of all convolutions of the network.
    """
    from conv_throughput import distinct_convolutions

    rates = {row["what"]: row["rate"] for row in read_rows(run.folder, "machine")}
    if not {"copy", *PRECISIONS} <= set(rates):
        raise UserError("needs the figures of the part machine: --parts machine,layers")
    convolutions = distinct_convolutions()
    for precision in PRECISIONS:
        engine = ResNetNp("gpu", cores(), precision)
        totals = {which: np.zeros(3) for which in PASSES}
        for conv, times in convolutions.items():
            for which, call in engine.convolution(conv, LAYERS_BATCH).items():
                seconds = card_seconds(call)
                least = least_seconds(conv, precision, rates)
                row = {"precision": precision, "convolution": str(conv), "x": times, "pass": which}
                yield row | figures(seconds, conv.gflop(LAYERS_BATCH), least)
                totals[which] += times * np.array([seconds, conv.gflop(LAYERS_BATCH), least])
        for which, total in totals.items():
            row = {"precision": precision, "convolution": "all", "pass": which}
            yield row | figures(*total.tolist())


def least_seconds(conv: Convolution, precision: str, rates: dict[str, float]) -> float:
    """What the roofline allows for one pass."""
    numbers = LAYERS_BATCH * np.prod(conv.image) + np.prod(conv.output(LAYERS_BATCH))
    moved = numbers * (2 if precision == "bf16" else 4) + 4 * np.prod(conv.weight)
    products = 1e-3 * conv.gflop(LAYERS_BATCH) / rates[precision]
    return float(max(products, 1e-9 * moved / rates["copy"]))


def figures(seconds: float, gflop: float, least: float) -> dict[str, Any]:
    return {"ms": 1e3 * seconds, "TFLOP/s": 1e-3 * gflop / seconds, "of roofline": least / seconds}
