"""The sheet shows each image, and what the transforms make of it, where it says so."""

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.sheet import LINE, MARGIN, draw_sheet, measure_sheet
from resnet_np.data.transforms import (
    CenterCrop,
    CutMix,
    MixUp,
    RandomHorizontalFlip,
    split_steps,
)
from resnet_np.errors import UserError


def images(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, size, 3), np.uint8) for size in sizes]


def test_batches_are_mixed_last():
    each, mixing = split_steps([CenterCrop(4), RandomHorizontalFlip(), MixUp(), CutMix()])
    assert [*each.transforms] == [CenterCrop(4), RandomHorizontalFlip()]
    assert mixing == [MixUp(), CutMix()]
    with pytest.raises(UserError, match=r"MixUp mixes whole .*: it must stand behind CenterCrop"):
        split_steps([MixUp(), CenterCrop(4)])


def test_pictures_lie_in_their_cells():
    colours = np.arange(6, dtype=np.uint8).reshape(3, 2) * 40  # columns, rows
    columns = [[np.full((9, 9, 3), c, np.uint8) for c in column] for column in colours]
    sheet = draw_sheet(columns, ["as it is", "1", "2"], ["a", "b"], 32)
    assert sheet.size == measure_sheet(3, 2, 32)
    pixels, step = np.asarray(sheet), 32 + 2 * MARGIN
    for i, column in enumerate(colours):
        for j, colour in enumerate(column):
            top, left = LINE + j * (step + LINE) + MARGIN, i * step + MARGIN
            assert (pixels[top : top + 32, left : left + 32] == colour).all()
    assert pixels[:LINE].min() < 128  # headings
    assert pixels[LINE + step : LINE + step + LINE, :step].min() < 128  # a name
    assert pixels[LINE + step : LINE + step + LINE, step:].min() == 255


def test_pictures_keep_their_proportion():
    wide = np.zeros((10, 40, 3), np.uint8)
    cell = np.asarray(draw_sheet([[wide]], [""], [""], 32))[LINE + MARGIN :, MARGIN:][:32, :32, 0]
    assert (cell[12:20] == 0).all()
    assert cell[:11].min() == cell[21:].min() == 255


def test_names_of_any_kind():
    names = ["a\nb", "caf\xe9 \udcff", "\u732b", "n" * 300, ""]
    picture = images(4) * len(names)
    assert draw_sheet([picture], ["x"], names, 32).size == measure_sheet(1, len(names), 32)


def test_a_sheet_that_is_too_large():
    with pytest.raises(UserError, match="too many for most programs; choose smaller --images"):
        measure_sheet(1000, 1000, 160)
    assert Image.MAX_IMAGE_PIXELS is not None
