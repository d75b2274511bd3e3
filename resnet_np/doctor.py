"""Look at images before training does: `python -m resnet_np.doctor --data FOLDER|TABLE`.

Exit status: 0 if nothing was found, 1 if something was, 2 for bad arguments.
"""

import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from resnet_np.command import Parser, at_least, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_np.data.doctor import Diagnosis

SHOWN = 3  # findings of one kind on the screen


def make_parser() -> Parser:
    """The arguments of the command."""
    from resnet_np.models.resnet import SMALLEST_IMAGE

    parser = Parser(
        prog="python -m resnet_np.doctor",
        description="Look at every image of a data set and say what is wrong with which: damaged, "
        "turned or tiny images, copies, the same image for training and testing, unequal classes. "
        "No file is changed. Exit status: 0 if nothing was found, 1 if something was.",
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="FOLDER|TABLE",
        required=True,
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv file with the "
        "columns path, label and, if it says so, split",
    )
    add(
        "--image-size",
        metavar="PIXELS",
        type=at_least(SMALLEST_IMAGE),
        default=224,
        help="of the network's input, to find images that are too small (default: 224)",
    )
    add("--json", metavar="FILE", help="write everything that was found to this file")
    return parser


def main() -> None:
    """Read the arguments, look, print a table. Raises UserError; leaves with 1 for findings."""
    arguments = make_parser().parse_args()

    from rich.console import Console

    from resnet_np.data.doctor import examine
    from resnet_np.training import report
    from resnet_np.weights.atomic import atomic_file

    with (
        # Opened first: where it cannot be written is said before the work, not after.
        atomic_file(arguments.json) if arguments.json is not None else nullcontext() as file,
        report.bars(Console(stderr=True), passing=True) as bars,
    ):
        task = bars.add_task("images", total=None, figures="")
        diagnosis = examine(
            arguments.data,
            arguments.image_size,
            begin=lambda count: bars.update(task, total=count),
            advance=lambda done: bars.advance(task, done),
        )
        if file is not None:
            file.write(f"{json.dumps(diagnosis.to_record(), indent=1)}\n".encode())
    show(diagnosis, Console())
    if diagnosis.findings:
        sys.exit(1)


def show(diagnosis: "Diagnosis", console: "Console") -> None:
    """How many images there are, and a table with one row for each kind of finding."""
    from rich.table import Table
    from rich.text import Text

    from resnet_np.data.doctor import KINDS
    from resnet_np.errors import one_line

    print(one_line(summary(diagnosis)))
    if not diagnosis.findings:
        print("Nothing was found.")
        return
    table = Table("times", show_lines=True)
    table.add_column("found, and what to do", ratio=2)
    table.add_column("where", overflow="fold", ratio=3)  # paths are shown whole
    for kind, (title, advice) in KINDS.items():
        lines = [
            one_line(f"{' = '.join(found.paths)} ({found.detail})".strip().removesuffix(" ()"))
            for found in diagnosis.findings
            if found.kind == kind
        ]
        if lines:
            more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            where = Text("\n".join([*lines[:SHOWN], *more]))
            table.add_row(str(len(lines)), f"{title}: {advice}", where)
    console.print(table)
    print(f"{len(diagnosis.findings)} findings; --json FILE writes all of them to a file.")


def summary(diagnosis: "Diagnosis") -> str:
    """One line: how many images of which kind."""
    classes = next(iter(diagnosis.counts.values()))
    parts = [f"{sum(n.values())} {split}" for split, n in diagnosis.counts.items()]
    return (
        f"{diagnosis.source}: {diagnosis.images} images in {len(classes)} classes "
        f"({', '.join(parts)}), {diagnosis.unlabelled} unlabelled"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
