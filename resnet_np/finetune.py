"""Fine-tune a ResNet on images: `python -m resnet_np.finetune`.

Without arguments: the handwritten digits that scikit-learn brings along, with the embedded weights.
"""

import argparse
import sys
from typing import Any

from resnet_np.command import (
    Parser,
    at_least,
    count,
    counts,
    probability,
    rate,
    run_command,
    seed,
)


def make_parser() -> Parser:
    """All options. One that is not given is not in the result, so that --resume can tell."""
    from resnet_np.device import DEVICES, PRECISIONS
    from resnet_np.models import STAGES
    from resnet_np.models.resnet import SMALLEST_IMAGE, VARIANTS
    from resnet_np.training.options import OPTIMIZERS
    from resnet_np.training.setup import MODELS

    parser = Parser(
        prog="python -m resnet_np.finetune",
        description="Fine-tune a ResNet on folders of images; without arguments, on "
        "scikit-learn's handwritten digits with the embedded weights.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="FOLDER|TABLE",
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv with the "
        "columns path, label and, if you like, split",
    )
    add("--model", choices=sorted(MODELS), help="v1.5 (torchvision) or v1 (Keras)")
    add(
        "--variant",
        choices=VARIANTS,
        help="of the weights, where they cannot tell: v1.5 (torchvision's, timm's, Hugging Face's) "
        "or v1 (Keras'); --model says it, too",
    )
    add(
        "--weights",
        metavar="FILE|NAME",
        help="a weight file of any known format, a checkpoint, or a name from "
        "`python -m resnet_np.weights list`",
    )
    add(
        "--unfreeze",
        choices=[stage for stage in STAGES if stage != "pool"],
        help="first stage to train (default: fc, the head alone; stem trains everything)",
    )
    add(
        "--recalibrate",
        action="store_true",
        help="make batch-norm statistics those of the images, features unchanged (needs weights "
        "and --unfreeze)",
    )
    add("--head", metavar="N,...", type=counts, help="hidden layers of the head, such as 256,128")
    add("--dropout", metavar="P", type=probability, help="in the head (default: 0)")
    add("--epochs", metavar="N", type=count, help="in all, resumed ones included (default: 20)")
    add("--batch-size", metavar="N", type=count, help="default: 32")
    add("--optimizer", choices=sorted(OPTIMIZERS), help="default: adam")
    add(
        "--lr",
        metavar="X",
        type=rate,
        help="learning rate (default: by optimizer, less for the trunk)",
    )
    add("--head-lr", metavar="X", type=rate, help="another one for the head")
    add(
        "--image-size",
        metavar="PIXELS",
        type=at_least(SMALLEST_IMAGE),
        help="default: what the weights expect",
    )
    add("--seed", metavar="N", type=seed, help="default: 0")
    add("--device", choices=DEVICES, help="default: cpu")
    add(
        "--precision",
        choices=PRECISIONS,
        help="on a GPU: of matrix products (tf32), or of all activations (bf16, fp16), with "
        "parameters in float32 (default: fp32)",
    )
    add("--out", metavar="DIR", help="for the results (default: a new runs/NAME-NUMBER)")
    add(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="compute the frozen features anew in every epoch; same result, more slowly",
    )
    add("--resume", metavar="CHECKPOINT", help="go on with this run, up to --epochs")
    return parser


def main() -> None:
    """Read the arguments and run. Raises UserError."""
    given: dict[str, Any] = vars(make_parser().parse_args())

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
