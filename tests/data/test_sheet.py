"""The sheet shows each image, and what the transforms make of it, where it says so."""

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.sheet import LINE, MARGIN, augment, draw_sheet, measure_sheet
from resnet_np.data.transforms import (
    CenterCrop,
    CutMix,
    MixUp,
    RandomHorizontalFlip,
    RandomResizedCrop,
    batch_rng,
    image_rng,
    split_steps,
)
from resnet_np.errors import UserError


def images(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, size, 3), np.uint8) for size in sizes]


def test_an_image_is_changed_by_its_own_place_and_epoch():
    crop, (a, b) = RandomResizedCrop(8), images(20, 30)
    views = augment([a, b], [7, 3], [crop], seed=1, epoch=2)
    assert np.array_equal(views[0], crop(a, image_rng(1, 2, 7)))
    assert np.array_equal(views[1], crop(b, image_rng(1, 2, 3)))


@pytest.mark.parametrize("mix", [MixUp(), CutMix()], ids=repr)
def test_mixed_images_are_bytes_again(mix):
    pair = images(8, 8)
    views = augment(pair, [0, 1], [mix], seed=4, epoch=5)
    x = np.stack(pair).astype(np.float32)
    expected, _ = mix(x, np.eye(2, dtype=np.float32), batch_rng(4, 5, 0))
    assert views[0].dtype == np.uint8
    assert np.abs(np.stack(views) - expected).max() <= 0.5
    assert not np.array_equal(views, pair)


def test_images_of_several_sizes_are_not_mixed():
    with pytest.raises(UserError, match="MixUp needs images of one size; end the others with Rand"):
        augment(images(8, 9), [0, 1], [MixUp()], 0, 0)
    assert len(augment(images(8, 9), [0, 1], [CenterCrop(4), MixUp()], 0, 0)) == 2


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
