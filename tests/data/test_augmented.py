"""Other views of the images in every epoch, the same for everybody who asks."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.folders import Samples
from resnet_np.data.loader import ArrayImages, FolderImages
from resnet_np.data.transforms import image_rng, parse
from resnet_np.errors import UserError
from resnet_np.weights import PLAIN

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
IMAGES = ArrayImages(PIXELS, LABELS, ("a", "b", "c"))
ALL = np.arange(12)


def augmented(text: str, seed: int = 0) -> AugmentedImages:
    return AugmentedImages(IMAGES, parse(text), seed)


def test_a_view_depends_on_seed_epoch_and_place_alone():
    images = augmented("RandomResizedCrop(32), ColorJitter(0.3)")
    all_at_once = images.read(ALL)
    for order in (ALL[::-1], ALL[5:], [3]):
        np.testing.assert_array_equal(images.read(np.array(order)), all_at_once[order])
    with ThreadPoolExecutor(8) as pool:
        one_by_one = pool.map(lambda i: images.read(np.array([i]))[0], ALL)
    np.testing.assert_array_equal(np.stack(list(one_by_one)), all_at_once)
    for other in (images.at(1), augmented("RandomResizedCrop(32), ColorJitter(0.3)", seed=1)):
        assert all((a != b).any() for a, b in zip(other.read(ALL), all_at_once, strict=True))
    np.testing.assert_array_equal(images.at(1).at(0).read(ALL), all_at_once)


def test_without_mixing_the_targets_are_labels():
    np.testing.assert_array_equal(augmented("RandomHorizontalFlip()").targets(ALL), LABELS)


def test_mixup_by_hand():
    images = augmented("MixUp(0.4)").at(3)
    indices = np.array([4, 7, 2])
    share = np.random.default_rng(
        np.random.SeedSequence(0, spawn_key=(1, 3, 4))  # batches, epoch 3, image 4 first
    ).beta(0.4, 0.4)
    own, other = PIXELS[[4, 7, 2]].astype(float), PIXELS[[2, 4, 7]].astype(float)
    expected = (share * own + (1 - share) * other).round()
    assert np.abs(images.read(indices) - expected).max() <= 1  # of rounding
    targets = images.targets(indices)
    one_hot = np.eye(3)
    by_hand = share * one_hot[LABELS[[4, 7, 2]]] + (1 - share) * one_hot[LABELS[[2, 4, 7]]]
    np.testing.assert_allclose(targets, by_hand, rtol=1e-6)
    assert targets.dtype == np.float32


def test_cutmix_targets_are_areas():
    indices = np.array([0, 1])
    for epoch in range(5):
        images = augmented("CutMix()").at(epoch)
        mixed = images.read(indices)
        foreign = (mixed[0] != PIXELS[0]).any(axis=-1).mean()  # of the first image's pixels
        assert images.targets(indices)[0, LABELS[1]] == pytest.approx(foreign, abs=0.01)


def test_a_crop_of_its_own_sees_the_file_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    pixels = rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    files = FolderImages(Samples((path,), np.array([0]), ("a", "b")), PLAIN, 32)
    (crop,) = parse("RandomResizedCrop(32)")
    view = AugmentedImages(files, [crop], 5).read(np.array([0]))[0]
    np.testing.assert_array_equal(view, crop(pixels, image_rng(5, 0, 0)))
    (flip,) = parse("RandomHorizontalFlip(1)")
    view = AugmentedImages(files, [flip], 5).read(np.array([0]))[0]
    np.testing.assert_array_equal(view, files.read(np.array([0]))[0][:, ::-1])


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"leaves an image of 20 x 20 .* is shown 32 x 32: end"):
        augmented("RandomResizedCrop(20)").read(ALL)
