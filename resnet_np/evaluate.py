"""How right a network is: `python -m resnet_np.evaluate WEIGHTS --data FOLDER|TABLE`.

WEIGHTS are a checkpoint of `python -m resnet_np.finetune`, or any weight file that has a head.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_np.command import Parser, run_command, writable
from resnet_np.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import Console

    from resnet_np.data.sources import Entry
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
    add("weights", metavar="WEIGHTS", help="a checkpoint, a weight file, or a published name")
    add("--data", metavar="FOLDER|TABLE", required=True, help="class folders, with or without "
        "train/, val/, test/; or a .csv or .tsv with the columns path and label")  # fmt: skip
    add("--split", choices=("train", "validation", "test"), help="only these (default: all)")
    add("--names", metavar="FILE", help="what the classes in the data are called, where they are "
        "numbers or n01440764: LOC_synset_mapping.txt, imagenet_class_index.json")  # fmt: skip
    add("--group", metavar="COLUMN", help="of a table: judge each of its values by itself, too")
    add("--csv", metavar="FILE", type=Path, help="write each answer there, with probabilities")
    add("--variant", choices=VARIANTS, help="of a weight file that cannot tell")
    add("--tta", choices=TTA, default="none", help="look at each image several times: at its "
        "mirror image, too, or at ten crops (default: none)")  # fmt: skip
    add("--device", choices=DEVICES, default="cpu", help="default: cpu")
    add("--precision", choices=PRECISIONS, default="fp32", help="on a GPU (default: fp32)")
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
        write_answers(arguments.csv, answers)
        print(f"written to {arguments.csv}")


def choose(arguments: "Namespace") -> tuple[tuple["Entry", ...], tuple[str, ...] | None]:
    """The images to look at, and each one's group."""
    from resnet_np.data.sources import list_source

    listing = list_source(arguments.data)
    entries, columns = listing.entries, listing.columns
    kept = [i for i, e in enumerate(entries) if arguments.split in (None, e.split)]
    if not kept:
        raise UserError(f"--split {arguments.split}: {arguments.data} has no such images")
    groups = None
    if arguments.group:
        if arguments.group not in columns:
            there = f"it has {', '.join(columns)}" if columns else "only a table has further ones"
            raise UserError(f"--group {arguments.group}: {arguments.data} has no such column; "
                            f"{there}")  # fmt: skip
        groups = tuple(columns[arguments.group][i] for i in kept)
    return tuple(entries[i] for i in kept), groups


def answer(arguments: "Namespace", entries: tuple["Entry", ...], console: "Console") -> "Answers":
    """What the network says of these images."""
    from resnet_np.data.class_names import read_class_names
    from resnet_np.training import report
    from resnet_np.training.evaluating import Answers, label_entries
    from resnet_np.training.predictor import Predictor

    where = arguments.device, arguments.precision
    predictor = Predictor(arguments.weights, arguments.variant, *where, arguments.tta)
    names = read_class_names(arguments.names) if arguments.names else None
    labels = label_entries(entries, predictor.classes, names)
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
