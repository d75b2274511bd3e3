"""`conv_throughput.py --ladder`: the rungs of ladder.py measured, against the roofs above them.

Everything runs on one core. The peaks take their turn in the same rounds as the rungs do.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import ladder
import numba
import numpy as np
from _common import interleaved_times, machine, save_json
from _engines import Call, Convolution
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from resnet_np.errors import UserError
from resnet_np.kernels import NO_PADDING, Array, array
from resnet_np.kernels.cpu import conv, microkernel, winograd
from resnet_np.kernels.cpu.arrays import aligned
from resnet_np.kernels.cpu.compiling import COMPILED
from resnet_np.kernels.cpu.target import TILE
from resnet_np.kernels.cpu.tasks import worker_count

DEFAULT_LAYER = (28, 128, 128, 3)  # the 3x3 convolutions of ResNet-50's second stage
PIECE = 2  # pixels, in height and width, for the rung that would take a minute
TILE_ROWS = (1, 2, 4, 6, 8, 12, 14, 16)
TILE_FLOP = 5e7  # how long a tile is repeated for one measurement
COPY_BYTES = 64 * 2**20  # more than caches hold


@dataclass
class Rung:
    """`call` computes `layer` into `y`, which should be `expected`.

    moved : numbers that the arrays have that it reads and writes, each time that it does
    """

    name: str
    layer: Convolution
    call: Call
    y: Array
    expected: Array
    moved: int

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte that is moved."""
        return 1e9 * self.layer.gflop(1) / (4 * self.moved)

    def error(self) -> float:
        """Largest difference from the twin, relative to the largest number."""
        return float(np.abs(self.y - self.expected).max() / np.abs(self.expected).max())


def make_layer(pixels: int, c: int, k: int, size: int) -> Convolution:
    before = (size - 1) // 2
    border = before, size - 1 - before
    return Convolution((pixels, pixels, c), (size, size, c, k), (1, 1), (border, border))


def make_rungs(layer: Convolution) -> list[Rung]:
    """All rungs on this layer; Winograd's only where it can compute it."""
    rng = np.random.default_rng(0)
    c, k = layer.weight[2:]
    w = rng.standard_normal(layer.weight, np.float32)
    gamma, beta, mean = rng.standard_normal((3, k), np.float32)
    norm = gamma, beta, mean, rng.uniform(0.5, 2, k).astype(np.float32)
    x = _bordered(rng.standard_normal((1, *layer.image), np.float32), layer)
    shortcut = rng.standard_normal(layer.output(1), np.float32)

    plain = array.conv2d(x.astype(np.float64), w, None, (1, 1), NO_PADDING)
    whole = array.fixed_batch_norm(plain, *norm, ladder.EPS, shortcut, True)
    piece = make_layer(min(PIECE, layer.image[0]), c, k, layer.weight[0])
    p, end = piece.image[0], piece.image[0] + piece.weight[0] - 1
    corner = np.ascontiguousarray(x[:, :end, :end])
    folded, bias = ladder.fold(w, norm)
    packed, packed_folded = conv.pack_weights(w), conv.pack_weights(folded)

    rungs: list[Rung] = []

    def add(name: str, function: Any, w: Array, expected: Array, moved: int, *more: Any) -> None:
        y = aligned(layer.output(1))
        rungs.append(Rung(name, layer, partial(function, x, w, y, *more), y, expected, moved))

    size = shortcut.size  # of y, too
    once = x.size + w.size + size
    rows = size // k * w.size // k
    y = aligned(piece.output(1))
    moved, call = corner.size + w.size + y.size, partial(ladder.loops, corner, w, y)
    rungs.append(Rung("1 loops in Python", piece, call, y, plain[:, :p, :p], moved))
    add("2 the same, compiled", ladder.compiled_loops, w, plain, once)
    add("3 im2col, matrix product", ladder.matrix_product, w, plain, once + 2 * rows)
    add("4 blocked, compiled", ladder.blocked, w, plain, once)
    add("5 micro-kernel", ladder.micro_kernel, packed, plain, once)
    passes = once + 9 * size  # y by scale, plus shift, plus shortcut, max(y, 0)
    add("5+ the rest in passes", ladder.in_passes, packed, whole, passes, norm, shortcut)
    add("6 fused", ladder.fused, packed_folded, whole, once + size, bias, shortcut)
    if layer.weight[:2] == (3, 3) and c % TILE.lanes == k % TILE.lanes == 0:
        u = winograd.pack(folded, 4)
        moved = x.size + u.size + 2 * size
        add("7 Winograd", ladder.by_winograd, u, whole, moved, bias, shortcut)
    return rungs


def _bordered(x: Array, layer: Convolution) -> Array:
    """x with its border of zeros, aligned."""
    padded = np.pad(x, ((0, 0), *layer.padding, (0, 0)))
    result = aligned(padded.shape)
    result[...] = padded
    return result


def layer_call(layer: Convolution) -> Call:
    """Rung 5 for any stride, with the border left to the kernel."""
    n, p, q, k = layer.output(1)
    places = 0, p * q * k, q * k, k
    x, y = aligned((n, *layer.image)), aligned((n, p, q, k))
    x[...] = 1
    packed = conv.pack_weights(np.ones(layer.weight, np.float32))
    where = layer.weight[:2], layer.stride, layer.padding, (p, q), places
    grid = conv.conv_grid(x.shape, *where, len(packed), worker_count())
    return conv.ready(grid, x, packed, conv.pack_bias(None, k), k, y)


# --- measuring -----------------------------------------------------------------------------------


def tile_call(rows: int, repeat: Any) -> tuple[Call, float]:
    """A call that repeats a tile of so many rows, and its GFLOP."""
    arguments = ladder.tile_arguments(rows, TILE.channels)
    run = arguments[5]
    flop = 2 * rows * TILE.channels * run
    times = 1 + int(TILE_FLOP / flop)
    return partial(repeat, times, *arguments), 1e-9 * flop * times


def measured(calls: dict[str, Call], repetitions: int) -> dict[str, float]:
    """Median seconds of each call, from rounds in which all take their turn."""
    turns = {("ladder", name): (call, _nothing) for name, call in calls.items()}
    times = interleaved_times(turns, repetitions)
    return {name: median(times["ladder", name]) for name in calls}


def _nothing() -> None:
    """The CPU has done what it was told when a call returns."""


def measure_rungs(rungs: list[Rung], repetitions: int) -> tuple[list[dict[str, Any]], float, float]:
    """A row for each rung; the peaks of computing, in GFLOP/s, and of copying, in GB/s."""
    tile, tile_gflop = tile_call(TILE.rows, ladder.repeat_tile)
    source, target = np.ones((2, COPY_BYTES // 4), np.float32)
    calls = {rung.name: rung.call for rung in rungs}
    calls |= {"peak": tile, "copy": partial(np.copyto, target, source)}
    seconds = measured(calls, repetitions)
    peak, copy = tile_gflop / seconds["peak"], 2e-9 * COPY_BYTES / seconds["copy"]
    rows: list[dict[str, Any]] = []
    for rung in rungs:
        gflops = rung.layer.gflop(1) / seconds[rung.name]
        row = {"rung": rung.name, "on": str(rung.layer), "gflops": gflops, "share": gflops / peak}
        row |= {"gain": gflops / rows[-1]["gflops"] if rows else None, "error": rung.error()}
        rows.append(row | {"intensity": rung.intensity})
    return rows, peak, copy


def measure_tiles(repetitions: int) -> list[dict[str, Any]]:
    """The micro-kernel by itself with other numbers of rows: what registers are good for."""
    calls, gflop = {}, {}
    for rows in TILE_ROWS:
        tile = microkernel.make_tile(rows, TILE.vectors, TILE.lanes)
        name = f"{rows} x {TILE.vectors}"
        calls[name], gflop[name] = tile_call(rows, ladder.repeated(tile))
    seconds = measured(calls, repetitions)
    return [
        {
            "tile": name,
            "registers": rows * TILE.vectors + TILE.vectors + 1,
            "loads": (rows + TILE.vectors) / (rows * TILE.vectors),
            "gflops": gflop[name] / seconds[name],
        }
        for rows, name in zip(TILE_ROWS, calls, strict=True)
    ]


def measure_layers(layers: Iterable[Convolution], repetitions: int) -> list[dict[str, Any]]:
    """A row for each layer, computed as on rung 5."""
    by_name = {str(layer): layer for layer in layers}
    seconds = measured({name: layer_call(layer) for name, layer in by_name.items()}, repetitions)
    rows = []
    for name, layer in by_name.items():
        moved = np.prod(layer.image) + np.prod(layer.weight) + np.prod(layer.output(1))
        row = {"layer": name, "gflops": layer.gflop(1) / seconds[name]}
        rows.append(row | {"intensity": float(1e9 * layer.gflop(1) / (4 * moved))})
    return rows


# --- showing -------------------------------------------------------------------------------------


def _table(headings: tuple[str, ...], lines: Sequence[tuple[str, ...]], left: int) -> Table:
    """A table that can be pasted into Markdown; the first columns are text."""
    table = Table(box=MARKDOWN)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def rung_table(rows: list[dict[str, Any]]) -> Table:
    headings = "rung", "on", "GFLOP/s", "of peak", "times the last", "error"
    lines = [
        (
            row["rung"],
            row["on"],
            f"{row['gflops']:.3g}",
            f"{100 * row['share']:.2g} %" if row["share"] < 0.1 else f"{100 * row['share']:.0f} %",
            "" if row["gain"] is None else f"{row['gain']:.3g}",
            f"{row['error']:.0e}",
        )
        for row in rows
    ]
    return _table(headings, lines, left=2)


def tile_table(rows: list[dict[str, Any]]) -> Table:
    headings = f"tile, of {TILE.lanes} lanes", "registers", "loads per multiplication", "GFLOP/s"
    lines = [
        (row["tile"], str(row["registers"]), f"{row['loads']:.2f}", f"{row['gflops']:.3g}")
        for row in rows
    ]
    return _table(headings, lines, left=1)


def plot_roofline(
    rungs: list[dict[str, Any]], layers: list[dict[str, Any]], peak: float, copy: float, path: str
) -> None:
    """GFLOP/s over operations per byte, with the two roofs: computing, and copying."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    intensities = [row["intensity"] for row in rungs + layers]
    x = np.geomspace(min(*intensities, peak / copy) / 4, 2 * max(intensities), 200)
    label = f"roofs: {peak:.0f} GFLOP/s, {copy:.0f} GB/s"
    axes.loglog(x, np.minimum(peak, x * copy), color="black", label=label)
    for size, marker in (("1x1", "o"), ("3x3", "s"), ("7x7", "^")):
        own = [row for row in layers if f" {size}" in row["layer"]]
        place = [row["intensity"] for row in own], [row["gflops"] for row in own]
        axes.plot(*place, marker, color="tab:blue", alpha=0.4, label=f"ResNet-50's {size}, rung 5")
    for row in rungs:
        at = row["intensity"], row["gflops"]
        axes.plot(*at, "D", color="tab:red", label=row["rung"])
        number = row["rung"].split()[0]
        axes.annotate(number, at, (0, 6), textcoords="offset points", ha="center", color="tab:red")
    axes.set_title(f"Rungs on {rungs[-1]['on']}")
    axes.set_xlabel("floating-point operations per byte of the arrays read and written")
    axes.set_ylabel("GFLOP/s on one core")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=100)


def climb(args: argparse.Namespace, resnet50: Iterable[Convolution]) -> None:
    """Measure and show what `--ladder` promises."""
    if not COMPILED:
        raise UserError("--ladder measures compiled code: not with NUMBA_DISABLE_JIT=1")
    if args.device != "cpu":
        raise UserError(f"--ladder is about the CPU, not --device {args.device}")
    facts = machine(args.device, 1)
    console = Console(width=120)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            layer = make_layer(*args.layer)
            rungs, peak, copy = measure_rungs(make_rungs(layer), args.repetitions)
            console.print(rung_table(rungs))
            console.print(
                f"Peak, one core of {facts['cpu']}: {peak:.1f} GFLOP/s (the micro-kernel in the L1 "
                f"cache), {copy:.1f} GB/s (a copy). Counted are the definition's multiplications "
                "and additions on every rung, also on Winograd's, which does fewer."
            )
            tiles = measure_tiles(args.repetitions)
            console.print(tile_table(tiles))
            results = {"rungs": rungs, "tiles": tiles, "peak_gflops": peak, "copy_gbs": copy}
            if args.plot is not None:
                layers = measure_layers(resnet50, args.repetitions)
                plot_roofline(rungs, layers, peak, copy, args.plot)
                print(f"saved to {args.plot}")
                results["layers"] = layers
    finally:
        numba.set_num_threads(threads)
    save_json(args, facts, results)
