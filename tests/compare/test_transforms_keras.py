"""KerasAffine moves pixels as Keras' ImageDataGenerator does, from the same ranges."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp
from transforming import Case, keras_cases, keras_image, made_up, photographs

from resnet_np.data.transforms import KerasAffine, image_rng
from resnet_np.data.transforms.geometry import Motion

# Keras imports it from where scipy had it formerly.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `affine_transform`")

DRAWS = 1500


@pytest.fixture(scope="module")
def photos(test_data: Path) -> list[np.ndarray]:
    return photographs(test_data)[::3]


@pytest.mark.parametrize("case", [*keras_cases()], ids=str)
def test_photographs(case: Case, photos: list[np.ndarray]) -> None:
    for i, image in enumerate(photos):
        assert case.difference(image, image_rng(0, 1, i)) <= case.allowed


@pytest.mark.parametrize("case", [*keras_cases()], ids=str)
def test_images_made_up(case: Case) -> None:
    for i, image in enumerate(made_up() * 3):
        assert case.difference(image, image_rng(0, 2, i)) <= case.allowed


RANGES = [
    {"rotation_range": 30, "width_shift_range": 0.2, "height_shift_range": 0.4},
    {"shear_range": 20, "zoom_range": 0.3},
    {"zoom_range": (0.5, 0.9), "width_shift_range": 4, "height_shift_range": 6.5},
    {"rotation_range": 5, "width_shift_range": 1, "height_shift_range": 1.0},
]


@pytest.mark.parametrize("ranges", RANGES, ids=str)
def test_motions_are_drawn_alike(ranges):
    """But Keras draws the shift along the height for x, and along the width for y."""
    np.random.seed(0)
    generator, ours = keras_image.ImageDataGenerator(**ranges), KerasAffine(**ranges)
    shape = (100, 60)
    drawn = np.array([ours.draw(shape, image_rng(0, 0, i)) for i in range(DRAWS)])
    theirs = [generator.get_random_transform((*shape, 3)) for _ in range(DRAWS)]
    names = ("theta", "ty", "tx", "shear", "zx", "zy")
    for i, name in enumerate(names):
        assert ks_2samp(drawn[:, i], [float(t[name]) for t in theirs]).pvalue > 1e-4


def test_where_keras_differs():
    """What the class says about it: exchanged axes, and a centre beside the middle."""
    generator = keras_image.ImageDataGenerator(width_shift_range=0.4, fill_mode="constant")
    point = np.zeros((9, 9, 3), np.uint8)
    point[4, 4] = 255
    np.random.seed(3)
    moved = generator.apply_transform(
        point.astype(np.float32), generator.get_random_transform((9, 9, 3))
    )
    assert moved[:, [3, 5]].max() == 0
    assert moved[[1, 2, 3, 5, 6, 7], 4].max() > 0
    wide = np.zeros((5, 11, 3), np.uint8)
    wide[2, 5] = 255
    turned = keras_image.apply_affine_transform(
        wide.astype(np.float32), 180, row_axis=0, col_axis=1, channel_axis=2, fill_mode="constant"
    )
    assert turned.max() < 1e-3
    ours = KerasAffine(rotation_range=180, fill_mode="constant").apply(wide, Motion(180))
    assert np.array_equal(ours, wide)
