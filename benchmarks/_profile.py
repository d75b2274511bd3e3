"""`resnet50_inference.py --profile`: where the time of a prediction goes, step by step of the plan.

Each step is held against two peaks, the best of the same rounds on as many threads: computing, by
the micro-kernel on numbers that stay in the L1 cache, and moving numbers, by copying more than
caches hold. The one that would take longer for what a step has to do is the one that binds it, and
a step's share is that time over its own. Shares over 100 % are possible: Winograd's convolutions
compute less than the definition, which is what is counted, and results that fit into a cache come
from there faster than from memory.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from _common import REST_SECONDS
from _engines import Material
from _workers import limit_threads, thread_limits
from rich.table import Table

OUTSIDE = "outside of the steps"
TILE_FLOP = 2e9  # of one thread in one measurement
COPY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Peaks:
    """In floating-point operations and in bytes, for a second."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Line:
    """A step. flops: by the definition of a convolution; moved: bytes of its arrays."""

    name: str
    seconds: float
    flops: int
    moved: int

    def share(self, peaks: Peaks) -> float:
        """Of the peak that binds."""
        return max(self.flops / peaks.flops, self.moved / peaks.bytes) / self.seconds

    def bound(self, peaks: Peaks) -> str:
        return "compute" if self.flops / peaks.flops >= self.moved / peaks.bytes else "memory"


@dataclass(frozen=True)
class Profile:
    """The round with the median total; `lines` add up to `seconds`."""

    batch: int
    seconds: float
    lines: list[Line]
    peaks: Peaks

    def to_record(self) -> dict[str, Any]:
        return asdict(self) | {
            "lines": [
                asdict(line) | {"share": line.share(self.peaks), "bound": line.bound(self.peaks)}
                for line in self.lines
            ]
        }


def profile(material: Material, batch: int, threads: int, rounds: int) -> Profile:
    """Measured in a process of its own."""
    os.environ.update(thread_limits(threads))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, material, batch, threads, rounds).result()


def _measure(material: Material, batch: int, threads: int, rounds: int) -> Profile:
    limit_threads(threads)
    import resnet_np as rnp
    from resnet_np.models import STAGES
    from resnet_np.models.pretrained import load_weights

    model = rnp.resnet50()
    load_weights(model, material.weights)
    model.eval()
    images = rnp.Tensor(material.read_images(batch))
    with rnp.no_grad():
        model(images)
        _, plan = model.plans.find([model.part(stage) for stage in STAGES], images)
        assert plan is not None
        count = len(plan.steps)
        computing, copying = _peak_calls(threads)
        found, flops, moved = [], [], []
        for _ in range(rounds):
            time.sleep(REST_SECONDS)  # until no thread of the last round spins any more
            computing()  # wakes the cores
            flops.append(computing())
            moved.append(copying())
            model(images)  # wakes the threads and fills the caches
            began = time.perf_counter()
            model.check_images(images)
            timings = list(plan.timed(images.data))
            found.append((time.perf_counter() - began, timings))
    seconds, timings = sorted(found, key=lambda pair: pair[0])[len(found) // 2]
    # A large batch goes through the steps in parts, one after the other.
    lines = [_together(timings[i::count]) for i in range(count)]
    lines.append(Line(OUTSIDE, seconds - sum(line.seconds for line in lines), 0, 0))
    return Profile(batch, seconds, lines, Peaks(max(flops), max(moved)))


def _together(parts: list[Any]) -> Line:
    """One step's timings, a `resnet_np.plan.Timing` for each part of the batch."""
    sums = (sum(getattr(part, name) for part in parts) for name in ("seconds", "flops", "moved"))
    return Line(parts[0].name, *sums)


def _peak_calls(threads: int) -> tuple[Any, Any]:
    """Two functions without arguments: floating-point operations, and bytes copied, a second."""
    import ladder
    from numba import njit

    from resnet_np.kernels.cpu.target import TILE

    repeat_tile = ladder.repeat_tile

    @njit(nogil=True)
    def repeat(times, y, y_at, x, x_at, runs, run, w, b):  # type: ignore[no-untyped-def]
        repeat_tile(times, y, y_at, x, x_at, runs, run, w, b)

    arguments = [ladder.tile_arguments(TILE.rows, TILE.channels) for _ in range(threads)]
    flop = 2 * TILE.rows * TILE.channels * arguments[0][5]
    times = int(TILE_FLOP / flop)
    repeat(1, *arguments[0])
    arrays = [np.ones((2, COPY_BYTES // 4), np.float32) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def seconds(call: Any) -> float:
        began = time.perf_counter()
        list(pool.map(call, range(threads)))
        return time.perf_counter() - began

    def computing() -> float:
        return threads * times * flop / seconds(lambda i: repeat(times, *arguments[i]))

    def copying() -> float:
        moved = 2 * threads * COPY_BYTES  # read, and written
        return moved / seconds(lambda i: np.copyto(*arrays[i]))

    return computing, copying


def profile_table(found: Profile) -> Table:
    peaks = found.peaks
    title = (
        f"Batch {found.batch}; peaks: {peaks.flops / 1e9:.0f} GFLOP/s, {peaks.bytes / 1e9:.1f} GB/s"
    )
    result = Table(title=title, title_justify="left")
    result.add_column("step")
    for heading in ("ms", "of all", "GFLOP/s", "GB/s", "bound by", "of that peak"):
        result.add_column(heading, justify="right")
    for line in found.lines:
        cells = [f"{1e3 * line.seconds:.3f}", f"{line.seconds / found.seconds:.1%}"]
        if line.moved:
            cells += [f"{line.flops / line.seconds / 1e9:.1f}" if line.flops else ""]
            cells += [f"{line.moved / line.seconds / 1e9:.1f}", line.bound(peaks)]
            cells += [f"{line.share(peaks):.0%}"]
        result.add_row(line.name, *cells)
    flops = sum(line.flops for line in found.lines)
    gflops = f"{flops / found.seconds / 1e9:.1f}"
    result.add_section()
    result.add_row("total", f"{1e3 * found.seconds:.3f}", "100.0%", gflops)
    return result
