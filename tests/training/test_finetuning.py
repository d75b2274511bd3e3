"""Whole runs of a small network: what must not make a difference makes none, bit for bit."""

import csv
import errno
import io
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnet_np.data.digits import load_digits_images
from resnet_np.errors import UserError
from resnet_np.training import finetuning, recalibrate, results, setup
from resnet_np.training.checkpoint import load_checkpoint, restore_model
from resnet_np.training.finetuning import finetune, resumed_options
from resnet_np.training.fit import Fit
from resnet_np.training.options import Options, Phase
from resnet_np.training.predictor import Predictor
from resnet_np.training.run import _look_at
from resnet_np.weights import read, read_npz, save_npz

QUIET = Console(quiet=True)


@pytest.fixture
def run(full_run, monkeypatch):
    """Fine-tune with these options, without pictures at the end; returns the checkpoint."""
    monkeypatch.setattr(finetuning, "write_results", lambda *results: None)
    return full_run


@pytest.fixture
def full_run(weights, photos, tmp_path):
    """Fine-tune with these options; returns the checkpoint."""

    def go(name: str, **given) -> object:
        settings = {"data": str(photos), "weights": str(weights), "epochs": 2, "batch_size": 16}
        options = Options(**settings | given, out=str(tmp_path / name))
        finetune(options, None, QUIET)
        return load_checkpoint(tmp_path / name / "checkpoint.npz", to_go_on=True)

    return go


def same(a, b) -> bool:
    return a.model.keys() == b.model.keys() and all(
        np.array_equal(a.model[name], b.model[name]) for name in a.model
    )


def differing(a, b) -> set[str]:
    return {name for name in a.model if not np.array_equal(a.model[name], b.model[name])}


@pytest.mark.parametrize("unfreeze", ["fc", "layer4"])
def test_training_with_and_without_the_cache_gives_the_same_parameters(run, unfreeze):
    recalibrate = unfreeze == "layer4"
    options = {"unfreeze": unfreeze, "recalibrate": recalibrate, "dropout": 0.2, "head": (8,)}
    assert same(run("cached", **options), run("uncached", **options, cache=False))


def test_views_are_the_same_with_and_without_the_cache(run):
    options = {"augment": "RandomHorizontalFlip(), ColorJitter(0.5)", "views": 2, "epochs": 3}
    cached, uncached = run("cached", **options), run("uncached", **options, cache=False)
    assert same(cached, uncached)
    assert not same(cached, run("always new", **options | {"views": 0}))


def test_classes_get_the_names_of_a_file(run, photos, tmp_path):
    """Index 1 is `blue`: names go by what the folders are called, not by their order."""
    for number, name in enumerate(("green", "blue", "red")):
        shutil.copytree(photos / name, tmp_path / "numbered" / str(number))
    (tmp_path / "names.txt").write_text("grass\nsky\nfire\n")
    checkpoint = run("named", data=str(tmp_path / "numbered"), names=str(tmp_path / "names.txt"))
    assert checkpoint.classes == ("grass", "sky", "fire")
    told = Predictor(tmp_path / "named" / "checkpoint.npz")
    assert told.classes == checkpoint.classes
    (tmp_path / "names.txt").rename(tmp_path / "elsewhere.txt")
    given = {"epochs": 3, "out": str(tmp_path / "on"), "names": str(tmp_path / "elsewhere.txt")}
    finetune(resumed_options(checkpoint, given), checkpoint, QUIET)
    with pytest.raises(UserError, match=r"names\.txt: cannot be read"):  # before any work
        setup.check_options(Options(data="nowhere", names=str(tmp_path / "names.txt")))


def test_the_whole_image_or_its_middle(run, photos):
    checkpoint = run("whole", fit="stretch")
    assert (checkpoint.contract.fit, run("middle").contract.fit) == ("stretch", "crop")
    from_weights = replace(checkpoint.contract, fit="crop")
    assert from_weights == run("cut", fit="crop").contract


def test_the_doctor_is_seen_at_work(photos):
    """On a terminal, where bars are drawn."""
    screen = io.StringIO()
    console = Console(force_terminal=True, file=screen)
    diagnosis = _look_at(str(photos), 32, console)
    assert diagnosis.images == 60
    assert "60 images in 3 classes" in screen.getvalue()


def test_the_best_weights_come_along(run, tmp_path):
    """To another folder; and those of later epochs stay behind."""
    options = {"keep": "best", "save_epochs": 1, "watch": "validation_accuracy", "head_lr": 1e-9}
    run("a", epochs=2, **options)  # at such a rate nothing gets better: the first epoch is best
    first = load_checkpoint(tmp_path / "a" / "epoch-0001.npz", to_go_on=True)
    finetune(resumed_options(first, {"epochs": 3, "out": str(tmp_path / "b")}), first, QUIET)
    assert load_checkpoint(tmp_path / "b" / "best.npz", True).record["epoch"] == 1
    (tmp_path / "a" / "best.npz").unlink()
    finetune(resumed_options(first, {"epochs": 3, "out": str(tmp_path / "c")}), first, QUIET)
    assert load_checkpoint(tmp_path / "c" / "best.npz", True).record["epoch"] == 2


def test_the_seed_decides(run):
    first, again, other = run("a", seed=1), run("b", seed=1), run("c", seed=2)
    assert same(first, again)
    assert differing(first, other) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(run, tmp_path, optimizer):
    options = {
        "optimizer": optimizer, "unfreeze": "layer4", "recalibrate": True, "dropout": 0.3,
        "head": (8, 6), "head_lr": 0.002,
    }  # fmt: skip
    whole = run("whole", epochs=4, **options)
    half = run("half", epochs=2, **options)
    given = {"epochs": 4, "out": str(tmp_path / "resumed")}
    finetune(resumed_options(half, given), half, QUIET)
    resumed = load_checkpoint(tmp_path / "resumed" / "checkpoint.npz", to_go_on=True)
    assert same(whole, resumed)
    assert not same(whole, half)
    assert all(np.array_equal(whole.optimizer[k], resumed.optimizer[k]) for k in whole.optimizer)
    figures = [
        [entry["validation_loss"] for entry in checkpoint.record["history"]]
        for checkpoint in (whole, resumed)
    ]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 4


def test_only_the_unfrozen_stages_change(run, weights):
    start = load_checkpoint(weights)
    head_only = run("head")
    assert {n.split(".")[0] for n in differing(start, head_only)} == {"fc"}
    more = run("more", unfreeze="layer3", recalibrate=True)
    assert {n.split(".")[0] for n in differing(start, more)} == {"layer3", "layer4", "fc"}


def test_a_run_learns_and_leaves_its_files(full_run, tmp_path):
    checkpoint = full_run("a", epochs=15, lr=0.03)
    folder = tmp_path / "a"
    assert sorted(os.listdir(folder)) == [
        "checkpoint.npz", "confusion.png", "curves.png", "history.json", "predictions.csv",
        "recipe.toml", "report.html",
    ]  # fmt: skip
    record = json.loads((folder / "history.json").read_text())
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["label"] == row["answer"] for row in rows) / len(rows)
    assert right == pytest.approx(record["figures"]["test"]["accuracy"])
    assert all(Path(row["path"]).parent.name == row["label"] for row in rows)
    assert all(max(("blue", "green", "red"), key=lambda name: float(row[name])) == row["answer"]
               for row in rows)  # fmt: skip
    assert record["figures"]["test"]["accuracy"] >= 0.8
    assert record["history"] == checkpoint.record["history"]
    assert set(record["weights"]["missing"]) == {"fc.weight", "fc.bias"}
    assert set(record["weights"]["left_out"]) == {"fc.weight", "fc.bias"}
    assert set(record["weights"]["used"]) == checkpoint.model.keys() - {"fc.weight", "fc.bias"}
    assert [entry["epoch"] for entry in record["history"]] == list(range(1, 16))
    assert checkpoint.classes == ("blue", "green", "red")
    for name in ("confusion.png", "curves.png"):
        with Image.open(folder / name) as image:
            image.load()
    assert restore_model(checkpoint).config["num_classes"] == 3


def test_without_arguments_the_digits_and_the_embedded_weights(tmp_path, monkeypatch):
    images, labels, classes = load_digits_images(32)
    some = images[:150], labels[:150], classes
    monkeypatch.setattr(setup, "load_digits_images", lambda size: some)
    monkeypatch.chdir(tmp_path)
    finetune(Options(), None, QUIET)
    folder = tmp_path / "runs" / "digits-1"
    assert sorted(os.listdir(folder / "samples")) == [f"{k}.png" for k in range(5)]
    predictor = Predictor(folder / "checkpoint.npz")
    answers = predictor.probabilities([folder / "samples" / f"{k}.png" for k in range(5)])
    assert (answers.argmax(axis=1) == np.arange(5)).sum() >= 4


def test_folded_statistics_are_not_trained_blindly(run, weights, tmp_path):
    arrays, record = read_npz(weights)
    for name, array in arrays.items():
        if "layer4" in name and name.endswith("running_var"):
            array *= 1000
    save_npz(tmp_path / "odd.npz", arrays, record)
    odd = str(tmp_path / "odd.npz")
    for stage in ("layer4", "stem"):
        with pytest.raises(UserError, match=f"--unfreeze {stage}: the stored.* --recalibrate"):
            run("refused", weights=odd, unfreeze=stage)
    assert not (tmp_path / "refused").exists()
    run("repaired", weights=odd, unfreeze="layer4", recalibrate=True)
    run("frozen", weights=odd)  # with fixed statistics there is nothing to refuse


def test_statistics_that_were_folded_away_are_refused_however_well_they_fit(
    run, weights, tmp_path, monkeypatch
):
    arrays, record = read_npz(weights)
    for name, array in arrays.items():
        if "layer4" in name and "running" in name:
            array[...] = name.endswith("running_var")
    save_npz(tmp_path / "folded.npz", arrays, record)
    monkeypatch.setattr(recalibrate, "disagreement", lambda *args: {})
    with pytest.raises(UserError, match=r"layer4: the statistics of 5 .* --recalibrate") as refusal:
        run("a", weights=str(tmp_path / "folded.npz"), unfreeze="layer4")
    assert "\n" not in str(refusal.value)
    run("b", weights=str(tmp_path / "folded.npz"), unfreeze="layer4", recalibrate=True)


def test_a_checkpoint_is_built_again_as_it_was(weights, tmp_path):
    arrays, record = read_npz(weights)
    record["model"] |= {"pooling": "max", "bn_momentum": 0.25}
    save_npz(tmp_path / "odd.npz", arrays, record)
    options = Options(weights=str(tmp_path / "odd.npz"), head=(6,), seed=3)
    model, _ = setup.build_model(setup.find_source(options), 4, options)
    expected = record["model"] | {"num_classes": 4, "head": [6], "seed": 3}
    assert model.config == expected
    record["model"]["wings"] = 2
    save_npz(tmp_path / "odd.npz", arrays, record)
    with pytest.raises(UserError, match=r"odd\.npz: cannot build its network: .* 'wings'"):
        setup.build_model(setup.find_source(options), 4, options)


@pytest.mark.parametrize(("source", "momentum"), [("keras", 0.01), ("torchvision", 0.1)])
def test_the_momentum_is_that_of_the_framework(weights, monkeypatch, source, momentum):
    file = replace(read(weights), source=source, record=None)
    monkeypatch.setattr(setup.weights, "read", lambda path: file)
    assert setup.find_source(Options(weights="x.npz")).config["bn_momentum"] == momentum


def test_an_epsilon_that_nobody_tells_is_not_guessed(weights, monkeypatch):
    file = replace(read(weights), bn_eps=None, record=None)
    monkeypatch.setattr(setup.weights, "read", lambda path: file)
    with pytest.raises(UserError, match="cannot tell the epsilon of its batch norms"):
        setup.find_source(Options(weights="x.npz"))


def test_a_loss_that_is_not_finite_ends_the_run(run):
    with pytest.raises(UserError, match="no longer a finite number; use a smaller --lr"):
        run("a", optimizer="sgd", lr=1e30, head=(8,), epochs=9)


def test_a_full_disk_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"checkpoint\.npz: cannot be written: No space left"):
        run("a")
    assert not (tmp_path / "a").exists()


def test_an_interrupted_run_says_where_to_go_on(run, tmp_path, monkeypatch, request):
    train_epoch = Fit.train_epoch

    def interrupted_in_the_third(fit):
        if len(fit.history) == 2:
            signal.raise_signal(signal.SIGINT)
            time.sleep(1)
        train_epoch(fit)

    monkeypatch.setattr(Fit, "train_epoch", interrupted_in_the_third)
    # A shell starts what it runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt, match=r"--resume .*a/checkpoint.npz goes on after .* 2$"):
        run("a", epochs=5, save_every=0.0)
    assert os.listdir(tmp_path / "a") == ["checkpoint.npz"]
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz", True).record["epoch"] == 2


def test_an_interruption_between_two_phases_says_where_to_go_on(run, tmp_path, monkeypatch):
    begin = finetuning.begin_phase

    def interrupted_in_the_second(run, number, *rest, **options):
        if number == 1:
            raise KeyboardInterrupt
        return begin(run, number, *rest, **options)

    monkeypatch.setattr(finetuning, "begin_phase", interrupted_in_the_second)
    phases = (Phase("fc", 1), Phase("layer4", 1))
    with pytest.raises(KeyboardInterrupt, match=r"--resume .*a/checkpoint.npz goes on after .* 1$"):
        run("a", phases=phases, recalibrate=True)


def test_resuming_refuses_other_options_and_other_images(full_run, photos, tmp_path):
    checkpoint = full_run("a")
    with pytest.raises(UserError, match="--lr, --batch-size: cannot be changed with --resume"):
        resumed_options(checkpoint, {"lr": 0.1, "batch_size": 3, "epochs": 5})
    with pytest.raises(UserError, match="has 2 epochs already; say --epochs 3"):
        resumed_options(checkpoint, {})
    for name in ("red", "blue"):
        (tmp_path / "fewer" / name).mkdir(parents=True)
        for i in range(5):
            path = photos / name / f"{i:02}.png"
            (tmp_path / "fewer" / name / path.name).write_bytes(path.read_bytes())
    options = resumed_options(checkpoint, {"epochs": 3, "data": str(tmp_path / "fewer")})
    with pytest.raises(UserError, match="on 48 train, 6 validation, 6 test images, but here are 6"):
        finetune(options, checkpoint, QUIET)
    shutil.copytree(photos, tmp_path / "renamed")
    (tmp_path / "renamed" / "green").rename(tmp_path / "renamed" / "grass")
    options = resumed_options(checkpoint, {"epochs": 3, "data": str(tmp_path / "renamed")})
    with pytest.raises(UserError, match="other classes: class 2 was 'green' and is 'grass' now"):
        finetune(options, checkpoint, QUIET)


def test_a_run_that_was_broken_off_in_front_of_its_results_writes_them(full_run, tmp_path):
    whole = full_run("a")
    (tmp_path / "a" / "history.json").unlink()
    finetune(resumed_options(whole, {"out": str(tmp_path / "a")}), whole, QUIET)
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz", True).record["epoch"] == 2
    with pytest.raises(UserError, match="has 2 epochs already; say --epochs 3"):
        resumed_options(whole, {})


def test_resuming_refuses_as_many_images_of_other_names(run, photos, tmp_path):
    checkpoint = run("a")
    shutil.copytree(photos, tmp_path / "moved")
    options = resumed_options(checkpoint, {"epochs": 3, "data": str(tmp_path / "moved")})
    finetune(options, checkpoint, QUIET)
    for path in (tmp_path / "moved" / "red").iterdir():
        path.rename(path.with_suffix(".PNG"))
    with pytest.raises(UserError, match=r"checkpoint\.npz: was trained on other images, as many"):
        finetune(options, checkpoint, QUIET)


def test_a_checkpoint_of_format_1_goes_on(run, tmp_path, monkeypatch):
    golden = Path(__file__).parents[1] / "golden"
    monkeypatch.syspath_prepend(str(golden))
    from make_checkpoint import ramps

    for name, ramp in zip(("across", "down"), ramps(), strict=True):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(ramp // (i + 1)).save(tmp_path / "images" / name / f"{i}.png")
    old = load_checkpoint(golden / "checkpoint_format1.npz", to_go_on=True)
    assert "fingerprints" not in old.record
    given = {"epochs": 4, "data": str(tmp_path / "images"), "out": str(tmp_path / "out")}
    finetune(resumed_options(old, given), old, QUIET)
    record = load_checkpoint(tmp_path / "out" / "checkpoint.npz", to_go_on=True).record
    assert record["history"][:3] == old.record["history"]
    assert (record["format"], record["epoch"]) == (1, 4)
    sys.modules.pop("make_checkpoint")


def test_another_runs_checkpoint_is_not_written_over(run, tmp_path):
    first = run("a")
    written = (tmp_path / "a" / "checkpoint.npz").read_bytes()
    refusal = r"--out .*a: holds checkpoint.npz of another run; name another folder, or go on"
    with pytest.raises(UserError, match=refusal):
        run("a")
    other = run("b")
    given = {"epochs": 3, "out": str(tmp_path / "a")}
    with pytest.raises(UserError, match=r"holds checkpoint.npz of another run"):
        finetune(resumed_options(other, given), other, QUIET)
    assert (tmp_path / "a" / "checkpoint.npz").read_bytes() == written
    finetune(resumed_options(first, given), first, QUIET)
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz").record["epoch"] == 3
    (tmp_path / "a" / "checkpoint.npz").rename(tmp_path / "a" / "history.json")
    with pytest.raises(UserError, match=r"holds history.json of another run; name another folder$"):
        run("a")
    (tmp_path / "b" / "checkpoint.npz").rename(tmp_path / "b" / "best.npz")
    with pytest.raises(UserError, match=r"holds best.npz of another run; .* --resume .*best.npz"):
        run("b")


def test_the_interpreter_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    for folder in (".venv", "other"):
        (tmp_path / folder).mkdir()
        for name in ("python", "python3"):
            (tmp_path / folder / name).symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "python3"))
    for path, expected in ((".venv", "python"), ("other", ".venv/python3"), ("", ".venv/python3")):
        monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
        assert results._python() == expected
    monkeypatch.chdir(tmp_path / "other")
    assert results._python() == str(tmp_path / ".venv" / "python3")
