"""Runs side by side: `python -m resnet_np.runs [FOLDER ...]`."""

import sys
from pathlib import Path

from resnet_np.command import Parser, path_of, run_command


def make_parser() -> Parser:
    """The arguments of the command."""
    parser = Parser(
        prog="python -m resnet_np.runs",
        description="List the finished runs in a folder, or compare some: what they were told, "
        "where they differ, and how right they are.",
    )
    add = parser.add_argument
    add("folders", metavar="FOLDER", type=path_of("folder"), nargs="*", default=["runs"],
        help="a run's folder, or one that holds those of runs (default: runs)")  # fmt: skip
    add("--sort", choices=("name", "test", "validation"), default="name", help="by name, or by "
        "accuracy on the test or validation images, the best first (default: name)")  # fmt: skip
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
