"""Sweeps as a user sees them, and the learning-rate finder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused
from test_commands import call
from test_fit import FEATURES, a_fit, linear

from resnet_np.errors import UserError
from resnet_np.optim import SGD
from resnet_np.training.features import CachedInputs
from resnet_np.training.fit import Fit
from resnet_np.training.rate_finder import HIGHEST, LOWEST, Found, Rising, find_rate
from resnet_np.training.sweeping import Values, combine

QUICK = ["--epochs", 1, "--no-doctor"]


def test_all_combinations():
    varied = [Values.parse("lr=0.1|0.2"), Values.parse("--batch_size=8|16|32")]
    found = combine(varied, None, 0)
    assert found[:2] == [{"lr": "0.1", "batch-size": "8"}, {"lr": "0.1", "batch-size": "16"}]
    assert len({tuple(combination.values()) for combination in found}) == 6


def test_random_combinations_are_those_of_the_seed():
    varied = [Values.parse("lr=0.001..10"), Values.parse("head=256|256,128|")]
    found = combine(varied, 200, seed=1)
    assert found == combine(varied, 200, seed=1) != combine(varied, 200, seed=2)
    rates = np.array([float(combination["lr"]) for combination in found])
    assert 0.001 <= rates.min() < 0.002
    assert 5 < rates.max() <= 10
    assert 0.03 < np.median(rates) < 0.3  # evenly by the logarithm: about 0.1
    assert {combination["head"] for combination in found} == {"256", "256,128", ""}


@pytest.mark.parametrize(
    ("texts", "draws", "said"),
    [
        (["lr"], None, "--vary lr: write it like lr=0.1|0.01, or lr=0.0001..0.1"),
        (["lr=1..0.1"], 3, "--vary lr=1..0.1: a range is two numbers above 0, the smaller"),
        (["lr=0..1"], 3, "a range is two numbers above 0"),
        (["lr=a..b"], 3, "a range is two numbers above 0"),
        (["lr=0.1..1"], None, "--vary lr: a range needs --random N"),
        (["lr=1", "lr=2"], None, "--vary: an option stands there twice"),
    ],
)
def test_what_cannot_be_varied(texts, draws, said):
    with pytest.raises(UserError, match=said.replace("|", r"\|")):
        combine([Values.parse(text) for text in texts], draws, 0)


def test_a_sweep_runs_all_and_does_nothing_twice(photos: Path, weights: Path, tmp_path: Path):
    words = ["--data", photos, "--weights", weights, *QUICK, "--vary", "lr=0.1|0.01"]
    words += ["--out", "s"]
    result = call("sweep", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    records = [json.loads((tmp_path / "s" / n / "history.json").read_text()) for n in "12"]
    assert [record["arguments"]["lr"] for record in records] == [0.1, 0.01]
    assert result.stdout.count("epoch   1") == 2
    table = result.stdout.rsplit("validation", 1)[1]
    assert "s/1" in table and "s/2" in table
    assert " lr " in result.stdout
    (tmp_path / "s" / "2" / "history.json").unlink()  # as if it had been broken off at its end
    result = call("sweep", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "s/1: is finished" in result.stdout
    assert (tmp_path / "s" / "2" / "history.json").exists()
    result = call("sweep", *words[:-4], "--vary", "lr=0.3", "--out", "s", cwd=tmp_path)
    assert_refused(result, "s/1: holds a run of other options (lr); name another --out")


def test_what_was_broken_off_before_its_first_checkpoint_goes_on(
    photos: Path, weights: Path, tmp_path: Path
):
    words = ["--data", photos, "--weights", weights, *QUICK, "--keep", "best", "--vary", "lr=0.01"]
    result = call("sweep", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "sweep" / "1"
    for path in run.iterdir():
        if path.name != "best.npz":
            path.unlink()
    result = call("sweep", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run / "history.json").exists()


def test_each_data_set_is_looked_at_once(photos: Path, weights: Path, tmp_path: Path):
    (tmp_path / "others").symlink_to(photos)
    words = ["--weights", weights, "--epochs", 1, "--vary", f"data={photos}|others"]
    result = call("sweep", *words, "--vary", "lr=0.1|0.01", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    runs = tmp_path / "runs" / "sweep"
    records = [json.loads((runs / n / "history.json").read_text()) for n in "1234"]
    assert [record["arguments"]["doctor"] for record in records] == [True, False, True, False]


def test_a_run_that_fails_does_not_stop_the_others(photos: Path, weights: Path, tmp_path: Path):
    words = ["--data", photos, "--weights", weights, *QUICK, "--optimizer", "sgd", "--head", "8"]
    words += ["--vary", "lr=0.1|1e30|0.2", "--out", "s", "--epochs", 3]
    result = call("sweep", *words, cwd=tmp_path)
    assert result.returncode == 2
    assert "s/3" in result.stdout.rsplit("validation", 1)[1]
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: 1 of 3 runs have failed: s/2: the loss is no longer a finite")


def test_a_sweep_reads_all_values_before_it_begins(tmp_path: Path):
    result = call("sweep", "--vary", "epochs=1|0", cwd=tmp_path)
    said = "--vary epochs=0: argument --epochs: must be a whole number of 1 or more, not '0'"
    assert_refused(result, said)
    result = call("sweep", "--vary", "lr=1|2", "--vary", "momentum=0.5", cwd=tmp_path)
    assert_refused(result, "--vary lr=1 momentum=0.5: --momentum: adam has none")
    result = call("sweep", "--vary", "out=a|b", cwd=tmp_path)
    assert_refused(result, "--vary out=a: the sweep chooses the folders; say --out FOLDER")
    result = call("sweep", "--vary", "doctor=a|b", cwd=tmp_path)
    assert_refused(result, "--vary doctor=a: unrecognized arguments")
    assert_refused(call("sweep", cwd=tmp_path), "--vary")
    assert list(tmp_path.iterdir()) == []


# --- which learning rate? ------------------------------------------------------------------------


def test_rates_rise_by_the_same_factor():
    shares = [Rising(7).share(step) for step in range(7)]
    assert shares == pytest.approx([LOWEST * 10**i for i in range(7)])
    assert shares[-1] == pytest.approx(HIGHEST)


def test_where_the_loss_falls_fastest():
    shares = np.geomspace(1e-3, 1e3, 61)
    losses = 2 - np.tanh(3 * np.log10(shares)) + 50 * (np.log10(shares) > 2)
    assert Found(shares, losses).steepest == pytest.approx(1, rel=0.3)
    with pytest.raises(UserError, match="the loss does not fall at any rate"):
        Found(shares, np.arange(61.0)).steepest  # noqa: B018


def test_too_high_a_rate_ends_the_search():
    learnable = CachedInputs(FEATURES, FEATURES[:, :3].argmax(axis=1), "cpu")
    model = linear()
    fit = Fit(model, SGD(model.parameters(), 1.0), learnable, learnable)
    found = find_rate(fit, 60)
    assert 10 < len(found.losses) <= 50
    assert found.shares[0] == pytest.approx(LOWEST * 1e6 ** (10 / 59))
    assert 1e-2 < found.steepest < 100
    wild = find_rate(a_fit(lr=100.0), 60)
    assert len(wild.losses) < 50


def test_a_rate_that_is_too_high_from_the_first_step():
    model = linear()
    fit = Fit(
        model,
        SGD(model.parameters(), 1e38),
        *[CachedInputs(FEATURES, np.arange(20) % 3, "cpu")] * 2,
    )
    with pytest.raises(
        UserError, match="the loss grows from the first steps on: try a smaller --lr"
    ):
        find_rate(fit, 40)


def test_a_broken_image_is_named(photos: Path, weights: Path, tmp_path: Path):
    shutil.copytree(photos, tmp_path / "broken")
    for path in (tmp_path / "broken" / "red").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    words = ["--data", "broken", "--weights", weights, "--no-cache", "--steps", 60]
    assert_refused(call("lr_find", *words, cwd=tmp_path), ".png: broken image (")


def test_the_command(photos: Path, weights: Path, tmp_path: Path):
    words = ["--data", photos, "--weights", weights, "--batch-size", 8, "--steps", 60]
    result = call("lr_find", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "rates.png: the loss over " in result.stdout
    assert "it falls fastest with: --head-lr " in result.stdout
    with Image.open(tmp_path / "rates.png") as image:
        assert image.width > 500
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]
    (tmp_path / "r.toml").write_text("patience = 3\nschedule = 'Cosine'\nout = 'o'\n")
    result = call("lr_find", *words, "--recipe", "r.toml", "--plot", "b.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "r.toml", "rates.png"]
    assert_refused(call("lr_find", "--patience", 3, cwd=tmp_path), "--patience")
    result = call("lr_find", "--plot", "a.jpg", cwd=tmp_path)
    assert_refused(result, "--plot a.jpg: give it the name of a .png in a folder that there is")
