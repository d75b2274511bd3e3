"""Known mistakes are named, and nothing else is."""

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.folders import Samples
from resnet_np.data.loader import ArrayImages, FolderImages
from resnet_np.training.lint import examine
from resnet_np.training.options import Options, Phase
from resnet_np.weights import PLAIN

DIGITS = ArrayImages(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2), tuple("0123456789"))
PETS = ArrayImages(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2), ("cat", "dog", "a"))


def lint(images=PETS, **given) -> str:
    return "\n".join(examine(Options(**given), {"train": images}))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"unfreeze": "layer4"},
        {"unfreeze": "layer4", "lr": 1e-4, "head_lr": 1e-2},
        {"unfreeze": "stem", "model": "resnet50", "lr": 0.1},  # from random weights
        {"phases": (Phase("fc", 2), Phase("layer4", 2, lr=1e-4))},
        {"phases": (Phase("fc", 2), Phase("layer4", 2))},
        {"augment": "RandomHorizontalFlip()"},
        {"lr": 0.5},
    ],
)
def test_nothing_is_said_of_what_is_right(given):
    assert lint(**given) == ""


@pytest.mark.parametrize(
    "given",
    [
        {"unfreeze": "layer4", "lr": 1e-3},
        {"unfreeze": "layer4", "lr": 1e-2, "head_lr": 1e-3},
        {"phases": (Phase("fc", 2), Phase("layer4", 2)), "lr": 1e-3},
        {"phases": (Phase("fc", 2, lr=1e-3), Phase("layer3", 2, lr=1e-3))},
    ],
)
def test_unfreezing_without_a_lower_rate(given):
    assert "is unfrozen with a learning rate of" in lint(**given)


@pytest.mark.parametrize(
    ("augment", "wrong"),
    [
        ("RandomHorizontalFlip()", True),
        ("KerasAffine(rotation_range=90)", True),
        ("KerasAffine(rotation_range=15)", False),
        ("RandomRotation(180)", True),
        ("RandomRotation(15)", False),
    ],
)
def test_signs_in_the_mirror(augment, wrong):
    said = lint(DIGITS, augment=augment)
    assert ("makes other signs of classes such as 0, 1, 2, 3 and 6 more" in said) == wrong
    assert lint(PETS, augment=augment) == ""


@pytest.fixture
def files(tmp_path):
    def make(side: int, size: int, name: str = "a.png") -> FolderImages:
        path = tmp_path / name
        Image.new("RGB", (side, side + 9)).save(path)
        return FolderImages(Samples((path,), np.array([0]), ("a", "b")), PLAIN, size)

    return make


def test_small_images_in_a_large_network(files):
    assert "images of 32 pixels are shown to the network as 224" in lint(files(32, 224))
    assert "as 224: 49 times the work of --image-size 32, for pixels" in lint(files(32, 224))
    assert "as 224: 5 times the work of --image-size 100, for pixels" in lint(files(100, 224))
    assert lint(files(113, 224)) == lint(files(32, 32)) == lint(files(16, 32)) == ""
    broken = files(32, 224)
    broken.paths[0].write_bytes(b"no image")
    assert lint(broken) == ""


def test_test_images_that_choose(files, tmp_path):
    validation, test = files(64, 64, "a.png"), files(64, 64, "b.png")
    splits = {"train": files(64, 64, "c.png"), "validation": validation, "test": test}
    assert examine(Options(), splits) == []
    test.paths[0].unlink()
    test.paths[0].symlink_to(validation.paths[0])
    (said,) = examine(Options(), splits)
    assert said.startswith("1 of the 1 test images are used for validation, too")
