"""Checkpoints: old ones load, damaged and foreign ones are refused."""

import copy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_network import small_network

from resnet_np.autograd import Tensor, no_grad
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.optim import SGD, Adam
from resnet_np.training.checkpoint import (
    FIGURES,
    load_checkpoint,
    restore_fit,
    restore_model,
    restore_random,
    save_checkpoint,
)
from resnet_np.training.features import CachedInputs
from resnet_np.training.fit import Fit
from resnet_np.training.options import Options
from resnet_np.weights import PLAIN, read_npz, save_npz

GOLDEN = Path(__file__).parents[1] / "golden"
OLD = GOLDEN / "checkpoint_format1.npz"


def test_a_checkpoint_of_format_1_still_predicts(monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN))
    from make_checkpoint import ramps

    checkpoint = load_checkpoint(OLD)
    assert checkpoint.record["format"] == 1
    assert checkpoint.classes == ("across", "down")
    model = restore_model(checkpoint)
    model.eval()
    with no_grad():
        logits = model(Tensor(checkpoint.contract.normalise(ramps()))).data
    expected = np.load(GOLDEN / "checkpoint_format1_logits.npy", allow_pickle=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    sys.modules.pop("make_checkpoint")


def test_a_checkpoint_of_format_1_can_still_go_on():
    checkpoint = load_checkpoint(OLD, to_go_on=True)
    options = Options.from_record(checkpoint.record["arguments"])
    model = restore_model(checkpoint)
    model.freeze_before(options.unfreeze)
    optimizer, order = options.make_optimizer(model), np.random.default_rng(0)
    restore_random(checkpoint, model, order)
    restore_fit(checkpoint, a_fit(model, optimizer, order))
    steps = {value for n, value in optimizer.state_dict()["state"].items() if n.endswith("step")}
    assert steps == {checkpoint.record["epoch"] * 2}
    assert order.bit_generator.state == checkpoint.record["random"]["order"]


def test_a_checkpoint_is_weights_too():
    report = load_weights(ResNet(18, width=1 / 32, num_classes=7), OLD)
    assert set(report.missing) == {"fc.weight", "fc.bias"}


def test_no_entry_is_a_pickle():
    with zipfile.ZipFile(OLD) as archive:
        names = archive.namelist()
        headers = [archive.read(name)[:200] for name in names]
    assert all(name.endswith(".npy") for name in names)
    assert not any(b"'|O'" in header for header in headers)


def a_fit(model, optimizer, order) -> Fit:
    """A training that has not begun."""
    nothing = CachedInputs(np.zeros((2, 1), np.float32), np.zeros(2, np.int64), "cpu")
    return Fit(model, optimizer, nothing, nothing, order=order)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint, written with SGD after one step."""
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    model(Tensor(np.ones((2, 32, 32, 3), np.float32))).sum().backward()
    optimizer.step()
    record = {
        "classes": list("abcde"), "contract": PLAIN.to_record(), "image_size": 32, "epoch": 1,
        "arguments": Options().to_record(), "images": {"train": 2},
        "history": [dict.fromkeys(FIGURES, 1.0)],
    }  # fmt: skip
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, a_fit(model, optimizer, np.random.default_rng(5)), record)
    return path, model, optimizer


def test_everything_comes_back(saved):
    path, model, optimizer = saved
    checkpoint = load_checkpoint(path, to_go_on=True)
    again = restore_model(checkpoint)
    for name, array in model.state_dict().items():
        assert np.array_equal(again.state_dict()[name], array)
    assert (again.contract, again.classes) == (PLAIN, tuple("abcde"))
    twin, order = SGD(again.parameters(), 0.5), np.random.default_rng(0)
    restore_random(checkpoint, again, order)
    restore_fit(checkpoint, a_fit(again, twin, order))
    ours, theirs = optimizer.state_dict(), twin.state_dict()
    assert ours["groups"] == theirs["groups"]
    assert all(np.array_equal(theirs["state"][k], v) for k, v in ours["state"].items())
    assert order.random() == np.random.default_rng(5).random()


def test_an_optimizer_that_has_lost_its_state_cannot_go_on(saved):
    path, _, _ = saved
    arrays, record = read_npz(path)

    def go_on(kept: dict[str, np.ndarray], epochs: int) -> None:
        fit = record["fit"] | {"epochs": epochs}
        save_npz(path, kept, record | {"fit": fit})
        checkpoint = load_checkpoint(path, to_go_on=True)
        model = restore_model(checkpoint)
        optimizer = SGD(model.parameters(), 0.5, momentum=0.9)
        restore_fit(checkpoint, a_fit(model, optimizer, np.random.default_rng(0)))

    model = {name: array for name, array in arrays.items() if name.startswith("model/")}
    go_on(model, 0)  # before the first step there is none
    number = len([name for name in arrays if name.startswith("optimizer/")])
    lost = f"cannot go on from it: the optimizer's state is missing for {number} parameters"
    with pytest.raises(UserError, match=lost):
        go_on(model, 1)
    one = model | {"optimizer/0.velocity": arrays["optimizer/0.velocity"]}
    with pytest.raises(UserError, match=f"is missing for {number - 1} parameters"):
        go_on(one, 0)


def test_another_optimizer_cannot_go_on(saved):
    path, model, _ = saved
    checkpoint = load_checkpoint(path, to_go_on=True)
    with pytest.raises(UserError, match="was trained with SGD, not Adam"):
        restore_fit(checkpoint, a_fit(model, Adam(model.parameters()), np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("classes"), "cannot predict: its record has no classes"),
        (lambda r: r["model"].update(depth=19), "depth must be one of"),
        (lambda r: r["model"].update(depth=34), "is missing"),
        (lambda r: r["model"].update(width=0.5), "has shape"),
        (lambda r: r["model"].update(wings=2), "unexpected keyword argument 'wings'"),
        (lambda r: r.update(classes=["a"]), "1 class names for 5 logits"),
        (lambda r: r.update(image_size="large"), "its record is damaged"),
        (lambda r: r.update(contract={"color": "RGB"}), "record is damaged"),
        (lambda r: r.update(model=[]), "record is damaged"),
    ],
)
def test_damaged_and_foreign_checkpoints_are_refused(saved, tmp_path, change, message):
    arrays, record = read_npz(saved[0])
    record = copy.deepcopy(record)
    change(record)
    save_npz(tmp_path / "odd.npz", arrays, record)
    with pytest.raises(UserError, match=r"odd\.npz: ") as refusal:
        restore_model(load_checkpoint(tmp_path / "odd.npz"))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(epoch="x"), "epoch is 'x', its history has 1"),
        (lambda r: r.update(epoch=7), "epoch is 7"),
        (lambda r: r.update(history=None), "record is damaged"),
        (lambda r: r.update(history=[3]), "record is damaged"),
        (lambda r: r["history"][0].pop("seconds"), "'seconds'"),
        (lambda r: r["history"][0].update(train_loss="low"), "'low' stands where a number"),
        (lambda r: r.update(optimizer="lion"), "optimizer is 'lion'"),
        (lambda r: r["optimizer"].update(name="lion"), "was trained with lion, not Adam"),
        (lambda r: r["optimizer"].update(groups=[{"lr": "x"}]), "'x' stands where a number"),
        (lambda r: r["optimizer"].update(groups=3), "record is damaged"),
        (lambda r: r["optimizer"].update(numbers={"999.step": 3}), "cannot go on from it"),
        (lambda r: r.update(random=None), "random is None"),
        (lambda r: r["random"].update(order={"bit_generator": "dice"}), "cannot go on from it"),
        (lambda r: r.update(images=None), "images is None"),
        (lambda r: r.update(arguments=[]), "record is damaged"),
        (lambda r: r["arguments"].update(wings=2), "wings"),
        (lambda r: r["arguments"].update(watch="wings"), "watch is 'wings', not one of"),
        (lambda r: r["arguments"].update(phases=[{"epochs": 1}]), "record is damaged"),
        (lambda r: r["arguments"].update(phases=[{"unfreeze": "pod", "epochs": 1}]), "'pod'"),
        (lambda r: r.update(phase=2), "phase is 2, of 1"),
        (lambda r: r.update(fit=[]), "fit is []"),
        (lambda r: r["fit"].update(epochs="1"), "epochs of fit is '1'"),
        (lambda r: r["fit"].update(batch=-1), "batch of fit is -1"),
        (lambda r: r["fit"].update(progress=["a"]), "cannot go on from it"),
        (lambda r: r["fit"].pop("callbacks"), "cannot go on from it"),
        (lambda r: r["fit"].update(stopped=3), "stopped of fit is 3"),
        (lambda r: r["fit"].update(progress=[float("inf"), 0, 0]), "cannot go on from it"),
        (lambda r: r["arguments"].update(patience=0), "patience is 0, not from 1"),
        (lambda r: r["arguments"].update(ema=2), "ema is 2, not from 0 to below 1"),
        (lambda r: r["arguments"].update(clip=0), "clip is 0, not from"),
        (lambda r: r["arguments"].update(warmup=float("inf")), "warmup is inf, not from"),
        (lambda r: r["arguments"].update(save_epochs=0), "save_epochs is 0, not from 1"),
        (lambda r: r["history"][0].update(waiting="x"), "'x' stands where a number"),
        (lambda r: r.update(image_size=float("inf")), "record is damaged"),
        (lambda r: r["fit"].pop("stopped"), "its record is damaged: 'stopped'"),
        (lambda r: r["arguments"].update(optimizer="lion"), "'lion', not one of sgd, rmsprop"),
        (lambda r: r["arguments"].update(unfreeze="all"), "unfreeze is 'all'"),
        (lambda r: r["arguments"].update(batch_size="32"), "batch_size cannot be '32'"),
        (
            lambda r: r["arguments"].update(batch_size=0),
            "batch_size and accumulate must be 1",
        ),
        (lambda r: r["arguments"].update(seed=-1), "seed and learning rates must be 0 or more"),
        (lambda r: r["arguments"].update(lr=float("nan")), "seed and learning rates must be"),
        (lambda r: r["arguments"].update(head=3), "record is damaged"),
        (lambda r: r["arguments"].update(data=["a"]), "data cannot be ['a']"),
        (lambda r: r.update(image_size=8), "images of 8 pixels"),
    ],
)
def test_a_damaged_record_of_a_run_is_refused(saved, tmp_path, change, message):
    arrays, record = read_npz(saved[0])
    record["optimizer"]["name"] = "Adam"
    change(record)
    save_npz(tmp_path / "odd.npz", arrays, record)
    with pytest.raises(UserError, match=r"odd\.npz: ") as refusal:
        checkpoint = load_checkpoint(tmp_path / "odd.npz", to_go_on=True)
        model = restore_model(checkpoint)
        optimizer = Options.from_record(checkpoint.record["arguments"]).make_optimizer(model)
        order = np.random.default_rng(0)
        restore_random(checkpoint, model, order)
        restore_fit(checkpoint, a_fit(model, optimizer, order))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
