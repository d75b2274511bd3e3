"""The commands as a user meets them: in a process of their own."""

import csv
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

import resnet_np as rnp
from resnet_np.autograd import no_grad, softmax
from resnet_np.data.images import decode, views
from resnet_np.models import ResNet
from resnet_np.training.predictor import Predictor
from resnet_np.weights import PLAIN, Contract, read, read_npz, save_npz
from resnet_np.weights.writing import write


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"resnet_np.{module}", *map(str, arguments)]


def call(module: str, *arguments: object, cwd: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(module, *arguments), cwd=cwd, capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture(scope="module")
def finished(weights, photos, tmp_path_factory):
    """A finished run: its folder, and what it printed."""
    home = tmp_path_factory.mktemp("home")
    arguments = ["--data", photos, "--weights", weights, "--epochs", 8, "--lr", 0.03]
    result = call("finetune", *arguments, cwd=home)
    assert result.returncode == 0, result.stderr
    return home / "runs" / f"{photos.name}-1", result.stdout


def test_a_run_gets_a_new_numbered_folder_and_shows_its_figures(finished, photos, weights):
    folder, output = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.npz", "confusion.png", "curves.png", "history.json", "predictions.csv",
        "recipe.toml", "report.html",
    ]  # fmt: skip
    assert "2 left out, the head is replaced: fc.weight, fc.bias\n" in output
    assert "2 not filled, the head is new and keeps its first values: fc.weight, fc.bias" in output
    assert "input: colours RGB, numbers 0..1 (/255); " in output
    assert "; shorter side to 32, bilinear with antialias; then 32 x 32 from the centre" in output
    assert (
        "checkpoint.npz, confusion.png, curves.png, history.json, predictions.csv, recipe.toml, "
        "report.html\n" in output
    )
    for word in ("frozen features", "epoch   8", "train", "validation", "test", "macro F1"):
        assert word in output
    arguments = ["--data", photos, "--weights", weights, "--epochs", 1]
    assert call("finetune", *arguments, cwd=folder.parents[1]).returncode == 0
    assert (folder.parent / f"{photos.name}-2" / "checkpoint.npz").exists()


def test_the_last_line_is_a_command_that_runs(finished):
    folder, output = finished
    last = output.splitlines()[-1]
    assert last.startswith("next: ")
    line = last.removeprefix("next: ")
    words = shlex.split(line)
    assert words[1:3] == ["-m", "resnet_np.predict"]
    result = subprocess.run(line, shell=True, cwd=folder.parents[1], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == words[-1]
    assert {line.split()[1] for line in lines[1:4]} == {"blue", "green", "red"}
    percents = [float(line.split("%")[0]) for line in lines[1:4]]
    assert percents == sorted(percents, reverse=True)
    assert sum(percents) == pytest.approx(100, abs=0.02)
    assert lines[1].split()[1] == Path(words[-1]).parent.name
    assert "1 image(s) in " in lines[4]


def test_a_table_says_which_images_and_which_split(weights, photos, tmp_path):
    """The files without a label are left out, and so are those that the table does not name."""
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 2
    rows = [
        f"{path},{path.parent.name if i < 11 else ''},{splits[i] if i < 11 else ''}"
        for folder in sorted(photos.iterdir())
        for i, path in enumerate(sorted(folder.iterdir())[:13])
    ]
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    result = call("finetune", "--data", table, "--weights", weights, "--epochs", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "runs" / "photos-1" / "history.json").read_text())
    images = {name: figures["images"] for name, figures in record["figures"].items()}
    assert images == {"train": 18, "validation": 9, "test": 6}
    assert record["classes"] == ["blue", "green", "red"]
    rows[4] = "no/such/file.png,red,train"
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    refused = call("finetune", "--data", table, "--weights", weights, cwd=tmp_path)
    assert_refused(refused, "photos.csv", "no/such/file.png")


def test_similar_images_are_found(finished, photos, tmp_path):
    folder, _ = finished
    query = photos / "red" / "03.png"
    result = call(
        "predict", folder / "checkpoint.npz", query, "--similar", photos, cwd=tmp_path
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[0] == str(query)
    cosines = [float(line.split()[0]) for line in lines[1:6]]
    found = [Path(line.split()[1]) for line in lines[1:6]]
    assert cosines == sorted(cosines, reverse=True)
    assert [path.parent.name for path in found] == ["red"] * 5
    assert query not in found
    assert "61 image(s) in " in lines[6]


def test_predict_refuses(finished, weights, photos, tmp_path):
    folder, _ = finished
    checkpoint, image = folder / "checkpoint.npz", photos / "red" / "00.png"
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    arrays, record = read_npz(weights)
    headless, bare = tmp_path / "head less.npz", tmp_path / "bare.npz"
    fewer, file = tmp_path / "fewer.npz", read(weights)
    write(fewer, replace(file, classes=("a", "b"), record=None))
    trunk = {name: a for name, a in arrays.items() if "fc." not in name}
    save_npz(headless, torchvision_layout(trunk))
    state = ResNet(50, width=1 / 16, num_classes=2).state_dict()
    save_npz(bare, torchvision_layout(state))
    other = tmp_path / "other.npz"
    record["model"]["depth"] = 34
    save_npz(other, arrays, record)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(checkpoint.read_bytes()[:5000])
    for arguments, parts in [
        ([checkpoint, tmp_path / "none.png"], ["none.png: no such file"]),
        ([checkpoint, image, text], ["text.jpg: broken image"]),
        ([tmp_path / "none.npz", image], ["none.npz: cannot be read: No such file"]),
        ([text, image], ["text.jpg: not a known weight format"]),
        ([cut, image], ["cut.npz"]),
        ([fewer, image], ["fewer.npz: 2 class names for 5 classes"]),
        ([headless, image], ["head less.npz: has no head", "--weights '", "head less.npz'` gives"]),
        ([checkpoint, image, "--variant", "v1"], ["holds a v1.5 network, not the v1 of --variant"]),
        ([bare, image], ["bare.npz: cannot tell ResNet v1.5", "--variant v1.5", "--variant v1 "]),
        (
            [checkpoint, photos],
            [f"{photos}: a folder, not an image", "--csv FILE", f"--similar {photos}"],
        ),
        ([other, image], ["other.npz", "layer1.2.conv1.weight is missing"]),
        ([checkpoint], ["IMAGE"]),
        ([checkpoint, ""], ["IMAGE: is empty; name a file"]),
        ([folder, image], [f"a run's folder; name the checkpoint in it: {checkpoint}"]),
        ([checkpoint, image, "--similar", tmp_path / "none"], ["none: no readable folder"]),
    ]:
        assert_refused(call("predict", *arguments, cwd=tmp_path), *parts)


def torchvision_layout(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix("model/"): a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T
        for name, a in arrays.items()
    }


def folder_of(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((32, 32, 3), i, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_finetune_refuses(weights, photos, tmp_path):
    broken = folder_of(tmp_path / "broken", a=5, b=5)
    (broken / "b" / "2.png").write_bytes((broken / "b" / "2.png").read_bytes()[:50])
    model = ["--weights", weights]
    a_file = tmp_path / "file"
    a_file.write_text("")
    for arguments, parts in [
        (["--data", tmp_path / "none"], ["none: no readable folder"]),
        (["--data", folder_of(tmp_path / "one", a=5)], ["one class only ('a')"]),
        (["--data", folder_of(tmp_path / "empty", a=5, b=0)], ["empty/b: class folder without"]),
        (["--data", broken], ["2.png: broken image"]),
        (["--data", photos, "--out", a_file], ["--out", "is a file, not a folder"]),
        (["--data", photos, "--out", a_file / "sub"], ["--out", "file/sub: Not a directory"]),
        (["--data", photos, "--model", "resnet50"], ["small.npz", "ResNet-18", "resnet50"]),
        (["--image-size", "16"], ["--image-size: must be a whole number of 32 or more"]),
        (["--head", "8,0"], ["--head", "must be a whole number of 1 or more, not '0'"]),
        (["--recalibrate"], ["--recalibrate: belongs to batch norms that are trained"]),
        (
            ["--data", photos, "--unfreeze", "layer4", "--recalibrate", "--batch-size", "1"],
            ["one value per channel"],
        ),
        (["--dropout", "1"], ["--dropout", "below 1"]),
        (["--unfreeze", "layer9"], ["--unfreeze", "layer4"]),
        (["--resume", weights], ["small.npz: cannot go on training"]),
    ]:
        resumes = "--resume" in arguments
        result = call("finetune", *([] if resumes else model), *arguments, cwd=tmp_path)
        assert_refused(result, *parts)
        assert not (tmp_path / "runs").exists(), arguments
    result = call("finetune", "--model", "resnet18", "--data", photos, cwd=tmp_path)
    assert_refused(result, "--model resnet18 needs --weights FILE")
    scratch = ["--model", "resnet18", "--unfreeze", "stem", "--recalibrate"]
    result = call("finetune", *scratch, "--data", photos, cwd=tmp_path)
    assert_refused(result, "--recalibrate: belongs to weights that were trained before")
    result = call("finetune", "--weights", tmp_path / "none", cwd=tmp_path)
    assert_refused(result, "none: cannot be read")


def test_weights_that_cannot_tell_the_variant_need_the_model_named(tmp_path, photos):
    state = ResNet(50, width=1 / 16, num_classes=2).state_dict()
    np.savez(tmp_path / "w.npz", **torchvision_layout(state))
    model = ["--weights", tmp_path / "w.npz", "--data", photos, "--image-size", 32, "--epochs", 1]
    refused = call("finetune", *model, cwd=tmp_path)
    assert_refused(refused, "w.npz: cannot tell", "--variant v1.5 ", "--variant v1 ")
    for said, variant in [(["--model", "resnet50-v1"], "v1"), (["--variant", "v1.5"], "v1.5")]:
        result = call("finetune", *model, *said, "--out", variant, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        record = read_npz(tmp_path / variant / "checkpoint.npz")[1]
        assert record["model"]["variant"] == variant
        assert record["contract"] != PLAIN.to_record()


def test_weights_model_and_variant_must_not_contradict_each_other(weights, photos, tmp_path):
    np.savez(tmp_path / "w.npz", **torchvision_layout(ResNet(50, width=1 / 16).state_dict()))
    bare = ["--weights", tmp_path / "w.npz"]
    known = ["--weights", weights]  # a ResNet-18, of which there is v1.5 alone
    for arguments, part in [
        ([*bare, "--model", "resnet50", "--variant", "v1"], "contradicts --model resnet50, which"),
        ([*bare, "--model", "resnet101"], "w.npz: holds a ResNet-50, not the resnet101 of --model"),
        ([*known, "--variant", "v1"], "--variant v1: begins with ResNet-50; "),
        (["--variant", "v1"], "holds a ResNet-50 v1.5, not the v1 of --variant"),
        (["--variant", "v2"], "--variant"),
        (["--model", "resnet50", "--variant", "v1", "--unfreeze", "stem"], "contradicts --model"),
    ]:
        assert_refused(call("finetune", "--data", photos, *arguments, cwd=tmp_path), part)


def test_predict_takes_hidden_layers_of_a_converted_head(weights, photos, tmp_path):
    options = ["--head", "16,12,10,8", "--dropout", "0.1", "--epochs", "1", "--out", "o"]
    result = call("finetune", "--data", photos, "--weights", weights, *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    call("weights", "convert", "o/checkpoint.npz", "w.safetensors", cwd=tmp_path)
    image = photos / "red" / "00.png"
    ours, theirs = (
        call("predict", path, image, cwd=tmp_path).stdout.splitlines()[:4]
        for path in ("o/checkpoint.npz", "w.safetensors")
    )
    assert ours == theirs
    assert len(ours) == 4


def test_predict_takes_any_weights_with_a_head(finished, weights, photos, tmp_path):
    """A network with classes of its own, and the same as bare tensors: the same probabilities."""
    image = photos / "red" / "00.png"
    arrays, record = read_npz(weights)
    checkpoint = call("predict", weights, image, cwd=tmp_path)
    model = {n.removeprefix("model/"): a for n, a in arrays.items()}
    contract = Contract.from_record(record["contract"]).with_size(record["image_size"])
    file = replace(read(weights), arrays=model, contract=contract, classes=None)
    write(tmp_path / "bare.npz", file)
    bare = call("predict", "bare.npz", image, cwd=tmp_path)
    assert bare.returncode == 0, bare.stderr
    ours, theirs = (result.stdout.splitlines()[1:6] for result in (checkpoint, bare))
    assert [line.split()[0] for line in ours] == [line.split()[0] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert f"class {'abcde'.index(a.split()[1])}" == " ".join(b.split()[1:])


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed here")
def test_without_cupy_asking_for_a_gpu_is_an_error(weights, tmp_path):
    result = call("finetune", "--weights", weights, "--device", "gpu", cwd=tmp_path)
    assert_refused(result, "--device gpu: CuPy is not usable", "pip install")


def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(weights, photos, tmp_path):
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    arguments = ["--data", photos, "--weights", weights, "--epochs", 1]
    result = call("finetune", *arguments, cwd=tmp_path, preexec_fn=small_files)
    assert_refused(result, "checkpoint.npz: cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["weights:", "epoch "])
def test_ctrl_c_ends_with_130_and_leaves_nothing(weights, photos, tmp_path, moment):
    def default_signals() -> None:  # a test started in the background has SIGINT switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)

    arguments = ["--data", photos, "--weights", weights, "--epochs", 100000, "--no-cache"]
    process = subprocess.Popen(
        command("finetune", *arguments), cwd=tmp_path, text=True, preexec_fn=default_signals,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(moment):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_predictions_go_into_a_file(finished, photos, tmp_path):
    folder, _ = finished
    checkpoint, red = folder / "checkpoint.npz", photos / "red"
    result = call("predict", checkpoint, red, "--csv", "a.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("written to a.csv\n20 image(s) in ")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == [f"{i:02}.png" for i in range(20)]
    probabilities = Predictor(checkpoint).probabilities([row["path"] for row in rows])
    for row, shares in zip(rows, probabilities, strict=True):
        found = [float(row[name]) for name in ("blue", "green", "red")]
        np.testing.assert_allclose(found, shares, atol=1e-6)
        assert row["answer"] == ("blue", "green", "red")[shares.argmax()]
        assert row["label"] == ""
    result = call("predict", checkpoint, red, "--csv", "no/a.csv", cwd=tmp_path)
    assert_refused(result, "--csv no/a.csv: there is no folder no")


@pytest.mark.parametrize(("tta", "looks"), [("mirror", 2), ("ten", 10)])
def test_several_looks_at_an_image(finished, photos, tta, looks):
    """The answer is the mean of what one look at each view says."""
    checkpoint = finished[0] / "checkpoint.npz"
    paths = sorted((photos / "green").iterdir())[:11]  # more than a batch
    once, often = Predictor(checkpoint), Predictor(checkpoint, tta=tta)
    done: list[int] = []
    often.advance = done.append
    found = often.probabilities(paths)
    assert sum(done) == len(paths)
    for path, row in zip(paths, found, strict=True):
        seen = views(decode(path), once.contract, once.image_size, tta)
        assert seen.shape == (looks, 32, 32, 3)
        with no_grad():
            logits = once.model(rnp.Tensor(once.contract.normalise(seen))).numpy()
        np.testing.assert_allclose(softmax(logits).mean(axis=0), row, rtol=1e-4, atol=1e-6)
