"""Fine-tune a ResNet on images: `python -m resnet_np.finetune`.

Without arguments: the handwritten digits that scikit-learn brings along, with the embedded weights.
"""

import argparse
import sys

from resnet_np.arguments import add_options, read_arguments
from resnet_np.command import Parser, path_of, run_command


def make_parser() -> Parser:
    """The arguments of the command."""
    parser = Parser(
        prog="python -m resnet_np.finetune",
        description="Fine-tune a ResNet on folders of images; without arguments, on "
        "scikit-learn's handwritten digits with the embedded weights.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--resume", metavar="CHECKPOINT", type=path_of("checkpoint"), help="go on with this run, "
        "in a new folder or --out; beside it only --data, --names, --epochs (in all), --device, "
        "--precision, --no-cache, --save-every, --save-epochs and --recalibrate can be said",
    )  # fmt: skip
    add_options(parser)
    return parser


def main() -> None:
    """Read the arguments and run. Raises UserError."""
    given = read_arguments(make_parser())

    from rich.console import Console

    from resnet_np.training.checkpoint import load_checkpoint
    from resnet_np.training.finetuning import finetune, resumed_options
    from resnet_np.training.options import Options

    path = given.pop("resume", None)
    if path is None:
        options, checkpoint = Options(**given), None
    else:
        checkpoint = load_checkpoint(path, to_go_on=True)
        options = resumed_options(checkpoint, given)
    finetune(options, checkpoint, Console())


if __name__ == "__main__":
    sys.exit(run_command(main))
