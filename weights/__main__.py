"""Look at weight files, convert, verify and download them: `python -m resnet_np.weights`."""

import argparse
import sys

from resnet_np.command import Parser, run_command


def make_parser() -> Parser:
    """One command with its own arguments for each thing to do."""
    parser = Parser(
        prog="python -m resnet_np.weights",
        description="Look at weight files, convert, verify and download them.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add = commands.add_parser("inspect", help="say what a file is and what is in it")
    add.add_argument("weights", metavar="FILE", help="a weight file, a folder, or a known name")
    add.set_defaults(run=inspect)
    return parser


def main() -> None:
    """Read the arguments and do what they say. Raises UserError."""
    arguments = make_parser().parse_args()
    arguments.run(arguments)


def inspect(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from resnet_np.weights import inspecting

    inspecting.inspect(arguments.weights, Console())


if __name__ == "__main__":
    sys.exit(run_command(main))
