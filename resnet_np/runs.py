"""Runs side by side: `python -m resnet_np.runs [FOLDER ...]`."""

import sys
from pathlib import Path

from resnet_np.command import Parser, run_command


def make_parser() -> Parser:
    """The arguments of the command."""
    parser = Parser(
        prog="python -m resnet_np.runs",
        description="List the finished runs in a folder, or compare some: what they were told, "
        "where they differ, and how right they are.",
    )
    add = parser.add_argument
    add("folders", metavar="FOLDER", nargs="*", default=["runs"], help="of runs, or runs themselves"
        " (default: runs)")  # fmt: skip
    add("--sort", choices=("name", "test", "validation"), default="name", help="default: name")
    return parser


def main() -> None:
    """Read the arguments and print a table. Raises UserError."""
    arguments = make_parser().parse_args()

    from rich.console import Console

    from resnet_np.training.comparing import find_runs, print_runs, read_run

    runs = [read_run(path) for folder in arguments.folders for path in find_runs(Path(folder))]
    if arguments.sort != "name":
        runs.sort(key=lambda run: -run["accuracy"].get(arguments.sort, -1.0))
    print_runs(runs, Console())


if __name__ == "__main__":
    sys.exit(run_command(main))
