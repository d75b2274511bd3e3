"""Look at augmented images: `python -m resnet_np.augment --data FOLDER|TABLE`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from resnet_np.command import Parser, at_least, count, path_of, run_command, seed, writable
from resnet_np.errors import UserError

DEFAULT = "RandomResizedCrop(224), RandomHorizontalFlip()"


def make_parser() -> Parser:
    """The arguments of the command. Its help lists every transform."""
    from resnet_np.models.resnet import SMALLEST_IMAGE
    from resnet_np.weights.contract import FITS

    parser = Parser(
        prog="python -m resnet_np.augment",
        description="Draw a sheet of images, each beside what random transforms make of it in the\n"
        "first epochs, to see whether one would still know what they show.",
        epilog=describe_transforms(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER|TABLE", type=path_of("folder or table"), required=True,
        help="images, in folders of any kind; or a .csv or .tsv with the columns path and label",
    )  # fmt: skip
    add(
        "--augment",
        metavar="LIST",
        default=DEFAULT,
        help=f"what to do, in this order (default: '{DEFAULT}')",
    )
    add(
        "--image-size",
        metavar="PIXELS",
        type=at_least(SMALLEST_IMAGE),
        default=224,
        help="side of the squares that the network sees (default: 224)",
    )
    add(
        "--fit",
        choices=FITS,
        default="crop",
        help="for transforms that choose no part of their own: the middle of each image, or the "
        "whole one, stretched (default: crop)",
    )
    add("--images", metavar="N", type=count, default=6, help="rows of the sheet (default: 6)")
    add("--epochs", metavar="N", type=count, default=7, help="columns beside them (default: 7)")
    add("--size", metavar="PIXELS", type=at_least(32), default=160, help="of each (default: 160)")
    add("--seed", metavar="N", type=seed, default=0, help="of images and changes (default: 0)")
    add("--out", metavar="FILE", type=path_of("file"), default="sheet.png", help="the picture to "
        "write (default: sheet.png)")  # fmt: skip
    return parser


def describe_transforms() -> str:
    """Every transform that can be named, with its arguments and their defaults."""
    from dataclasses import MISSING, fields

    from resnet_np.data.transforms import TRANSFORMS

    lines = ["transforms, with their arguments and defaults (MixUp and CutMix come last):"]
    for name, kind in TRANSFORMS.items():
        arguments = [
            field.name if field.default is MISSING else f"{field.name}={_short(field.default)}"
            for field in fields(kind)  # type: ignore[arg-type]
        ]
        what = (kind.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
        lines.append(f"  {name}({', '.join(arguments)})\n      {what}")
    lines.append("\nexample:\n  python -m resnet_np.augment --data photos --augment \\")
    lines.append("    'RandomResizedCrop(224, scale=(0.5, 1)), ColorJitter(0.3, 0.3), MixUp(0.2)'")
    return "\n".join(lines)


def _short(value: object) -> str:
    """Numbers with few digits: 4 / 3 is 1.33."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _paths(source: str) -> list[Path]:
    """The image files below a folder, or those that a table names. Raises UserError."""
    from resnet_np.data.folders import list_images
    from resnet_np.data.tables import is_table, read_table

    return (
        [row.path for row in read_table(source).rows] if is_table(source) else list_images(source)
    )


def main() -> None:
    """Read the arguments and draw. Raises UserError."""
    arguments = make_parser().parse_args()
    out = Path(arguments.out)
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the sheet is a PNG; give it a name that ends in .png")
    writable("--out", out)

    import numpy as np

    from resnet_np.data.augmented import AugmentedImages
    from resnet_np.data.folders import Samples
    from resnet_np.data.loader import FolderImages
    from resnet_np.data.sheet import draw_sheet, measure_sheet
    from resnet_np.data.transforms import parse
    from resnet_np.weights import TORCHVISION
    from resnet_np.weights.atomic import atomic_file

    paths = _paths(arguments.data)
    contract = replace(TORCHVISION, fit=arguments.fit)
    unlabelled = Samples(tuple(paths), np.zeros(len(paths), np.int64), ("",))
    images = FolderImages(unlabelled, contract, arguments.image_size)
    try:
        augmented = AugmentedImages(images, parse(arguments.augment), arguments.seed)
    except UserError as error:
        raise UserError(f"--augment: {error}") from None
    rows = min(arguments.images, len(paths))
    measure_sheet(1 + arguments.epochs, rows, arguments.size)
    rng = np.random.default_rng(arguments.seed)
    indices = np.sort(rng.choice(len(paths), rows, replace=False))
    columns = [[images.whole(i) for i in indices]]
    for epoch in range(arguments.epochs):
        columns.append([*augmented.at(epoch).read(indices)])
    headings = ["as it is", *(f"epoch {epoch + 1}" for epoch in range(arguments.epochs))]
    names = [f"{paths[i].parent.name}/{paths[i].name}" for i in indices]
    sheet = draw_sheet(columns, headings, names, arguments.size)
    with atomic_file(out) as file:
        sheet.save(file, format="png")
    print(f"{out}: {rows} image(s), {arguments.epochs} epoch(s), {sheet.width} x {sheet.height}")


if __name__ == "__main__":
    sys.exit(run_command(main))
