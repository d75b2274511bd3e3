"""Transforms: what each one does, and that seed, epoch and index alone decide what is drawn."""

import math
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet_np.data.images import decode
from resnet_np.data.loader import load_ahead, split_batches
from resnet_np.data.transforms import (
    TRANSFORMS,
    CenterCrop,
    ColorJitter,
    Compose,
    CutMix,
    KerasAffine,
    MixUp,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Transform,
    batch_rng,
    image_rng,
    make,
    parse,
)
from resnet_np.data.transforms.geometry import Box, Erasure, Motion
from resnet_np.errors import UserError

EVERYTHING = [
    Resize(12),
    Resize((7, 9), "bicubic"),
    CenterCrop((11, 8)),
    RandomResizedCrop(16),
    RandomHorizontalFlip(),
    RandomRotation(30, "bilinear", (1, 2, 3)),
    KerasAffine(20, 0.2, 3, 10, 0.3, "reflect"),
    ColorJitter(0.4, 0.4, 0.4, 0.2),
    RandAugment(3, 20),
    RandomErasing(0.8, value="random"),
]


def noise(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def numbered(h: int, w: int) -> np.ndarray:
    """Each pixel has its own number, the same in three channels."""
    return np.repeat(np.arange(h * w, dtype=np.uint8).reshape(h, w, 1), 3, axis=2)


def draws(transform, shape: tuple[int, int], n: int) -> list:
    return [transform.draw(shape, image_rng(0, 0, i)) for i in range(n)]


# --- seeds ----------------------------------------------------------------------------------------


def first(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


def test_a_generator_for_each_seed_epoch_and_index():
    # Seeds of more than 32 bits are more than one word for NumPy, which must not shift the others.
    seeds, others = (0, 1, 2, 2**32, 2**32 + 1, 2**64), (0, 1, 2, 3)
    makers: tuple[Callable, ...] = (image_rng, batch_rng)
    found = {first(make(s, e, i)) for make in makers for s in seeds for e in others for i in others}
    found |= {first(np.random.default_rng(seed)) for seed in seeds}
    assert len(found) == 2 * 6 * 4 * 4 + 6


def test_the_same_numbers_give_the_same_generator():
    assert first(image_rng(1, 2, 3)) == first(image_rng(1, 2, 3))
    # Runs that are resumed, and seeds that are published, count on it.
    assert image_rng(1, 2, 3).integers(0, 256, 4).tolist() == [39, 78, 131, 236]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(22):
        paths.append(folder / f"{i}.png")
        Image.fromarray(noise(20 + i, 40 - i, i)).save(paths[-1])
    return paths


PIPELINE = Compose([Resize(24), CenterCrop(24), *EVERYTHING[3:], CenterCrop(16)])


def epoch_batches(
    files: list[Path], threads: int, seed: int = 5, epoch: int = 2, batch_size: int = 4
) -> Iterator[np.ndarray]:
    def load(batch: np.ndarray) -> np.ndarray:
        images = [np.asarray(decode(files[i])) for i in batch]
        views = [PIPELINE(x, image_rng(seed, epoch, i)) for x, i in zip(images, batch, strict=True)]
        return np.stack(views)

    order = np.random.default_rng(0).permutation(len(files))
    return load_ahead(load, split_batches(order, batch_size), threads)


@pytest.mark.parametrize("threads", [2, 4, 8])
def test_the_same_batches_with_any_number_of_threads(files, threads):
    one, many = [*epoch_batches(files, 1)], [*epoch_batches(files, threads)]
    assert len(one) == 6
    for a, b in zip(one, many, strict=True):
        assert np.array_equal(a, b)


def test_the_same_images_in_batches_of_any_size(files):
    small = np.concatenate([*epoch_batches(files, 2, batch_size=3)])
    assert np.array_equal(small, np.concatenate([*epoch_batches(files, 2, batch_size=10)]))


@pytest.mark.parametrize("other", [{"seed": 6}, {"epoch": 3}])
def test_other_seeds_and_epochs_are_other_images(files, other):
    one, two = (np.concatenate([*epoch_batches(files, 1, **changed)]) for changed in ({}, other))
    assert all(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


# --- what holds for all of them -------------------------------------------------------------------


@pytest.mark.parametrize("transform", EVERYTHING, ids=repr)
@given(h=st.integers(1, 40), w=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_any_image_any_seed(transform: Transform, h: int, w: int, seed: int) -> None:
    image = noise(h, w, seed)
    before = image.copy()
    image.setflags(write=False)
    new = transform(image, image_rng(seed, 0, 0))
    assert new.dtype == np.uint8
    assert new.ndim == 3
    assert new.shape[2] == 3
    assert np.array_equal(new, transform(image, image_rng(seed, 0, 0)))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("transform", [*EVERYTHING, Compose([])], ids=repr)
@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), noise(4, 4)[..., :1]]
)
def test_what_is_no_image_is_refused(transform, image):
    with pytest.raises(ValueError, match=r"an image is uint8 \[H, W, 3\], not"):
        transform(image, image_rng(0, 0, 0))


def test_transforms_are_plain_data():
    assert RandomRotation(30) == RandomRotation(30) != RandomRotation(31)
    assert len({hash(transform) for transform in EVERYTHING}) == len(EVERYTHING)
    with pytest.raises(FrozenInstanceError):
        RandomRotation(30).degrees = 3  # type: ignore[misc]


def test_composed_ones_share_the_generator_in_turn():
    crop, flip, image = RandomResizedCrop(8), RandomHorizontalFlip(), noise(20, 20)
    rng = image_rng(0, 0, 0)
    by_hand = flip(crop(image, rng), rng)
    assert np.array_equal(Compose([crop, flip])(image, image_rng(0, 0, 0)), by_hand)


# --- geometry -------------------------------------------------------------------------------------


def nothing_random() -> np.random.Generator:
    return image_rng(0, 0, 0)


@pytest.mark.parametrize(
    ("shape", "size", "new"),
    [((10, 25), 4, (4, 10)), ((25, 10), 4, (10, 4)), ((7, 9), (3, 2), (3, 2)), ((5, 5), 8, (8, 8))],
)
def test_resize_keeps_the_proportion_of_the_longer_side(shape, size, new):
    assert Resize(size)(noise(*shape), nothing_random()).shape == (*new, 3)


def test_resize_averages():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 1] = image[:, 2] = 200
    small = Resize((1, 2), "box")(image, nothing_random())
    assert small[..., 0].tolist() == [[100, 100]]


def test_the_centre_is_cut_at_the_even_pixel():
    image = numbered(7, 9)
    # 7 - 2 = 5 rows are left over, 2.5 above: 2. 9 - 2 = 7 columns, 3.5 on the left: 4.
    assert np.array_equal(CenterCrop(2)(image, nothing_random()), image[2:4, 4:6])
    turned = image.swapaxes(0, 1)
    assert np.array_equal(CenterCrop(2)(turned, nothing_random()), turned[4:6, 2:4])


def test_a_small_image_gets_a_black_frame():
    image = np.full((1, 2, 3), 9, np.uint8)
    framed = CenterCrop((4, 3))(image, nothing_random())[..., 0]
    assert framed.tolist() == [[0, 0, 0], [9, 9, 0], [0, 0, 0], [0, 0, 0]]


def test_crops_have_the_areas_and_the_aspects_that_were_asked_for():
    crop = RandomResizedCrop(8, scale=(0.2, 0.4), ratio=(0.5, 2))
    boxes = np.array(draws(crop, (200, 200), 2000))
    top, left, h, w = boxes.T
    assert min(top.min(), left.min()) >= 0
    assert max((top + h).max(), (left + w).max()) <= 200
    area, aspect = h * w / 200**2, w / h
    assert 0.195 < area.min() < 0.21
    assert 0.39 < area.max() < 0.405
    assert 0.49 < aspect.min() < 0.53
    assert 1.9 < aspect.max() < 2.04
    # Uniform: 5 standard errors of the mean are 5 * 0.2 / sqrt(12 * 2000) = 0.0065.
    assert abs(area.mean() - 0.3) < 0.0065
    assert abs(np.log(aspect).mean()) < 5 * 2 * math.log(2) / math.sqrt(12 * 2000)
    # Any place: on average as far from the top as from the bottom.
    assert abs((top - (200 - h - top)).mean()) < 5 * 115 / math.sqrt(2000)


def test_aspects_are_width_by_height_of_crops_and_height_by_width_of_erasures():
    crop, erase = RandomResizedCrop(8, (0.1, 0.2), (2, 3)), RandomErasing(1, (0.1, 0.2), (2, 3))
    assert all(box.width > 1.8 * box.height for box in draws(crop, (100, 100), 50))
    assert all(drawn.box.height > 1.8 * drawn.box.width for drawn in draws(erase, (100, 100), 50))


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((10, 100), Box(0, 43, 10, 13)),  # too wide: 10 * 4/3 = 13 columns; (100 - 13) // 2 = 43
        ((100, 10), Box(43, 0, 13, 10)),  # too high: 10 / (3/4) = 13 rows
        ((1, 1000), Box(0, 499, 1, 1)),
    ],
)
def test_where_no_part_fits_the_largest_around_the_centre_is_cut(shape, box):
    assert RandomResizedCrop(8, scale=(1, 1)).draw(shape, nothing_random()) == box


def test_a_part_has_at_least_one_pixel():
    wide, high = (RandomResizedCrop(8, (1, 1), ratio) for ratio in ((3, 4), (1 / 4, 1 / 3)))
    assert wide.draw((1000, 1), nothing_random()) == Box(499, 0, 1, 1)
    assert high.draw((1, 1000), nothing_random()) == Box(0, 499, 1, 1)


def test_a_part_may_lie_at_every_edge():
    crop = RandomResizedCrop(8, scale=(9 / 16, 9 / 16), ratio=(1, 1))  # 3 x 3 of 4 x 4 pixels
    places = {(box.top, box.left) for box in draws(crop, (4, 4), 100)}
    assert places == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_crop_is_cut_then_resized():
    image = noise(20, 30)
    part = image[3:13, 5:25]
    expected = np.asarray(Image.fromarray(part).resize((6, 4), Image.Resampling.BILINEAR))
    crop = RandomResizedCrop((4, 6))
    assert np.array_equal(crop.apply(image, Box(3, 5, 10, 20)), expected)
    assert np.array_equal(RandomResizedCrop((10, 20)).apply(image, Box(3, 5, 10, 20)), part)


def test_left_and_right_are_exchanged():
    flip, image = RandomHorizontalFlip(), numbered(2, 3)
    assert flip.apply(image, True)[..., 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert flip.apply(image, False) is image


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_as_often_as_was_asked(p):
    n = 4000
    for transform in (RandomHorizontalFlip(p), RandomErasing(p)):
        done = sum(bool(drawn) for drawn in draws(transform, (32, 32), n))
        assert abs(done - p * n) <= 5 * math.sqrt(p * (1 - p) * n)


def test_a_quarter_turn_is_counter_clockwise():
    image = numbered(4, 4)
    assert np.array_equal(RandomRotation(90).apply(image, 90.0), np.rot90(image))
    assert np.array_equal(RandomRotation(90).apply(image, -90.0), np.rot90(image, -1))


def test_corners_are_filled():
    turned = RandomRotation(45, fill=(7, 8, 9)).apply(noise(9, 9), 45.0)
    assert turned[0, 0].tolist() == turned[8, 8].tolist() == [7, 8, 9]


@pytest.mark.parametrize(("degrees", "low", "high"), [(30, -30, 30), ((10.0, 20.0), 10, 20)])
def test_angles_are_uniform(degrees, low, high):
    angles = np.array(draws(RandomRotation(degrees), (9, 9), 2000))
    assert low <= angles.min() < low + 0.1 * (high - low)
    assert high >= angles.max() > high - 0.1 * (high - low)
    assert abs(angles.mean() - (low + high) / 2) < 5 * (high - low) / math.sqrt(12 * 2000)


# --- Keras' affine --------------------------------------------------------------------------------


def moved(image: np.ndarray, fill_mode: str = "nearest", **motion: float) -> np.ndarray:
    return KerasAffine(fill_mode=fill_mode, cval=99).apply(image, Motion(**motion))


def test_no_motion_changes_nothing():
    image = noise(7, 10)
    assert np.array_equal(moved(image), image)


def test_a_shift_reads_further_right_and_further_down():
    image = numbered(5, 6)
    assert np.array_equal(moved(image, tx=2)[:, :4], image[:, 2:])
    assert np.array_equal(moved(image, ty=1)[:4], image[1:])


@pytest.mark.parametrize(
    ("fill_mode", "row"),
    [
        ("nearest", [1, 1, 1, 2]),
        ("constant", [99, 99, 1, 2]),
        ("reflect", [2, 1, 1, 2]),
        ("wrap", [2, 3, 1, 2]),  # as scipy wraps: the last pixel and the first are the same place
    ],
)
def test_what_lies_beyond_the_edge(fill_mode, row):
    image = np.broadcast_to(np.array([1, 2, 3, 4], np.uint8)[None, :, None], (4, 4, 3))
    assert moved(image, fill_mode, tx=-2)[1, :, 2].tolist() == row


def test_a_turn_is_about_the_centre_of_any_shape():
    image = numbered(5, 8)
    assert np.array_equal(moved(image, theta=180), image[::-1, ::-1])
    square = numbered(5, 5)
    # The point right of the centre is read below it, (cos 90, sin 90) with y downwards.
    assert np.array_equal(moved(square, theta=90), np.rot90(square))


def test_zoom_by_hand():
    # Half as far from the centre, 2: columns 0..4 read 1, 1.5, 2, 2.5, 3.
    image = np.broadcast_to((10 * np.arange(5, dtype=np.uint8))[None, :, None], (5, 5, 3))
    assert moved(image, zx=0.5)[0, :, 0].tolist() == [10, 15, 20, 25, 30]
    assert np.array_equal(moved(image, zy=0.5), image)


def test_shear_by_hand():
    # x - sin(30) y: two rows below the centre, one pixel further left. And y shrinks by cos(30).
    image = np.broadcast_to((10 * np.arange(9, dtype=np.uint8))[None, :, None], (9, 9, 3))
    sheared = moved(image, shear=30)[..., 0]
    assert sheared[6, 4] == 30
    assert sheared[2, 4] == 50
    assert sheared[4].tolist() == image[4, :, 0].tolist()
    columns = np.ascontiguousarray(image.swapaxes(0, 1))
    assert moved(columns, shear=30)[7, 4, 0] == round(40 + 10 * 3 * math.cos(math.radians(30)))


def test_the_shift_comes_after_the_zoom_and_before_the_turn():
    image = noise(9, 9)
    turned = moved(image, theta=90, tx=3)
    assert np.array_equal(turned, moved(np.rot90(image), tx=3))
    # Column 4, the centre, is read at 4 + 2 * 0 + 3, column 3 at 4 - 2 * 1 + 3.
    assert np.array_equal(moved(image, zx=2, tx=3)[:, 3:5], image[:, [5, 7]])


def test_the_ranges_of_keras():
    affine = KerasAffine(20, 0.1, 0.25, 5, (0.8, 1.5))
    drawn = np.array(draws(affine, (40, 100), 2000))
    for values, low, high in zip(
        drawn.T,
        (-20, -10, -10, -5, 0.8, 0.8),
        (20, 10, 10, 5, 1.5, 1.5),
        strict=True,
    ):
        near = 0.01 * (high - low)
        assert low <= values.min() < low + near
        assert high >= values.max() > high - near
    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 5 / math.sqrt(2000)


def test_shifts_in_pixels():
    whole = {motion.tx for motion in draws(KerasAffine(width_shift_range=3), (9, 9), 500)}
    assert whole == {-2, -1, 0, 1, 2}
    any_ = [motion.ty for motion in draws(KerasAffine(height_shift_range=3.0), (9, 9), 500)]
    assert len(set(any_)) > 400
    assert -3 <= min(any_) < -2.5 < 2.5 < max(any_) <= 3


# --- erasing --------------------------------------------------------------------------------------


def test_a_rectangle_is_painted_over():
    image = numbered(4, 5)
    erased = RandomErasing().apply(
        image, Erasure(Box(1, 2, 2, 3), np.full((1, 1, 3), 99, np.uint8))
    )
    expected = image.copy()
    expected[1:3, 2:5] = 99
    assert np.array_equal(erased, expected)
    assert image[1, 2, 0] == 7


def test_erased_areas_and_aspects():
    erase = RandomErasing(1, scale=(0.02, 0.2), ratio=(0.3, 3.3))
    boxes = np.array([drawn.box for drawn in draws(erase, (300, 300), 2000)])
    _, _, h, w = boxes.T
    area, aspect = h * w / 300**2, h / w
    assert 0.019 < area.min() < 0.025
    assert 0.19 < area.max() < 0.202
    assert 0.29 < aspect.min() < 0.31
    assert 3.2 < aspect.max() < 3.4


def test_colours_of_what_is_erased():
    image = np.zeros((64, 64, 3), np.uint8)
    colours = RandomErasing(1, value=(1, 2, 3))(image, image_rng(0, 0, 0)).reshape(-1, 3)
    assert {tuple(c) for c in colours.tolist()} == {(0, 0, 0), (1, 2, 3)}
    randomly = RandomErasing(1, scale=(0.3, 0.3), value="random")(image, image_rng(0, 0, 0))
    assert len(np.unique(randomly)) == 256


def test_nothing_is_erased_where_nothing_fits():
    assert RandomErasing(1, scale=(1, 1)).draw((8, 8), nothing_random()) is None


# --- colours --------------------------------------------------------------------------------------


def test_factors_by_hand():
    image = np.array([[[10, 100, 200], [0, 0, 0]]], np.uint8)

    def jittered(name: str, factor: float) -> list:
        return ColorJitter().apply(image, ((name, factor),)).tolist()

    assert jittered("brightness", 0.5) == [[[5, 50, 100], [0, 0, 0]]]
    assert jittered("brightness", 2.0) == [[[20, 200, 255], [0, 0, 0]]]
    grey = round(0.299 * 10 + 0.587 * 100 + 0.114 * 200)  # ITU-R 601-2
    assert jittered("saturation", 0.0) == [[[grey] * 3, [0, 0, 0]]]
    assert jittered("contrast", 0.0) == [[[round(grey / 2)] * 3] * 2]


def test_half_a_colour_circle_from_red_is_cyan():
    red = np.array([[[255, 0, 0]]], np.uint8)
    for hue in (0.5, -0.5):
        r, g, b = ColorJitter().apply(red, (("hue", hue),))[0, 0].tolist()
        assert r == 0
        assert min(g, b) > 245


def test_jitter_draws_only_what_was_asked_for_in_any_order():
    drawn = draws(ColorJitter(brightness=1.5, hue=(-0.1, 0.3)), (4, 4), 600)
    assert {tuple(name for name, _ in steps) for steps in drawn} == {
        ("brightness", "hue"),
        ("hue", "brightness"),
    }
    factors = [dict(steps) for steps in drawn]
    brightness, hue = ([f[name] for f in factors] for name in ("brightness", "hue"))
    assert 0 <= min(brightness) < 0.05 < 2.45 < max(brightness) <= 2.5
    assert -0.1 <= min(hue) < -0.09 < 0.29 < max(hue) <= 0.3
    assert draws(ColorJitter(), (4, 4), 3) == [(), (), ()]


def test_randaugment_by_hand():
    image = numbered(6, 8)
    augment = RandAugment(fill=77)

    def done(name: str, strength: float) -> np.ndarray:
        return augment.apply(image, ((name, strength),))[..., 0]

    grey = image[..., 0]
    assert np.array_equal(done("Identity", 0), grey)
    assert np.array_equal(done("TranslateX", 2.9)[:, 2:], grey[:, :-2])
    assert (done("TranslateX", 2.9)[:, :2] == 77).all()
    assert np.array_equal(done("TranslateY", -1)[:-1], grey[1:])
    assert np.array_equal(done("Posterize", 4), grey & 0xF0)
    assert np.array_equal(done("Solarize", 20), np.where(grey < 20, grey, 255 - grey))
    # A shear by 0.5: the row at y + 1/2 is read 0.5 (y + 1/2) pixels further right.
    assert np.array_equal(done("ShearX", 0.5)[3, :6], grey[3, 2:])


def test_randaugment_draws_everything_with_both_signs():
    augment = RandAugment(num_ops=2, magnitude=15)
    drawn = draws(augment, (331, 662), 1500)
    assert {len(steps) for steps in drawn} == {2}
    found = {step for steps in drawn for step in steps}
    expected = {(name, value) for name, value in augment.strengths((331, 662)).items()}
    assert expected <= found
    signed = {name for name, value in found if (name, -value) in found and value}
    assert signed == {
        "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
        "Sharpness",
    }  # fmt: skip
    assert len(found) == 14 + len(signed)
    assert dict(expected)["TranslateX"] == 150  # 150 of 331 pixels at most; here half of 300
    assert dict(expected)["Rotate"] == 15


# --- mixing ---------------------------------------------------------------------------------------


def test_mixup_by_hand():
    images = np.array([0, 10, 20], np.float32).reshape(3, 1, 1, 1)
    mixed, targets = MixUp().apply(images, np.eye(3, dtype=np.float32), 0.75)
    assert mixed.ravel().tolist() == [5, 7.5, 17.5]  # the first with the last
    assert targets.tolist() == [[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 0.25, 0.75]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_follows_the_beta_distribution(alpha):
    shares = np.array([MixUp(alpha).draw((8, 8), batch_rng(0, 0, i)) for i in range(3000)])
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(a, a)
    assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / 3000)
    assert shares.var() == pytest.approx(variance, rel=0.1)


@given(shape=st.tuples(*[st.integers(1, 20)] * 2), n=st.integers(2, 5), seed=st.integers(0, 2**32))
def test_cutmix_targets_count_pixels(shape, n, seed):
    h, w = shape
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, h, w, 3))
    for batch in range(10):
        mixed, targets = CutMix()(images, np.eye(n), batch_rng(seed, 0, batch))
        for i in range(n):
            assert targets[i, i] == pytest.approx(np.mean(mixed[i] == i))
            assert set(np.unique(mixed[i])) <= {i, (i - 1) % n}
            assert targets[i].sum() == pytest.approx(1)


def test_cutmix_by_hand():
    images = np.array([1, 2], np.float32)[:, None, None, None] * np.ones((2, 4, 5, 1), np.float32)
    mixed, targets = CutMix().apply(images, np.eye(2), Box(1, 2, 2, 3))
    expected = np.ones((4, 5))
    expected[1:3, 2:5] = 2
    assert np.array_equal(mixed[0, ..., 0], expected)
    assert np.array_equal(mixed[1, ..., 0], 3 - expected)
    assert targets.tolist() == [[0.7, pytest.approx(0.3)], [pytest.approx(0.3), 0.7]]


@pytest.mark.parametrize("mix", [MixUp(), CutMix()], ids=repr)
def test_batches_keep_their_types_and_are_not_written_to(mix):
    images = np.random.default_rng(0).random((4, 6, 5, 3), np.float32)
    targets = np.eye(4, dtype=np.float32)
    images.setflags(write=False)
    targets.setflags(write=False)
    mixed, soft = mix(images, targets, batch_rng(0, 0, 1))
    assert (mixed.dtype, soft.dtype) == (np.float32, np.float32)
    assert (mixed.shape, soft.shape) == (images.shape, targets.shape)
    assert not np.array_equal(mixed, images)


@pytest.mark.parametrize("mix", [MixUp(), CutMix()], ids=repr)
@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), np.eye(2), "must be floating-point, not uint8"),
        (np.zeros((2, 4, 4, 3)), np.array([0, 1]), r"targets \[N, K\], not"),
        (np.zeros((2, 4, 4, 3)), np.eye(2, dtype=int), "floating-point"),
        (np.zeros((2, 4, 4, 3)), np.eye(3), r"not \[2, 4, 4, 3\] and \[3, 3\]"),
        (np.zeros((4, 4, 3)), np.eye(4), r"\[N, H, W, C\]"),
    ],
)
def test_what_is_no_batch_is_refused(mix, images, targets, message):
    with pytest.raises(ValueError, match=message):
        mix(images, targets, batch_rng(0, 0, 0))


# --- arguments and names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Resize(0)", r"Resize: size must be pixels, or \(height, width\), from 1 to 65536, not 0"),
        ("Resize((3, 4, 5))", "Resize: size must be"),
        ("Resize(224.0)", "Resize: size must be"),
        ("Resize(True)", "Resize: size must be"),
        ("Resize(9, 'cubic')", "interpolation must be one of nearest, bilinear, bicubic, box"),
        ("CenterCrop(70000)", "CenterCrop: size must be"),
        ("RandomResizedCrop(9, (0.5, 1.5))", "scale must be two numbers, the smaller first, from"),
        ("RandomResizedCrop(9, (0.9, 0.5))", "scale must be two numbers, the smaller first"),
        ("RandomResizedCrop(9, 0.5)", "scale must be two numbers, the smaller first"),
        ("RandomResizedCrop(9, ratio=(0, 1))", "ratio must be two numbers above 0"),
        ("RandomHorizontalFlip(1.5)", "p must be a number from 0 to 1, not 1.5"),
        ("RandomHorizontalFlip('often')", "p must be a number from 0 to 1, not 'often'"),
        ("RandomRotation(-5)", r"degrees must be a number of 0 or more, or a pair \(from, to\)"),
        ("RandomRotation(1e999)", "degrees must be a number"),
        ("RandomRotation((5, -5))", "degrees must be two numbers, the smaller first"),
        ("RandomRotation(5, 'lanczos')", "one of nearest, bilinear, bicubic, not 'lanczos'"),
        ("RandomRotation(5, fill=256)", "fill must be a whole number from 0 to 255, or three, not"),
        ("RandomRotation(5, fill=(1, 2))", "fill must be a whole number from 0 to 255, or three"),
        ("KerasAffine(zoom_range=1)", "zoom_range must be a number below 1, or two above 0, not 1"),
        ("KerasAffine(shear_range=-1)", "shear_range must be a number of 0 or more, not -1"),
        ("KerasAffine(width_shift_range=(1, 2))", "width_shift_range must be a number of 0 or"),
        ("KerasAffine(fill_mode='edge')", "fill_mode must be one of nearest, constant, reflect,"),
        ("KerasAffine(cval=300)", "cval must be a number from 0 to 255"),
        ("ColorJitter(-0.1)", "brightness must be a number of 0 or more, or a pair"),
        ("ColorJitter((-1, 1))", "brightness must be two numbers, the smaller first, of 0 or more"),
        ("ColorJitter(hue=0.6)", r"hue must be a number from 0 to 0\.5, or a pair"),
        ("ColorJitter(hue=(0, 0.6))", r"two numbers, the smaller first, from -0\.5 to 0\.5"),
        ("RandomErasing(value='mean')", "value must be a whole number .*, or three, or \"random\""),
        ("RandAugment(magnitude=31)", "magnitude must be a whole number from 0 to 30, not 31"),
        ("RandAugment(num_ops=-1)", "num_ops must be a whole number from 0"),
        ("RandAugment(num_magnitude_bins=1)", "num_magnitude_bins must be a whole number from 2"),
        ("MixUp(0)", r"alpha must be a number from 0\.001 to 1000, not 0"),
        ("CutMix(-1)", "CutMix: alpha must be"),
        ("Rotate(5)", "no transform is called 'Rotate'; there are Resize, CenterCrop"),
        ("RandomRotation()", "RandomRotation: its argument degrees is missing"),
        ("RandomRotation(angle=5)", "no argument is called 'angle'; it has degrees, interpolation"),
        ("Resize(3, size=3)", "Resize: an argument too many; it has size, interpolation"),
        ("Resize(1, 'box', 2)", "Resize: an argument too many"),
        ("MixUp(alpha=1, alpha=2)", "MixUp: an argument too many"),
    ],
)  # fmt: skip
def test_bad_arguments(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_a_name_alone_is_a_call_without_arguments():
    assert parse("RandomHorizontalFlip, MixUp") == [RandomHorizontalFlip(), MixUp()]
    with pytest.raises(UserError, match="Resize: its argument size is missing"):
        parse("Resize")


@pytest.mark.parametrize(
    "text",
    [
        "Resize(", "3", "Resize(x)", "Resize(**{})", "Resize(*[3])", "a.Resize(3)",
        "Resize(open('x'))", "Resize({[]: 1})", "] + [", "Resize(3))", "\0", "(" * 1000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_transforms(text):
    with pytest.raises(UserError, match=r"is no list of transforms; write them like 'RandomR"):
        parse(text)


@pytest.mark.parametrize("transform", [*EVERYTHING, MixUp(), CutMix(0.3)], ids=repr)
def test_what_is_printed_can_be_read_again(transform):
    assert parse(repr(transform)) == [transform]


def test_lists_of_transforms():
    assert parse("") == []
    assert parse("Resize(9), RandomHorizontalFlip(p=0.1),") == [
        Resize(9),
        RandomHorizontalFlip(0.1),
    ]


def test_lists_in_a_file_are_pairs():
    crop = make("RandomResizedCrop", {"size": 9, "scale": [0.5, 1.0]})
    assert crop == RandomResizedCrop(9, (0.5, 1.0))
    assert hash(crop) == hash(RandomResizedCrop(9, (0.5, 1.0)))


def test_every_transform_has_a_name():
    kinds = {type(transform) for transform in EVERYTHING} | {MixUp, CutMix}
    assert set(TRANSFORMS.values()) == kinds
