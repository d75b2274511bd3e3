"""Batches: their order follows the seed, reading ahead changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet_np.data.folders import Samples
from resnet_np.data.loader import (
    ArrayImages,
    FolderImages,
    epoch_order,
    load_ahead,
    split_batches,
)
from resnet_np.errors import UserError
from resnet_np.weights.contract import PLAIN


def test_epochs_are_the_generators_permutations_in_turn():
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(3):
        assert np.array_equal(epoch_order(rng, 10), twin.permutation(10))


@given(n=st.integers(1, 200), batch_size=st.integers(1, 50))
def test_batches_hold_every_image_once_and_no_batch_is_a_single_one(n, batch_size):
    batches = split_batches(np.arange(n), batch_size)
    assert np.array_equal(np.concatenate(batches), np.arange(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) <= batch_size + 1
    if n > 1 and batch_size > 1:
        assert min(map(len, batches)) > 1


def test_a_single_image_left_over_joins_the_batch_before():
    assert [len(b) for b in split_batches(np.arange(9), 4)] == [4, 5]
    assert [len(b) for b in split_batches(np.arange(10), 4)] == [4, 4, 2]


def test_load_ahead_keeps_the_order():
    batches = [np.array([i]) for i in range(20)]
    assert [int(x[0]) for x in load_ahead(lambda b: b * 2, batches)] == list(range(0, 40, 2))


def test_an_error_comes_up_where_its_batch_is_due():
    def load(batch: np.ndarray) -> np.ndarray:
        if batch[0] == 5:
            raise UserError("broken.jpg: broken image")
        return batch

    seen = []
    with pytest.raises(UserError, match=r"broken\.jpg"):
        for x in load_ahead(load, [np.array([i]) for i in range(10)]):
            seen.append(int(x[0]))
    assert seen == [0, 1, 2, 3, 4]


def some_files(root: Path, *sizes: int) -> FolderImages:
    paths = []
    for i, size in enumerate(sizes):
        paths.append(root / "ab"[i % 2] / f"{i}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(bytes(size))
    samples = Samples(tuple(paths), np.arange(len(sizes)) % 2, ("a", "b"))
    return FolderImages(samples, PLAIN, 8)


def test_files_are_known_again_elsewhere_but_not_of_other_sizes_or_labels(tmp_path):
    images = some_files(tmp_path / "here", 5, 6, 7)
    known = images.fingerprint()
    assert len(known) == 64
    assert some_files(tmp_path / "there", 5, 6, 7).fingerprint() == known
    assert some_files(tmp_path / "other", 5, 6, 8).fingerprint() != known
    images.labels = 1 - images.labels
    assert images.fingerprint() != known


def test_paths_of_both_kinds_are_known(tmp_path, monkeypatch):
    images = some_files(tmp_path / "here", 5, 6, 7)
    known = images.fingerprint()
    monkeypatch.chdir(tmp_path)
    images.paths = (images.paths[0].relative_to(tmp_path), *images.paths[1:])
    assert images.fingerprint() == known


def test_images_in_memory_are_known_by_pixels_and_labels():
    pixels, labels = np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1])
    known = ArrayImages(pixels, labels, ("a", "b")).fingerprint()
    assert ArrayImages(pixels.copy(), labels, ("a", "b")).fingerprint() == known
    assert ArrayImages(pixels, labels[::-1].copy(), ("a", "b")).fingerprint() != known
    pixels[1, 0, 0, 0] = 1
    assert ArrayImages(pixels, labels, ("a", "b")).fingerprint() != known


def test_sources_read_by_index(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    paths = []
    for i, image in enumerate(pixels):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    labels, classes = np.array([0, 1, 0]), ("a", "b")
    order = np.array([2, 0])
    for source in (
        FolderImages(Samples(tuple(paths), labels, classes), PLAIN, 8),
        ArrayImages(pixels, labels, classes),
    ):
        assert np.array_equal(source.read(order), pixels[[2, 0]])
        assert source.classes == classes
