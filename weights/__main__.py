"""Look at weight files, convert, verify and download them: `python -m resnet_np.weights`."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from resnet_np.command import Parser, path_of, run_command

if TYPE_CHECKING:
    from rich.console import Console

ANY = "a weight file, a Hugging Face folder, or a name from the list"
ENDINGS = (".npz", ".safetensors", ".pth", ".weights.h5", ".onnx", "none (a Hugging Face folder)")

Run = Callable[[argparse.Namespace, "Console"], None]


def make_parser() -> Parser:
    """One command with its own arguments for each thing to do."""
    parser = Parser(
        prog="python -m resnet_np.weights",
        description="Look at weight files, convert, verify and download them.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    add = _adder(commands, "inspect", inspect, "say what a file is and what is in it")
    add("weights", metavar="FILE", type=path_of("weight file"), help=ANY)

    add = _adder(commands, "convert", convert, "write the weights in another format")
    add("weights", metavar="IN", type=path_of("weight file"), help=ANY)
    add(
        "target",
        metavar="OUT",
        type=path_of("file"),
        help=f"its ending says the format: {', '.join(ENDINGS)}",
    )
    add(
        "--variant",
        choices=("v1.5", "v1"),
        help="of weights that cannot tell: v1.5 (torchvision's, timm's, Hugging Face's) or v1 "
        "(Keras')",
    )
    add("--fold-batch-norm", action="store_true", help="into the convolutions; for .onnx")
    add("--force", action="store_true", help="replace OUT if it is there")

    add = _adder(commands, "verify", verify, "print a file's hashes, and which file it is")
    add("file", metavar="FILE", type=path_of("file"), help="any file, or a name from the list")
    add("name", metavar="NAME", nargs="?", help="fail unless it is this published file")

    add = _adder(
        commands, "download", download, "fetch published weights, and print where they are"
    )
    add("name", metavar="NAME", help="from the list")

    _adder(commands, "list", list_published, "show the published weights that are known by name")
    return parser


def _adder(
    commands: "argparse._SubParsersAction[Parser]", name: str, run: Run, what: str
) -> Callable[..., argparse.Action]:
    """Make the parser of one command; returns what adds arguments to it."""
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(run=run)
    return parser.add_argument


def main() -> None:
    """Read the arguments and do what they say. Raises UserError."""
    arguments = make_parser().parse_args()

    from rich.console import Console

    arguments.run(arguments, Console())


def inspect(arguments: argparse.Namespace, console: "Console") -> None:
    from resnet_np.weights import inspecting

    inspecting.inspect(arguments.weights, console)


def convert(arguments: argparse.Namespace, console: "Console") -> None:
    from resnet_np.weights import commands

    commands.convert(
        arguments.weights,
        arguments.target,
        arguments.variant,
        arguments.fold_batch_norm,
        arguments.force,
        console,
    )


def verify(arguments: argparse.Namespace, console: "Console") -> None:
    from resnet_np.weights import commands

    commands.verify(arguments.file, arguments.name, console)


def download(arguments: argparse.Namespace, console: "Console") -> None:
    from resnet_np.weights import locating

    print(locating.download(arguments.name))


def list_published(arguments: argparse.Namespace, console: "Console") -> None:
    from resnet_np.weights import commands

    commands.list_published(console)


if __name__ == "__main__":
    sys.exit(run_command(main))
