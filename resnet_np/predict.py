"""What a network says about images: `python -m resnet_np.predict WEIGHTS IMAGE...`.

WEIGHTS are a checkpoint of `python -m resnet_np.finetune`, or any weight file that has a head.

With `--similar FOLDER`, the images of a folder that are nearest by feature instead.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_np.command import Parser, path_of, run_command, writable
from resnet_np.errors import UserError

if TYPE_CHECKING:
    from resnet_np.training.predictor import Predictor

SHOWN = 5


def make_parser() -> Parser:
    """The arguments of the command."""
    from resnet_np.data.images import TTA
    from resnet_np.device import DEVICES, PRECISIONS
    from resnet_np.models.resnet import VARIANTS

    parser = Parser(
        prog="python -m resnet_np.predict",
        description="Classify images with a checkpoint of `python -m resnet_np.finetune`, or with "
        "any weight file that has a head.",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        type=path_of("weight file"),
        help="a checkpoint, a weight file, or a name from `python -m resnet_np.weights list`",
    )
    parser.add_argument(
        "images",
        metavar="IMAGE",
        type=path_of("file"),
        nargs="+",
        help="an image file; with --csv also a folder, for all images in it",
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        help="of a weight file that cannot tell: v1.5 (torchvision's, timm's, Hugging Face's) or "
        "v1 (Keras')",
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="where to compute (default: cpu)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of the arithmetic on a GPU (default: fp32)",
    )
    parser.add_argument(
        "--tta",
        choices=TTA,
        default="none",
        help="look at each image several times: at its mirror image, too, or at ten crops "
        "(default: none)",
    )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        type=path_of("file"),
        help="write the answers there, with all probabilities",
    )
    parser.add_argument(
        "--similar",
        metavar="FOLDER",
        type=path_of("folder"),
        help="show the images in FOLDER that look most alike",
    )
    return parser


def main() -> None:
    """Read the arguments and print the answers. Raises UserError."""
    arguments = make_parser().parse_args()
    from resnet_np.data.folders import list_images

    if arguments.csv is not None:
        if arguments.similar is not None:
            raise UserError("--csv: has the answers of a classifier; leave it or --similar out")
        writable("--csv", arguments.csv)
    images: list[str] = []
    for image in arguments.images:
        if not os.path.isdir(image):
            images.append(image)
        elif arguments.csv is not None:
            images += map(str, list_images(image))
        else:
            raise UserError(
                f"{image}: a folder, not an image; name the images in it, say --csv FILE to have "
                f"all of them answered there, or --similar {image} to look for the ones in it that "
                "are like an image"
            )

    from rich.console import Console

    from resnet_np.training import report
    from resnet_np.training.predictor import Predictor

    folder = [str(path) for path in list_images(arguments.similar)] if arguments.similar else []
    count = len(images) + len(folder)
    where = arguments.device, arguments.precision
    # It shows a bar if it downloads.
    predictor = Predictor(arguments.weights, arguments.variant, *where, arguments.tta)
    with report.bars(Console(stderr=True), passing=True) as bars:
        task = bars.add_task("images", total=count, figures="")
        predictor.advance = lambda done: bars.advance(task, done)
        began = time.perf_counter()
        if arguments.csv is not None:
            lines = write_csv(predictor, images, Path(arguments.csv))
        elif arguments.similar is None:
            lines = classify(predictor, images)
        else:
            lines = find_similar(predictor, images, folder)
        seconds = time.perf_counter() - began
    print("\n".join(lines))
    print(f"{count} image(s) in {seconds:.2f} s, {1000 * seconds / count:.0f} ms each")


def classify(predictor: "Predictor", images: Sequence[str]) -> list[str]:
    """For each image its name, and the most probable classes with their probabilities."""
    lines = []
    for image, probabilities in zip(images, predictor.probabilities(images), strict=True):
        lines.append(image)
        best = (-probabilities).argsort(kind="stable")[:SHOWN]
        lines += [f"  {probabilities[k]:7.2%}  {predictor.classes[k]}" for k in best]
    return lines


def write_csv(predictor: "Predictor", images: Sequence[str], path: Path) -> list[str]:
    """Write a line for each image, see `write_answers`; the line to show."""
    import numpy as np

    from resnet_np.data.sources import Entry
    from resnet_np.data.tables import UNLABELLED
    from resnet_np.training.evaluating import Answers, write_answers

    entries = tuple(Entry(Path(image), image, None, None) for image in images)
    unknown = np.full(len(images), UNLABELLED)
    write_answers(path, Answers(entries, predictor.logits(images), unknown, predictor.classes))
    return [f"written to {path}"]


def find_similar(predictor: "Predictor", images: Sequence[str], folder: list[str]) -> list[str]:
    """For each image its name, and the images of the folder with the largest cosine to it.

    An image that lies in the folder itself is not listed as similar to itself.
    """
    cosines = predictor.features(images) @ predictor.features(folder).T  # [n, C] @ [C, m]
    lines = []
    for image, row in zip(images, cosines, strict=True):
        lines.append(image)
        best = [j for j in (-row).argsort(kind="stable") if not os.path.samefile(image, folder[j])]
        lines += [f"  {row[j]:7.4f}  {folder[j]}" for j in best[:SHOWN]]
    return lines


if __name__ == "__main__":
    sys.exit(run_command(main))
