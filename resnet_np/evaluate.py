"""How right a network is: `python -m resnet_np.evaluate WEIGHTS --data FOLDER|TABLE`.

WEIGHTS are a checkpoint of `python -m resnet_np.finetune`, or any weight file that has a head.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_np.command import Parser, path_of, run_command, writable
from resnet_np.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import Console

    from resnet_np.data.sources import Entry, Listing
    from resnet_np.training.evaluating import Answers


def make_parser() -> Parser:
    """The arguments of the command."""
    from resnet_np.data.images import TTA
    from resnet_np.device import DEVICES, PRECISIONS
    from resnet_np.models.resnet import VARIANTS

    parser = Parser(
        prog="python -m resnet_np.evaluate",
        description="Classify all images of a folder or table, and say how many answers are right: "
        "as a whole, for each class, and for each group of images.",
    )
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", type=path_of("weight file"), help="a checkpoint, a weight "
        "file, or a name from `python -m resnet_np.weights list`")  # fmt: skip
    add("--data", metavar="FOLDER|TABLE", type=path_of("folder or table"), required=True,
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv with the "
        "columns path and label")  # fmt: skip
    add("--split", choices=("train", "validation", "test"), help="only these (default: all)")
    add("--names", metavar="FILE", type=path_of("file"), help="what the classes in the data are "
        "called, where they are numbers or n01440764: LOC_synset_mapping.txt, "
        "imagenet_class_index.json, or a name in each line")  # fmt: skip
    add("--group", metavar="COLUMN", help="of a table: judge each of its values by itself, too")
    add(
        "--csv",
        metavar="FILE",
        type=path_of("file"),
        help="write each answer there, with probabilities",
    )
    add("--variant", choices=VARIANTS, help="of a weight file that cannot tell: v1.5 "
        "(torchvision's, timm's, Hugging Face's) or v1 (Keras')")  # fmt: skip
    add("--tta", choices=TTA, default="none", help="look at each image several times: at its "
        "mirror image, too, or at ten crops (default: none)")  # fmt: skip
    add("--device", choices=DEVICES, default="cpu", help="where to compute (default: cpu)")
    add("--precision", choices=PRECISIONS, default="fp32", help="of the "
        "arithmetic on a GPU (default: fp32)")  # fmt: skip
    return parser


def main() -> None:
    """Read the arguments and print the figures. Raises UserError."""
    arguments = make_parser().parse_args()

    if arguments.csv:
        writable("--csv", arguments.csv)

    from rich.console import Console

    from resnet_np.training.evaluating import write_answers

    entries, groups = choose(arguments)
    answers = answer(arguments, entries, Console(stderr=True))
    show(answers, groups, Console())
    if arguments.csv:
        write_answers(Path(arguments.csv), answers)
        print(f"written to {arguments.csv}")


def choose(arguments: "Namespace") -> tuple[tuple["Entry", ...], tuple[str, ...] | None]:
    """The images to look at, and each one's group."""
    from resnet_np.data.sources import list_source

    listing = list_source(arguments.data)
    entries, columns = listing.entries, listing.columns
    kept = [i for i, e in enumerate(entries) if arguments.split in (None, e.split)]
    if not kept:
        raise _nothing_in(listing, arguments)
    for entry in (entries[i] for i in kept):
        if entry.line is not None and not entry.path.is_file():
            raise UserError(f"{arguments.data}, line {entry.line}: no such file: {entry.path}")
    groups = None
    if arguments.group:
        if arguments.group not in columns:
            there = f"it has {', '.join(columns)}" if columns else "only a table has further ones"
            raise UserError(f"--group {arguments.group}: {arguments.data} has no such column; "
                            f"{there}")  # fmt: skip
        groups = tuple(columns[arguments.group][i] for i in kept)
    return tuple(entries[i] for i in kept), groups


def _nothing_in(listing: "Listing", arguments: "Namespace") -> UserError:
    """What to say where there is no image to look at."""
    if not listing.entries:
        return UserError(f"{arguments.data}: no images in its class folders; fill them")
    there = f"; it has {', '.join(listing.splits)}" if listing.splits else (
        ", which is not split into train, val and test; leave --split out"
    )  # fmt: skip
    return UserError(f"--split {arguments.split}: no such images in {arguments.data}{there}")


def answer(arguments: "Namespace", entries: tuple["Entry", ...], console: "Console") -> "Answers":
    """What the network says of these images."""
    from resnet_np.data.class_names import read_class_names
    from resnet_np.training import report
    from resnet_np.training.evaluating import Answers, label_entries
    from resnet_np.training.predictor import Predictor

    where = arguments.device, arguments.precision
    predictor = Predictor(arguments.weights, arguments.variant, *where, arguments.tta)
    names = read_class_names(arguments.names) if arguments.names else None
    try:
        labels = label_entries(entries, predictor.classes, names)
    except UserError as error:
        raise UserError(f"{arguments.data}: {error}") from None
    if (labels < 0).all():
        raise UserError(f"{arguments.data}: no image in it has a label; "
                        "python -m resnet_np.predict answers without")  # fmt: skip
    with report.bars(console, passing=True) as bars:
        task = bars.add_task("images", total=len(entries), figures="")
        predictor.advance = lambda done: bars.advance(task, done)
        logits = predictor.logits([entry.path for entry in entries])
    return Answers(entries, logits, labels, predictor.classes)


def show(answers: "Answers", groups: tuple[str, ...] | None, console: "Console") -> None:
    """Print the tables: of all images, each class, each group."""
    from resnet_np.training import report
    from resnet_np.training.metrics import judge, judge_groups

    figures = judge(answers.logits, answers.labels)
    report.print_all_figures(console, figures, answers.classes)
    if groups is not None:
        found = judge_groups(answers.logits, answers.labels, groups)
        report.print_figures(console, found, {name: f.images for name, f in found.items()})
    unlabelled = int((answers.labels < 0).sum())
    if unlabelled:
        console.print(f"{unlabelled} images without a label: answered, but not counted")


if __name__ == "__main__":
    sys.exit(run_command(main))
