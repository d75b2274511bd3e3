"""The pictures are PNG files, and whole."""

import numpy as np
import pytest
from PIL import Image

from resnet_np.errors import UserError
from resnet_np.training.plots import draw_confusion, draw_curves, save_png, to_svg

HISTORY = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 1 - 1 / epoch,
        "validation_loss": 1.1 / epoch,
        "validation_accuracy": 0.9 - 0.9 / epoch,
    }
    for epoch in (1, 2, 3)
]


def test_curves(tmp_path):
    save_png(draw_curves(HISTORY), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] > 500
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("k", [2, 40])
def test_confusion(tmp_path, k):
    classes = tuple(f"class {i}" for i in range(k))
    figure = draw_confusion(np.eye(k, dtype=int) * 3, classes, "test images")
    save_png(figure, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        diagonal_is_dark = np.asarray(image.convert("L")).min() < 100
    assert diagonal_is_dark


def test_classes_of_any_name(tmp_path):
    classes = ("$^^$", "\udcff\udcfe", "\u72ac", "a_b\\frac{", "x" * 40, "line\nbreak")
    figure = draw_confusion(np.eye(6, dtype=int), classes, "test images")
    save_png(figure, tmp_path / "confusion.png")
    assert to_svg(figure).startswith("<svg")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"curves\.png: cannot be written: there is no folder"):
        save_png(draw_curves(HISTORY), tmp_path / "nowhere" / "curves.png")
