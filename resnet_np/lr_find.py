"""Find a learning rate: `python -m resnet_np.lr_find`, with the options of the run to be."""

import argparse
import sys
from pathlib import Path

from resnet_np.arguments import add_options, read_arguments
from resnet_np.command import Parser, at_least, path_of, run_command
from resnet_np.errors import UserError

# What has no effect on so short a training.
WITHOUT = (
    "--no-doctor", "--epochs", "--accumulate", "--schedule", "--warmup", "--ema", "--patience",
    "--watch", "--keep", "--save-every", "--save-epochs", "--out",
)  # fmt: skip


def make_parser() -> Parser:
    """The arguments of the command: those of a run, and its own."""
    parser = Parser(
        prog="python -m resnet_np.lr_find",
        description="Train for a moment with learning rates that rise from a thousandth of the "
        "usual ones to a thousand times them, draw what becomes of the loss, and say where it "
        "falls fastest. Nothing is kept but the picture. The options are those of "
        "python -m resnet_np.finetune that matter here; a recipe may have the others, too. Of a "
        "run in phases the first is tried. --lr and --head-lr, or what they are without being "
        "said, are the middle of what is tried.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--steps", metavar="N", type=at_least(20), default=100, help="batches, each with a higher "
        "rate (default: 100)")  # fmt: skip
    add("--plot", metavar="FILE", type=path_of("file"), default="rates.png", help="where to draw "
        "it (default: rates.png)")  # fmt: skip
    add_options(parser, WITHOUT)
    return parser


def main() -> None:
    """Read the arguments, try, draw. Raises UserError."""
    given = read_arguments(make_parser())
    steps, plot = given.pop("steps"), Path(given.pop("plot"))
    if plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: give it the name of a .png in a folder that there is")

    from rich.console import Console

    from resnet_np.training.finetuning import try_rates
    from resnet_np.training.options import Options
    from resnet_np.training.plots import draw_rates, save_png

    options = Options(**given)
    found = try_rates(options, steps, Console())
    lr, head_lr = options.by_phase()[0].learning_rates()
    best = found.steepest
    save_png(draw_rates(found.shares * head_lr, found.losses, best * head_lr), plot)
    print(f"{plot}: the loss over {len(found.shares)} rates")
    trunk = "" if options.by_phase()[0].unfreeze == "fc" else f"--lr {best * lr:.2g} "
    print(f"it falls fastest with: {trunk}--head-lr {best * head_lr:.2g}")


if __name__ == "__main__":
    sys.exit(run_command(main))
