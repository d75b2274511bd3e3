"""A sheet of pictures: images as they are, and beside them what the transforms make of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN = 4  # pixels around each picture
LINE = 16  # height of a line of text
LETTER = 7  # the width of most letters


def measure_sheet(columns: int, rows: int, size: int) -> tuple[int, int]:
    """Width and height. Raises UserError for a sheet so large that Pillow would not open it."""
    from PIL import Image

    step = size + 2 * MARGIN
    w, h = columns * step, LINE + rows * (step + LINE)
    if Image.MAX_IMAGE_PIXELS is not None and w * h > Image.MAX_IMAGE_PIXELS:
        raise UserError(
            f"the sheet would have {w} x {h} pixels, too many for most programs; choose smaller "
            "--images, --epochs or --size"
        )
    return w, h


def draw_sheet(
    columns: Sequence[Sequence[np.ndarray]],
    headings: Sequence[str],
    names: Sequence[str],
    size: int,
) -> "Image":
    """Columns of pictures under their headings, each in a square of `size` pixels.

    names: of the rows; each stands below the first picture of its row.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    step = size + 2 * MARGIN
    sheet = Image.new("RGB", measure_sheet(len(columns), len(names), size), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    letters = step // LETTER
    for i, (heading, column) in enumerate(zip(headings, columns, strict=True)):
        pen.text((i * step + MARGIN, 0), heading[:letters], "black", font)
        for j, picture in enumerate(column):
            cell = ImageOps.pad(Image.fromarray(picture), (size, size), color="white")
            sheet.paste(cell, (i * step + MARGIN, LINE + j * (step + LINE) + MARGIN))
    for j, name in enumerate(names):
        top = LINE + (j + 1) * (step + LINE) - LINE
        pen.text((MARGIN, top), one_line(name)[-letters:], "black", font)
    return sheet
