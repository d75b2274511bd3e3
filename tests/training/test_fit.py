"""Trainings that stop anywhere and go on: nothing may tell them from one that never stopped."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_network import small_network

from resnet_np.autograd import Tensor, cross_entropy, global_avg_pool, relu
from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.digits import load_digits_images
from resnet_np.data.loader import ArrayImages
from resnet_np.data.transforms import parse
from resnet_np.errors import UserError
from resnet_np.nn import BatchNorm2d, Conv2d, Linear, Module
from resnet_np.optim import SGD, Adam, MovingAverage
from resnet_np.optim.schedules import OneCycle, ReduceOnPlateau
from resnet_np.training import finetuning, phases
from resnet_np.training.callbacks import (
    Callback,
    EarlyStopping,
    FrozenAudit,
    KeepBest,
    frozen_arrays,
    hashes,
)
from resnet_np.training.checkpoint import load_checkpoint
from resnet_np.training.features import CachedInputs, CachedViews
from resnet_np.training.finetuning import finetune, resumed_options
from resnet_np.training.fit import Fit, Rule, fit
from resnet_np.training.options import Options, Phase

QUIET = Console(quiet=True)
N, C, K = 20, 6, 3
RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((N, C)).astype(np.float32)
INPUTS = CachedInputs(FEATURES, np.arange(N) % K, "cpu")


def linear(seed: int = 0) -> Linear:
    return Linear(C, K, rng=np.random.default_rng(seed))


def a_fit(model: Linear | None = None, lr: float = 0.1, **given: Any) -> Fit:
    model = linear() if model is None else model
    return Fit(model, SGD(model.parameters(), lr), INPUTS, INPUTS, **{"batch_size": 6} | given)


class BrokenOffError(Exception):
    pass


class StopAt(Callback):
    """As if the power had failed, after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def on_batch_end(self, fit: Fit) -> None:
        self.looks -= 1  # from 0 it never gets there
        if self.looks == 0:
            raise BrokenOffError


# --- stopping and going on -----------------------------------------------------------------------


EVERYTHING = {
    "unfreeze": "layer4", "recalibrate": True, "dropout": 0.3, "head": (8,), "accumulate": 2,
    "augment": "RandomResizedCrop(32), RandomHorizontalFlip(), MixUp(0.3)", "clip": 1.0,
    "ema": 0.9, "schedule": "OneCycle", "label_smoothing": 0.1, "class_weights": "1,2,1.5",
    "weight_decay": 0.01, "stage_decay": 0.5,
}  # fmt: skip
RUNS = {
    "everything": EVERYTHING,
    "the head": {"dropout": 0.5, "schedule": "ReduceOnPlateau(patience=0, threshold=0.9)",
                 "warmup": 0.5},
    "views": {"augment": "RandomHorizontalFlip()", "views": 2, "optimizer": "sgd", "momentum": 0.8},
    "phases": {
        "phases": (Phase("fc", 1), Phase("layer4", 2, lr=1e-3, schedule="Cosine")),
        "recalibrate": True, "keep": "best", "patience": 1, "augment": "RandomHorizontalFlip()",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_broken_off_anywhere_ends_the_same(
    name, weights, photos, tmp_path, monkeypatch
):
    """Every batch of some runs, and each of their few phases."""
    monkeypatch.setattr(finetuning, "write_results", lambda *results: None)
    fixed: dict[str, Any] = {
        "data": str(photos), "weights": str(weights), "batch_size": 7, "save_every": -1.0,
    }  # fmt: skip
    given = {"epochs": 3} | RUNS[name] | fixed
    if "phases" in given:
        del given["epochs"]

    usual = phases._callbacks

    def run(folder: str, looks: int = 0, resume: Any = None) -> Any:
        stop = StopAt(looks)
        monkeypatch.setattr(phases, "_callbacks", lambda *phase: [*usual(*phase), stop])
        given_now = {"out": str(tmp_path / folder)}
        with suppress(BrokenOffError):
            if resume is None:
                finetune(Options(**given | given_now), None, QUIET)
            else:
                finetune(resumed_options(resume, given_now), resume, QUIET)
        return load_checkpoint(tmp_path / folder / "checkpoint.npz", to_go_on=True)

    whole = run("whole")
    looks = 7 * len(whole.record["history"])  # 48 images in batches of 7
    for i, looked in enumerate(range(2, looks + 1, 3)):
        broken = run(f"{i}", looked)
        assert broken.record["epoch"] < 3
        resumed = run(f"{i}", resume=broken)
        assert resumed.model.keys() == whole.model.keys()
        for part in ("model", "trained", "optimizer"):
            for key, array in getattr(whole, part).items():
                np.testing.assert_array_equal(getattr(resumed, part)[key], array, err_msg=key)
        for ours, theirs in zip(resumed.record["history"], whole.record["history"], strict=True):
            timeless = ours | {name: theirs[name] for name in ("seconds", "waiting")}
            assert timeless == theirs
        assert resumed.record["random"] == whole.record["random"]
        if given.get("keep") == "best":
            for folder in (f"{i}", "whole"):
                best = load_checkpoint(tmp_path / folder / "best.npz")
                assert best.record["epoch"] == 1 + int(np.argmin(
                    [entry["validation_loss"] for entry in whole.record["history"]]
                ))  # fmt: skip


def test_between_the_batches_of_a_step_nothing_is_saved(monkeypatch):
    saved: list[int] = []
    fit = a_fit(rule=Rule(accumulate=3), batch_size=4)

    class Look(Callback):
        def on_batch_end(self, fit: Fit) -> None:
            if fit.can_be_saved():
                saved.append(fit.batch)

    fit.callbacks.append(Look())
    fit.run(1)
    assert saved == [3]  # of 5 batches, in steps of 3 and 2; the fifth ends the epoch


# --- what a step does ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [6, 7])  # 20 images: 6 6 6 2, 7 7 6
def test_batches_that_make_one_step_are_as_one_batch(batch_size):
    small = a_fit(batch_size=batch_size, rule=Rule(accumulate=2), order=np.random.default_rng(1))
    large = a_fit(batch_size=2 * batch_size, order=np.random.default_rng(1))
    small.run(3)
    large.run(3)
    for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-7)


def test_the_mean_of_a_step_is_weighted_by_the_classes():
    weights = np.array([1, 2, 30], np.float32)
    small = a_fit(batch_size=7, rule=Rule(weights, accumulate=2), order=np.random.default_rng(1))
    large = a_fit(batch_size=14, rule=Rule(weights), order=np.random.default_rng(1))
    small.run(2)
    large.run(2)
    for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-7)


def test_a_training_goes_on_in_the_same_process():
    """As in a notebook, after Ctrl-C."""
    whole = a_fit()
    whole.run(3)
    broken = a_fit(callbacks=[StopAt(6)])
    with pytest.raises(BrokenOffError):
        broken.run(3)
    broken.run(3)
    for a, b in zip(whole.model.parameters(), broken.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_two_callbacks_of_a_kind_have_states_of_their_own():
    both = [EarlyStopping(5), EarlyStopping(9, "train_loss", least=9.0)]
    fit = a_fit(callbacks=both)
    fit.run(2)
    again = [EarlyStopping(5), EarlyStopping(9, "train_loss", least=9.0)]
    a_fit(callbacks=again).load_state_dict(fit.state_dict())
    assert [(c.best, c.since) for c in again] == [(c.best, c.since) for c in both]
    assert both[1].since == 1
    assert both[0].best != both[1].best


def test_a_step_by_hand():
    """One batch of all images: w - lr * g, with the gradient no longer than 0.01."""
    fit = a_fit(batch_size=N, rule=Rule(np.array([1, 2, 3], np.float32), 0.2, clip=0.01))
    twin = linear()
    order = np.random.default_rng(0).permutation(N)
    weights = np.array([1, 2, 3], np.float32)
    loss = cross_entropy(twin(Tensor(FEATURES[order])), order % K, weights, 0.2)
    loss.backward()
    gradients = [p.grad for p in twin.parameters()]
    length = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    assert length > 0.01
    fit.run(1)
    for p, q, g in zip(fit.model.parameters(), twin.parameters(), gradients, strict=True):
        np.testing.assert_allclose(p.data, q.data - 0.1 * g * 0.01 / length, rtol=1e-4, atol=1e-7)
    assert fit.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("before", [0, 1])
def test_each_epoch_has_its_view(before):
    """Two views in turns, 0 1 0 1, or 1 0 1 0 after one epoch of an earlier phase. A head trained
    on zeros alone keeps its weights.
    """
    blank = CachedInputs(np.zeros_like(FEATURES), INPUTS.labels, "cpu")
    model, seen = linear(), []

    class Look(Callback):
        def on_epoch_end(self, fit: Fit) -> None:
            seen.append(model.weight.data.copy())

    views = CachedViews([blank, INPUTS])
    history: list[dict[str, Any]] = [{} for _ in range(before)]
    optimizer = SGD(model.parameters(), 0.1)
    Fit(model, optimizer, views, INPUTS, callbacks=[Look()], history=history).run(4)
    start = linear().weight.data
    same = [np.array_equal(a, b) for a, b in zip([start, *seen[:-1]], seen, strict=True)]
    assert same == ([True, False] * 3)[before : before + 4]


def test_a_plateau_lowers_the_rate():
    fit = a_fit(lr=0.0, schedule=ReduceOnPlateau(0.5, patience=1))  # nothing ever gets better
    fit.rates.first = [1e-30]
    fit.run(6)
    rates = [entry["lr"][0] / 1e-30 for entry in fit.history]
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])


# --- callbacks -----------------------------------------------------------------------------------


class Scripted(Callback):
    """Puts these validation losses in place of the real ones."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_epoch_end(self, fit: Fit) -> None:
        fit.history[-1]["validation_loss"] = self.losses[len(fit.history) - 1]


def test_early_stopping_waits_for_its_patience():
    losses = [5.0, 4.0, 4.0, 4.5, 3.9, 4.0, 4.0, 4.0, 1.0]
    saved: list[int] = []
    best = KeepBest(lambda: saved.append(len(fit.history)))
    fit = a_fit(callbacks=[Scripted(losses), best, EarlyStopping(3)])
    fit.run(9)
    assert len(fit.history) == 8
    assert fit.stopped == "validation loss has not been better since epoch 5"
    assert saved == [1, 2, 5]
    fit.run(9)
    assert len(fit.history) == 8


def test_what_is_watched_may_rise():
    stopping = EarlyStopping(1, "validation_accuracy", least=0.01)
    for value, since in ((0.5, 0), (0.505, 1), (0.6, 0), (0.6, 1)):
        fit = a_fit()
        fit.history = [{"validation_accuracy": value}]
        stopping.on_epoch_end(fit)
        assert stopping.since == since
    with pytest.raises(ValueError, match="'wings' is not watched: take one of validation_loss"):
        EarlyStopping(1, "wings")


def test_one_moved_byte_is_an_error():
    model = small_network()
    model.freeze_before("layer4")
    audit, fit = FrozenAudit(model), a_fit()
    fit.history = [{}]
    for name, array in frozen_arrays(model).items():
        assert not name.startswith(("layer4", "fc"))
        audit.on_epoch_begin(fit)
        audit.on_epoch_end(fit)
        array.view(np.uint8).reshape(-1)[-1] ^= 1
        with pytest.raises(UserError, match=f"epoch 1 has changed what is frozen: {name};"):
            audit.on_epoch_end(fit)
    names = set(frozen_arrays(model))
    assert {"conv1.weight", "bn1.running_mean", "layer3.1.bn2.running_var"} <= names
    model.layer4.parameters()[0].data += 1
    assert set(hashes(frozen_arrays(model))) == names


def test_frozen_parameters_in_an_optimizer_are_named():
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    model.freeze_before("fc")
    with pytest.warns(UserWarning, match=r"holds frozen parameters, .*: conv1.weight, .* 56 more"):
        Fit(model, optimizer, INPUTS, INPUTS, start="fc")


# --- for any network -----------------------------------------------------------------------------


class Small(Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.conv1, self.bn1 = Conv2d(3, 8, 3, 2, 1, rng=rng), BatchNorm2d(8)
        self.conv2, self.bn2 = Conv2d(8, 16, 3, 2, 1, rng=rng), BatchNorm2d(16)
        self.fc = Linear(16, 10, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(x)))
        return self.fc(global_avg_pool(relu(self.bn2(self.conv2(x)))))


def test_any_network_learns_from_images(capsys):
    images, labels, classes = load_digits_images(16)
    train, validation = (
        ArrayImages(images[part], labels[part], tuple(classes))
        for part in (slice(1200), slice(1200, None))
    )
    moved = AugmentedImages(train, parse("KerasAffine(width_shift_range=0.05)"), seed=0)
    model = Small()
    rates = {"schedule": OneCycle(8 * 38), "average": MovingAverage(model, 0.9)}
    history = fit(model, Adam(model.parameters(), 0.03), moved, validation, 8, **rates)
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert history[-1]["validation_accuracy"] > 0.8
    assert "epoch   8" in capsys.readouterr().out
