"""On a card: what travels there and back in an epoch, and how often the host waits for it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_network import small_network
from standins.card import stand_in

from resnet_np import Tensor, cross_entropy
from resnet_np.data.loader import ArrayImages
from resnet_np.errors import UserError
from resnet_np.optim import SGD
from resnet_np.training import fit as fitting
from resnet_np.training.callbacks import Callback
from resnet_np.training.features import (
    AT_ONCE,
    CachedInputs,
    ImageInputs,
    Trunk,
    batches_of,
    cache_features,
)
from resnet_np.training.fit import Fit
from resnet_np.training.loop import Progress, predict_logits
from resnet_np.weights.contract import KERAS_CAFFE, PLAIN, TORCHVISION

N, K = 40, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
IMAGES = ArrayImages(PIXELS, np.arange(N) % K, tuple("abcde"))
ALL = np.arange(N)
IMAGE, LABEL = 32 * 32 * 3, 8  # bytes


@pytest.fixture
def card() -> Iterator[Any]:
    with stand_in() as cupy:
        yield cupy


def trunk_before(stage: str, device: str) -> Trunk:
    model = small_network()
    model.contract = PLAIN
    model.freeze_before(stage)
    return Trunk(model.to(device), stage, PLAIN, device)


def cached(device: str) -> CachedInputs:
    """Features in front of the head."""
    features = np.random.default_rng(1).standard_normal((N, 32)).astype(np.float32)
    return CachedInputs(features, IMAGES.labels, device)


def an_epoch(inputs: Any, model: Any, start: str, lr: float = 0.01) -> tuple[Progress, list]:
    seen: list[Progress] = []

    class Look(Callback):
        def on_batch_end(self, fit: Fit) -> None:
            seen.append(fit.seen)

    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr)
    fit = Fit(model, optimizer, inputs, inputs, start=start, batch_size=8, callbacks=[Look()])
    fit.train_epoch()
    return fit.seen, seen


# --- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [PLAIN, TORCHVISION, KERAS_CAFFE])
def test_bytes_are_normalised_on_the_card_as_on_the_cpu(card, contract):
    pixels = card.asarray(PIXELS)
    card.standin.record.reset()
    x = contract.normalise(pixels)
    assert card.standin.record.uploads == card.standin.record.downloads == []
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x.get(), contract.normalise(PIXELS))


def sum_as_a_card_does(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, all numbers summed alike, in an order that depends on the shape of the product."""
    (m, k), n = a.shape, b.shape[1]
    sums = np.zeros((m, n), a.dtype)
    for i in np.random.default_rng([m, k, n]).permutation(k):
        sums += a[:, i : i + 1] * b[i]
    return sums


def test_cached_and_computed_features_are_the_same_bits(card, monkeypatch):
    """Whole chunks of one shape go through the trunk, whoever is in them."""
    from cupy_backends.cuda.libs import cublas

    monkeypatch.setattr(cublas, "product", sum_as_a_card_does)
    trunk = trunk_before("layer3", "gpu")
    passes = []
    run = type(trunk.model).forward
    monkeypatch.setattr(
        type(trunk.model),
        "forward",
        lambda model, x, **options: passes.append(x.shape) or run(model, x, **options),
    )
    steps: list[int] = []
    kept = cache_features(trunk, {"train": IMAGES}, steps.append)["train"]
    whole = (AT_ONCE, 32, 32, 3)
    assert passes == [whole] * (1 + 2)  # one image, to see how large its features are
    assert steps == [32, 8]
    passes.clear()
    computed = ImageInputs(IMAGES, trunk)
    order = [ALL[::-1][:35], ALL[3:4], ALL[::7]]
    for ours, theirs in zip(batches_of(kept, order), batches_of(computed, order), strict=True):
        np.testing.assert_array_equal(ours.get(), theirs.get())
    assert passes == [whole] * (2 + 1 + 1)


def test_features_are_those_of_the_cpu(card):
    here = cache_features(trunk_before("fc", "cpu"), {"train": IMAGES}, lambda n: None)["train"]
    there = cache_features(trunk_before("fc", "gpu"), {"train": IMAGES}, lambda n: None)["train"]
    assert here.features.dtype == there.features.dtype
    np.testing.assert_allclose(there.features, here.features, rtol=1e-4, atol=1e-5)
    assert card.standin.record.uploads.count(32 * IMAGE) == 1  # as bytes
    assert card.standin.record.uploads.count(8 * IMAGE) == 1


# --- the loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "size"), [("stem", 8 * IMAGE), ("fc", 8 * 32 * 4)])
def test_an_epoch_waits_for_nothing_but_its_figures(card, monkeypatch, stage, size):
    """Batches go there once, as they lie; two figures come back at each look."""
    monkeypatch.setattr(fitting, "LOOK_EVERY", np.inf)
    trunk = trunk_before(stage, "gpu")
    inputs = cached("gpu") if stage == "fc" else ImageInputs(IMAGES, trunk)
    record = card.standin.record
    record.reset()
    final, seen = an_epoch(inputs, trunk.model, stage)
    assert [p.images for p in seen] == [8, N]
    assert final is seen[-1]
    assert record.uploads.count(size) == 5
    others = [count for count in record.uploads if count != size]
    assert max(others) < 2000  # labels, and where the optimizer finds what it changes
    assert record.downloads == [8, 8] * 2
    assert record.synchronisations == 4


def test_the_figures_are_those_of_the_cpu(card, monkeypatch):
    monkeypatch.setattr(fitting, "LOOK_EVERY", 0.0)
    found = {}
    for device in ("cpu", "gpu"):
        trunk = trunk_before("layer4", device)
        final, seen = an_epoch(ImageInputs(IMAGES, trunk), trunk.model, "layer4")
        found[device] = seen
        assert final is seen[-1]
        assert all(type(p.loss) is type(p.accuracy) is float for p in seen)
    for i, (here, there) in enumerate(zip(found["cpu"], found["gpu"], strict=True)):
        assert here.images == there.images == 8 * (i + 1)
        assert there.loss == pytest.approx(here.loss, rel=1e-4)
        assert there.accuracy == here.accuracy


@pytest.mark.parametrize("every", [0.0, np.inf])
def test_a_loss_that_is_not_finite_is_noticed(card, monkeypatch, every):
    monkeypatch.setattr(fitting, "LOOK_EVERY", every)
    for device in ("cpu", "gpu"):
        model = trunk_before("fc", device).model
        with pytest.raises(UserError, match="no longer a finite number; use a smaller --lr"):
            an_epoch(cached(device), model, "fc", lr=1e38)


def test_logits_come_back_batch_by_batch(card):
    model = trunk_before("fc", "gpu").model
    predict_logits(model, "fc", cached("gpu"), 8)
    card.standin.record.reset()
    logits = predict_logits(model, "fc", cached("gpu"), 8)
    assert card.standin.record.uploads == [8 * 32 * 4] * 5
    assert card.standin.record.downloads.count(8 * K * 4) == 5
    waits = len(card.standin.record.downloads) - 5  # none of them for logits
    assert card.standin.record.synchronisations == waits
    here = predict_logits(model.to("cpu"), "fc", cached("cpu"), 8)
    np.testing.assert_allclose(logits, here, rtol=1e-5, atol=1e-6)


# --- the loss ------------------------------------------------------------------------------------


def test_targets_of_the_host_are_checked_there(card):
    logits = Tensor(card.asarray(np.random.default_rng(0).standard_normal((6, K))))
    labels, weights = np.arange(6) % K, np.linspace(0.5, 2, K)
    card.standin.record.reset()
    loss = cross_entropy(logits, labels, weights, label_smoothing=0.1)
    assert card.standin.record.downloads == []
    assert card.standin.record.synchronisations == 0
    here = cross_entropy(Tensor(logits.numpy()), labels, weights, label_smoothing=0.1)
    assert loss.item() == pytest.approx(here.item(), rel=1e-12)
    card.standin.record.reset()
    for wrong in (K, -2):
        with pytest.raises(ValueError, match=r"targets must be 0\.\.4 or -1"):
            cross_entropy(logits, np.full(6, wrong))
    assert card.standin.record.uploads == []


def test_targets_of_the_card_are_fetched_to_be_checked(card):
    logits = Tensor(card.asarray(np.random.default_rng(0).standard_normal((6, K))))
    labels = np.arange(6) % K
    here = cross_entropy(logits, labels)
    card.standin.record.reset()
    there = cross_entropy(logits, card.asarray(labels))
    assert card.standin.record.downloads == [6 * LABEL]
    assert there.item() == here.item()
    with pytest.raises(ValueError, match=r"targets must be 0\.\.4 or -1"):
        cross_entropy(logits, card.full(6, K))
    with pytest.raises(ValueError, match="must not be negative"):
        cross_entropy(logits, card.full((6, K), -1.0))
