"""Frozen features: the same for an image wherever it stands, and wherever they are kept."""

import errno
import shutil
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import small_network

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.loader import ArrayImages
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.training.features import ImageInputs, Trunk, cache_features
from resnet_np.weights import PLAIN

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3), dtype=np.uint8)
IMAGES = ArrayImages(PIXELS, np.arange(25) % 2, ("a", "b"))


def trunk_before(stage: str) -> Trunk:
    model = small_network()
    model.freeze_before(stage)
    return Trunk(model, stage, PLAIN, "cpu")


TRUNK = trunk_before("layer3")
ALL = TRUNK.features(PIXELS)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 24), min_size=1, max_size=9))
def test_an_images_features_do_not_depend_on_its_company(indices):
    assert np.array_equal(TRUNK.features(PIXELS[indices]), ALL[indices])


@pytest.mark.parametrize("stage", ["layer1", "layer4", "fc"])
def test_features_and_the_rest_make_the_whole_network(stage):
    trunk = trunk_before(stage)
    model: ResNet = trunk.model
    model.eval()
    with no_grad():
        whole = model(Tensor(PLAIN.normalise(PIXELS[:4]))).data
        parts = model(Tensor(trunk.features(PIXELS[:4])), start=stage).data
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_with_nothing_frozen_the_features_are_the_pixels():
    assert np.array_equal(trunk_before("stem").features(PIXELS), PLAIN.normalise(PIXELS))


@pytest.mark.parametrize("budget", [10**9, 1000])
def test_cached_and_computed_features_are_the_same_bits(budget):
    steps = []
    cached = cache_features(TRUNK, {"train": IMAGES}, steps.append, budget)["train"]
    computed = ImageInputs(IMAGES, TRUNK)
    order = np.random.default_rng(0).permutation(25)
    ours, theirs = (inputs.prepare(inputs.load(order)) for inputs in (cached, computed))
    assert np.array_equal(ours, theirs)
    assert np.array_equal(cached.labels, IMAGES.labels)
    assert sum(steps) == 25
    in_a_file = isinstance(cached.features.base, np.memmap)
    assert in_a_file == (budget == 1000)


def test_the_file_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cached = cache_features(TRUNK, {"train": IMAGES}, lambda n: None, 0)["train"]
    assert np.array_equal(cached.load(np.array([3])), ALL[3:4])
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_seen_before_the_work(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda where: SimpleNamespace(free=100))
    done: list[int] = []
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR.*--no-cache"):
        cache_features(TRUNK, {"train": IMAGES}, done.append, 0)
    assert done == []


def test_no_room_for_the_file(monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR.*--no-cache"):
        cache_features(TRUNK, {"train": IMAGES}, lambda n: None, 0)
