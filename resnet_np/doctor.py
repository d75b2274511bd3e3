"""Look at images before training does: `python -m resnet_np.doctor --data FOLDER|TABLE`.

Exit status: 0 if nothing was found, 1 if something was, 2 for bad arguments.
"""

import json
import sys
from contextlib import nullcontext

from resnet_np.command import Parser, at_least, path_of, run_command, writable


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
        type=path_of("folder or table"),
        required=True,
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv file with the "
        "columns path, label and, if it says so, split",
    )
    add(
        "--image-size",
        metavar="PIXELS",
        type=at_least(SMALLEST_IMAGE),
        default=224,
        help="side of the squares that the network will see, to find images that are too small "
        "(default: 224)",
    )
    add(
        "--json",
        metavar="FILE",
        type=path_of("file"),
        help="write everything that was found to this file",
    )
    return parser


def main() -> None:
    """Read the arguments, look, print a table. Raises UserError; leaves with 1 for findings."""
    arguments = make_parser().parse_args()
    if arguments.json is not None:
        writable("--json", arguments.json)

    from rich.console import Console

    from resnet_np.data.doctor import examine
    from resnet_np.training import report
    from resnet_np.weights.atomic import atomic_file

    with (
        # Opened first: where it cannot be written is said before the work, not after.
        atomic_file(arguments.json) if arguments.json is not None else nullcontext() as file,
        report.bars(Console(stderr=True), passing=True) as bars,
    ):
        task = bars.add_task("images", total=0, figures="")
        diagnosis = examine(
            arguments.data,
            arguments.image_size,
            begin=lambda count: bars.update(task, total=count),
            advance=lambda done: bars.advance(task, done),
        )
        if file is not None:
            file.write(f"{json.dumps(diagnosis.to_record(), indent=1)}\n".encode())
    report.print_diagnosis(Console(), diagnosis)
    if diagnosis.findings:
        print(f"{len(diagnosis.findings)} findings; --json FILE writes all of them to a file.")
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(run_command(main))
