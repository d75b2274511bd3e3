"""Many runs, with other options each: `python -m resnet_np.sweep`."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_np.arguments import add_options, read_arguments
from resnet_np.command import Parser, count, path_of, run_command
from resnet_np.errors import UserError, some


def make_parser() -> Parser:
    """The arguments of the command: those of a run, and its own."""
    parser = Parser(
        prog="python -m resnet_np.sweep",
        description="Run python -m resnet_np.finetune, whose options these are, with every "
        "combination of some of them; then compare. The runs are written to runs/sweep/1, 2, and "
        "so on, or below --out. Begun again with the same words, it goes on where it stopped.",
        argument_default=argparse.SUPPRESS,
    )
    add_options(parser, without=["--out"])
    add = parser.add_argument_group("sweep").add_argument
    add(
        "--out",
        metavar="DIR",
        type=path_of("folder"),
        help="folder for the runs, each in one of its own, 1, 2 and so on (default: runs/sweep)",
    )
    add(
        "--vary",
        metavar="OPTION=VALUES",
        action="append",
        required=True,
        help="values with | between them, such as 'lr=0.1|0.01' or 'head=256|256,128'; with "
        "--random also a range, such as lr=0.0001..0.1; nothing, as in 'head=|256', leaves the "
        "option out; once for each option",
    )
    add(
        "--random",
        metavar="N",
        type=count,
        help="so many combinations drawn at random, by --seed, in place of all",
    )
    return parser


def main() -> None:
    """Read the arguments, run all, print the table. Raises UserError."""
    given = read_arguments(make_parser())
    varied, draws = given.pop("vary"), given.pop("random", None)
    folder = Path(given.pop("out", "runs/sweep"))

    from rich.console import Console

    from resnet_np.training.comparing import find_runs, print_runs, read_run
    from resnet_np.training.options import Options
    from resnet_np.training.setup import check_options
    from resnet_np.training.sweeping import Values, combine, run_or_go_on
    from resnet_np.weights.inspecting import print_line

    chosen = combine([Values.parse(text) for text in varied], draws, given.get("seed", 0))
    told: list[Options] = []
    for i, combination in enumerate(chosen, start=1):  # all are read before the first one runs
        with _named(combination):
            options = Options(**given | _read(combination, "phases" in given))
            check_options(options)
        out = folder / f"{i:0{len(str(len(chosen)))}}"
        looked_at = options.data in [other.data for other in told]
        told.append(replace(options, out=str(out), doctor=options.doctor and not looked_at))
    console, failed = Console(), []
    for i, options in enumerate(told, start=1):
        console.rule(f"run {i} of {len(told)}: " + _words(chosen[i - 1]))
        try:
            run_or_go_on(options, console)
        except UserError as error:  # a rate that is too high: the others go on
            where = "" if str(error).startswith(str(options.out)) else f"{options.out}: "
            failed.append(f"{where}{error}")
            print_line(console, f"failed: {failed[-1]}")
    if len(failed) == len(told):
        raise UserError(f"no run has come to its end: {failed[0]}")
    print_runs([read_run(path) for path in find_runs(folder)], console)
    if failed:
        raise UserError(f"{len(failed)} of {len(told)} runs have failed: {some(failed, '; ')}")


@contextmanager
def _named(combination: dict[str, str]) -> Iterator[None]:
    """Raises UserErrors with the combination in front that they are about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--vary {_words(combination)}: {error}") from None


def _read(combination: dict[str, str], phased: bool) -> dict[str, Any]:
    """The options of a combination. phased: those of the sweep have phases. Raises UserError."""
    known = Parser(prog="python -m resnet_np.sweep", argument_default=argparse.SUPPRESS)
    add_options(known)
    changes = read_arguments(known, _typed(combination))
    if "out" in changes:
        raise UserError("the sweep chooses the folders; say --out FOLDER for all of them")
    if phased and {"epochs", "unfreeze"} & changes.keys():
        raise UserError("the phases of the recipe say it; vary something else")
    return changes


def _typed(combination: dict[str, str]) -> list[str]:
    """As words of the command line. A value that is empty leaves its option out."""
    return [f"--{option}={value}" for option, value in combination.items() if value]


def _words(combination: dict[str, str]) -> str:
    return " ".join(f"{option}={value}" for option, value in combination.items())


if __name__ == "__main__":
    sys.exit(run_command(main))
