"""Transforms draw as torchvision's do, and do the same to the byte."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision_shim import torchvision
from transforming import THEIRS, Case, made_up, photographs, torchvision_cases

from resnet_np.data.transforms import (
    ColorJitter,
    CutMix,
    MixUp,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    RandomRotation,
    batch_rng,
    image_rng,
)
from resnet_np.weights.contract import SAMPLED

T, v2 = torchvision.transforms, import_module("torchvision.transforms.v2")
DRAWS = 1500


@pytest.fixture(scope="module")
def photos(test_data: Path) -> list[np.ndarray]:
    return photographs(test_data)


@pytest.mark.parametrize("case", [*torchvision_cases()], ids=str)
def test_photographs(case: Case, photos: list[np.ndarray]) -> None:
    for i, image in enumerate(photos):
        assert case.difference(image, image_rng(0, 1, i)) == 0


@pytest.mark.parametrize("case", [*torchvision_cases()], ids=str)
def test_images_made_up(case: Case) -> None:
    for i, image in enumerate(made_up() * 4):
        assert case.difference(image, image_rng(0, 2, i)) == 0


def assert_drawn_alike(ours: Any, theirs: Any) -> None:
    """Each column of numbers: Kolmogorov and Smirnov find no difference."""
    ours, theirs = np.array(ours, np.float64), np.array(theirs, np.float64)
    assert ours.shape == theirs.shape
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert ks_2samp(a, b).pvalue > 1e-4


SCALES = [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 1.0), (0.2, 2.0)), ((1.0, 1.0), (0.9, 1.1))]


@pytest.mark.parametrize("shape", [(300, 400), (50, 31), (20, 200)])
@pytest.mark.parametrize(("scale", "ratio"), SCALES)
def test_crops_are_drawn_alike(shape, scale, ratio):
    torch.manual_seed(0)
    crop, image = RandomResizedCrop(8, scale, ratio), torch.zeros(3, *shape)
    ours = [crop.draw(shape, image_rng(0, 0, i)) for i in range(DRAWS)]
    theirs = [T.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(DRAWS)]
    assert_drawn_alike(ours, theirs)


@pytest.mark.parametrize("shape", [(300, 400), (32, 32)])
@pytest.mark.parametrize(("scale", "ratio"), [((0.02, 0.33), (0.3, 3.3)), ((0.2, 0.9), (0.1, 2.0))])
def test_erasures_are_drawn_alike(shape, scale, ratio):
    torch.manual_seed(0)
    erase, image = RandomErasing(1, scale, ratio), torch.zeros(3, *shape)
    whole = (0, 0, *shape)  # what it says where it erases nothing
    drawn = [erase.draw(shape, image_rng(0, 0, i)) for i in range(DRAWS)]
    ours = [whole if d is None else tuple(d.box) for d in drawn]
    theirs = [T.RandomErasing.get_params(image, scale, ratio, [0.0])[:4] for _ in range(DRAWS)]
    assert_drawn_alike(ours, theirs)


def test_factors_and_angles_are_drawn_alike():
    torch.manual_seed(0)
    jitter, same = ColorJitter(0.4, 1.5, 0.2, 0.1), T.ColorJitter(0.4, 1.5, 0.2, 0.1)
    names = ("brightness", "contrast", "saturation", "hue")
    ours, theirs = [], []
    for i in range(DRAWS):
        steps = jitter.draw((8, 8), image_rng(0, 0, i))
        places = [[name for name, _ in steps].index(name) for name in names]
        ours.append([*(dict(steps)[name] for name in names), *places])
        order, *factors = same.get_params(same.brightness, same.contrast, same.saturation, same.hue)
        theirs.append([*factors, *(order.tolist().index(k) for k in range(4))])
    assert_drawn_alike(ours, theirs)

    rotation, same = RandomRotation((-10, 45)), T.RandomRotation((-10, 45))
    angles = [[rotation.draw((8, 8), image_rng(0, 0, i))] for i in range(DRAWS)]
    assert_drawn_alike(angles, [[same.get_params(same.degrees)] for _ in range(DRAWS)])


@pytest.mark.parametrize("bins", [2, 10, 11, 31])
def test_randaugment_is_as_strong(bins):
    for shape in [(224, 224), (331, 662), (32, 97), (1, 1000)]:
        table = T.RandAugment(num_magnitude_bins=bins)._augmentation_space(bins, shape)
        for magnitude in range(bins):
            ours = RandAugment(2, magnitude, bins).strengths(shape)
            assert set(ours) == set(table)
            for name, (strengths, _) in table.items():
                theirs = float(strengths[magnitude]) if strengths.ndim else 0.0
                assert ours[name] == pytest.approx(theirs, rel=1e-5, abs=1e-5)
                if name in ("TranslateX", "TranslateY", "Posterize"):  # whole numbers are used
                    assert int(ours[name]) == int(theirs)


@pytest.mark.parametrize("interpolation", SAMPLED)
@pytest.mark.parametrize("name", list(RandAugment().strengths((1, 1))))
def test_each_operation_of_randaugment(name, interpolation):
    image = made_up()[0]
    for magnitude in range(31):
        augment = RandAugment(1, magnitude, interpolation=interpolation, fill=(1, 2, 3))
        drawn = ((name, augment.strengths(image.shape[:2])[name]),)
        theirs = THEIRS[RandAugment](augment, image, drawn)
        assert np.array_equal(augment.apply(image, drawn), np.asarray(theirs))


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 33, 48, 3), np.float32), np.eye(5, 7, dtype=np.float32)


def done_by(theirs: Any, batch: tuple[np.ndarray, np.ndarray], **drawn: Any) -> list[np.ndarray]:
    images, targets = (torch.tensor(x) for x in batch)
    images = images.permute(0, 3, 1, 2)  # [N, H, W, C] -> [N, C, H, W]
    drawn |= {"labels": targets, "batch_size": len(targets)}
    mixed, soft = theirs.transform(images, drawn), theirs.transform(targets, drawn)
    return [mixed.permute(0, 2, 3, 1).numpy(), soft.numpy()]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
def test_mixup(batch, share):
    ours = MixUp().apply(*batch, share)
    theirs = done_by(v2.MixUp(alpha=1.0), batch, lam=share)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_cutmix(batch):
    theirs = v2.CutMix(alpha=1.0)
    for i in range(50):
        box = CutMix().draw((33, 48), batch_rng(0, 0, i))
        right, bottom = box.left + box.width, box.top + box.height
        share = 1 - box.height * box.width / (33 * 48)
        corners = (box.left, box.top, right, bottom)
        expected = done_by(theirs, batch, box=corners, lam_adjusted=share)
        mixed, soft = CutMix().apply(*batch, box)
        assert np.array_equal(mixed, expected[0])
        np.testing.assert_allclose(soft, expected[1], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_mixing_is_drawn_alike(alpha):
    torch.manual_seed(0)
    image = torch.zeros(2, 3, 33, 48)
    ours = [CutMix(alpha).draw((33, 48), batch_rng(0, 0, i)) for i in range(DRAWS)]
    boxes = [v2.CutMix(alpha=alpha).make_params([image])["box"] for _ in range(DRAWS)]
    theirs = [(top, left, bottom - top, right - left) for left, top, right, bottom in boxes]
    assert_drawn_alike(ours, theirs)
    shares = [[MixUp(alpha).draw((33, 48), batch_rng(0, 0, i))] for i in range(DRAWS)]
    theirs = [[v2.MixUp(alpha=alpha).make_params([image])["lam"]] for _ in range(DRAWS)]
    assert_drawn_alike(shares, theirs)
