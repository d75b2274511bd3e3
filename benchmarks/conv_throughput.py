"""Time every distinct convolution of ResNet-50 at 224 pixels, forward and both gradients.

    python benchmarks/conv_throughput.py [--device gpu] [--against torch] [--json FILE]
    python benchmarks/conv_throughput.py --ladder [--plot FILE.png]

GFLOP/s are also given as a share of what this machine's own matrix product reaches, measured in the
same rounds. A ratio is the other engine's time divided by ours: above 1 we are faster.
"""

import sys
from collections import Counter
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from _common import (
    benchmark_parser,
    blas_threads,
    interleaved_times,
    machine,
    parse,
    save_json,
)
from _engines import ENGINES, PASSES, PIXELS, Convolution, ResNetNp, engine_names
from _ladder import DEFAULT_LAYER, climb
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

import resnet_np as rnp
from resnet_np import Tensor
from resnet_np.autograd.conv import as_padding, as_pair
from resnet_np.command import at_least, run_command

# Large enough that a matrix product reaches its best, small enough to take its turn often.
GEMM_SIZE = {"cpu": 1024, "gpu": 8192}


def distinct_convolutions() -> Counter[Convolution]:
    """Each convolution that one image meets on its way through, and how often."""
    found: Counter[Convolution] = Counter()
    model = rnp.resnet50().eval()
    for _, module in model.named_modules():
        if isinstance(module, rnp.nn.Conv2d):
            module.hook = partial(_note, found, module)
    with rnp.no_grad():
        model(Tensor(np.zeros((1, PIXELS, PIXELS, 3), np.float32)))
    return found


def _note(found: Counter[Convolution], layer: rnp.nn.Conv2d, x: Tensor, y: Tensor) -> None:
    r, s, c, k = layer.weight.shape
    stride = as_pair(layer.stride, "stride")
    padding = as_padding(layer.padding, x.shape, (r, s), stride)
    found[Convolution((x.shape[1], x.shape[2], c), (r, s, c, k), stride, padding)] += 1


def measure(
    conv: Convolution, batch: int, device: str, names: list[str], repetitions: int
) -> list[dict[str, Any]]:
    """One row for each pass: milliseconds, GFLOP/s and share of each engine."""
    ours, size = ResNetNp(device, blas_threads()), GEMM_SIZE[device]
    calls = {("resnet_np", "gemm"): (ours.gemm(size), ours.wait)}
    for name in names:
        engine = ENGINES[name](device, blas_threads())
        for which, call in engine.convolution(conv, batch).items():
            calls[name, which] = call, engine.wait
    times = interleaved_times(calls, repetitions)
    peak = 2e-9 * size**3 / median(times["resnet_np", "gemm"])
    rows: list[dict[str, Any]] = []
    for which in PASSES:
        row = {"batch": batch, "convolution": str(conv), "pass": which}
        row |= {"gflop": conv.gflop(batch), "gemm_gflops": peak}
        for name in names:
            row[name] = {"ms": 1e3 * median(times[name, which])}
        rows.append(with_rates(row, names))
    return rows


def with_rates(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The row with GFLOP/s, share of the peak and ratio, which follow from its milliseconds."""
    for name in names:
        gflops = row["gflop"] / row[name]["ms"] * 1e3
        row[name] |= {"gflops": gflops, "share": gflops / row["gemm_gflops"]}
    for name in names[1:]:
        row[name]["ratio"] = row[name]["ms"] / row[names[0]]["ms"]
    return row


def network_totals(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """All convolutions of the network together, each as often as it occurs."""
    totals = []
    for batch in dict.fromkeys(row["batch"] for row in rows):
        for which in PASSES:
            own = [row for row in rows if (row["batch"], row["pass"]) == (batch, which)]
            total = {"batch": batch, "convolution": "all", "pass": which}
            total["count"] = sum(row["count"] for row in own)
            total["gflop"] = sum(row["count"] * row["gflop"] for row in own)
            total["gemm_gflops"] = median([row["gemm_gflops"] for row in own])
            for name in names:
                total[name] = {"ms": sum(row["count"] * row[name]["ms"] for row in own)}
            totals.append(with_rates(total, names))
    return totals


def table(rows: list[dict[str, Any]], names: list[str], title: str) -> Table:
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("N", "convolution", "x", "pass"):
        result.add_column(heading, no_wrap=True)
    for name in names:
        for heading in (f"{name}\nms", "\nGFLOP/s", "of\npeak"):
            result.add_column(heading, justify="right", no_wrap=True)
    for name in names[1:]:
        result.add_column(f"{name} /\n{names[0]}", justify="right", no_wrap=True)
    for row in rows:
        cells = [str(row[key]) for key in ("batch", "convolution", "count", "pass")]
        for name in names:
            own = row[name]
            cells += [f"{own['ms']:.2f}", f"{own['gflops']:.1f}", f"{own['share']:.0%}"]
        cells += [f"{row[name]['ratio']:.2f}" for name in names[1:]]
        result.add_row(*cells, end_section=row["pass"] == PASSES[-1])
    return result


def main() -> None:
    parser = benchmark_parser(__doc__.splitlines()[0], batches=[1, 8])
    parser.add_argument(
        "--ladder",
        action="store_true",
        help="instead: one layer, one image, one core, on each rung of docs/fast_convolution.md",
    )
    parser.add_argument(
        "--layer",
        type=at_least(1),
        nargs=4,
        default=DEFAULT_LAYER,
        metavar=("PIXELS", "C", "K", "SIZE"),
        help="of the ladder",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="the ladder's roofline")
    args = parse(parser)
    if args.ladder:
        return climb(args, distinct_convolutions())
    names = engine_names(args.against, "convolution", args.device)
    facts = machine(args.device, blas_threads())
    jobs = [(n, *pair) for n in args.batch for pair in distinct_convolutions().items()]
    rows = []
    for batch, conv, count in track(jobs, description="measuring", console=Console(stderr=True)):
        measured = measure(conv, batch, args.device, names, args.repetitions)
        rows += [row | {"count": count} for row in measured]
    totals = network_totals(rows, names)
    peaks = [row["gemm_gflops"] for row in rows]
    facts |= {"gemm_gflops": median(peaks)}
    console = Console(width=120)
    console.print(table(rows, names, "Each distinct convolution (x: how often it occurs)"))
    console.print(table(totals, names, "All convolutions of the network"))
    console.print(
        f"Peak is this machine's float32 matrix product: {median(peaks):.0f} GFLOP/s in the median "
        f"({min(peaks):.0f} to {max(peaks):.0f}), {facts['threads']} thread(s), {facts['cpu']}."
    )
    save_json(args, facts, {"convolutions": rows, "network": totals})


if __name__ == "__main__":
    sys.exit(run_command(main))
