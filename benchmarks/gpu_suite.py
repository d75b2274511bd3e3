"""Run all that needs an NVIDIA card, in eight minutes: is it right, and how fast is it?

    python benchmarks/gpu_suite.py [--parts machine,layers] [--minutes 8] [--out FOLDER]

Writes DATE-CARD-gpu.json and .md into benchmarks/results, or into FOLDER. Each part has a process
of its own and a time limit, so that one that fails or hangs does not stop the others, and some time
is kept for each. Compared with PyTorch if that is installed: ratios are our images/s by its. A
second run finds what torch.compile compiled, and gets further.

Exits with 0 if all parts passed, 1 if not, 2 if there is no usable GPU.
"""

import argparse
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import _suite_checks as checks
import _suite_rates as rates
from _common import cores, machine
from _suite import ROOT, Outcome, Part, Run, measure_here, run_parts, save

from resnet_np.command import Parser, count, run_command
from resnet_np.device import require_gpu
from resnet_np.errors import UserError

MINUTES = 8
SPARE_SECONDS = 10  # for importing this, and for stopping a part that is stuck
PARTS = [
    Part("machine", "What the card can do", 40, 20, rates.machine),
    Part("tests", "Tests that need a card", 130, 60, checks.tests),
    Part("gradients", "Gradients and finite differences, on the card", 100, 50, checks.gradients),
    Part("parity", "Training steps on the CPU and on the card", 60, 25, checks.parity),
    Part("mixed", "Loss curves in 16 bits", 60, 25, checks.mixed),
    Part("determinism", "The same steps twice", 40, 15, checks.determinism),
    Part("inference", "Inference (ratio: our images/s by theirs)", 100, 65, rates.inference),
    Part("training", "Training (ratio: our images/s by theirs)", 110, 65, rates.training),
    Part("memory", "Peak memory of a training step, batch 256", 60, 40, rates.memory),
    Part("layers", "Each convolution of ResNet-50, batch 32", 60, 30, rates.layers),
]
KNOWN = {part.name: part for part in PARTS}


def make_parser() -> Parser:
    parser = Parser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--parts", default=",".join(KNOWN), metavar="NAME,...", help="only these")
    add("--minutes", type=count, default=MINUTES, help="for all; each part's limit follows")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    add("--in-folder", type=Path, help=argparse.SUPPRESS)  # this is a part's own process, for
    add("--seconds", type=float, help=argparse.SUPPRESS)
    return parser


def chosen(names: str, minutes: int) -> list[Part]:
    """The parts of these names, in their order, with limits for so many minutes."""
    wanted = names.split(",")
    unknown = [name for name in wanted if name not in KNOWN]
    if unknown:
        raise UserError(f"--parts {','.join(unknown)}: there are {', '.join(KNOWN)}")
    times = minutes / MINUTES
    return [
        replace(part, most=part.most * times, least=part.least * times)
        for part in PARTS
        if part.name in wanted
    ]


def command(part: Part, run: Run) -> list[str]:
    """What runs a part in a process of its own."""
    told = ["--in-folder", str(run.folder), "--seconds", str(run.seconds)]
    return [sys.executable, __file__, "--parts", part.name, *told]


def main() -> None:
    began = time.monotonic()
    args = make_parser().parse_args()
    parts = chosen(args.parts, args.minutes)
    require_gpu()
    if args.in_folder:
        sys.exit(0 if measure_here(parts[0], Run(args.in_folder, args.seconds)) else 1)
    facts = machine("gpu", cores()) | {"arguments": f"--minutes {args.minutes}"}
    args.out.mkdir(parents=True, exist_ok=True)
    card = re.sub(r"[^a-z0-9]+", "-", facts["gpu"].lower()).strip("-")
    stem = args.out / f"{facts['date'][:10]}-{card}-gpu"
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as name:
        seconds = 60 * args.minutes - SPARE_SECONDS - (time.monotonic() - began)
        for one in run_parts(parts, command, Path(name), seconds):
            outcomes.append(one)
            print(f"{one.name}: {one.status}, {one.seconds:.0f} s  {one.reason}", flush=True)
            save(stem, facts, outcomes)
    print(f"saved to {stem}.json and .md")
    sys.exit(0 if all(outcome.status == "passed" for outcome in outcomes) else 1)


if __name__ == "__main__":
    sys.exit(run_command(main))
