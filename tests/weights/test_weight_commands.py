"""`python -m resnet_np.weights` as a user meets it: in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import torchvision_arrays, write_legacy

from resnet_np.weights import KERAS_CAFFE, save_npz

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
BLOCKS_50 = (3, 4, 6, 3)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "resnet_np.weights", *map(str, arguments)]


def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120)


def assert_refused(result: subprocess.CompletedProcess, *parts: object) -> None:
    """Exit status 2 and one line on stderr that holds all the parts."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert str(part) in result.stderr


def flat(text: str) -> str:
    """The words of a text, wherever its lines were broken."""
    return " ".join(text.split())


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A ResNet-50 of a few channels in torchvision's names, alone."""
    path = tmp_path / "bare.npz"
    np.savez(path, **torchvision_arrays(BLOCKS_50))
    return path


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_says_what_a_file_is(bare: Path) -> None:
    result = call("inspect", bare)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == str(bare)
    assert max(map(len, lines[1:])) <= 80
    words = flat(result.stdout)
    arrays = torchvision_arrays(BLOCKS_50)
    numbers = sum(a.size for a in arrays.values())
    for part in (
        f"size {bare.stat().st_size:,} bytes",
        "network ResNet-50, 0.03125 of the usual width",
        "variant v1.5 or v1, which the tensors cannot tell: say --variant v1.5",
        "batch norm epsilon 1e-05",
        "biases convolutions have none",
        "classes 3, their names are not in the file",
        "colours RGB, numbers 0..1 (/255)",
        "minus mean (0.485, 0.456, 0.406), divided by std (0.229, 0.224, 0.225)",
        "shorter side to 256, bilinear with antialias; then 224 x 224 from the centre",
        "the file does not say",
        f"parameters {numbers:,}: ",
        f"tensors 267, {4 * numbers:,} bytes of numbers",
        "left out: nothing",
        "odd: nothing",
    ):
        assert part in words, result.stdout
    row = next(line.split() for line in lines if line.startswith("layer1.0.downsample.0.weight"))
    w = arrays["layer1.0.downsample.0.weight"]
    figures = [f"{x:.2g}" for x in (w.min(), w.mean(), w.max(), w.std())]
    assert row[1:] == ["1x1x2x12", *figures]


def test_inspect_tells_what_is_odd(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    del arrays["fc.weight"], arrays["fc.bias"]
    arrays["layer1.0.bn1.bias"][:] = 0
    arrays["layer1.0.bn1.weight"][:] = 0.25
    arrays["layer1.0.bn1.running_var"][0] = 1e-9
    arrays["layer2.0.conv1.weight"] = arrays["layer2.0.conv1.weight"].astype(np.float64)
    arrays["layer3.3.bn3.weight"] = arrays["layer3.2.bn3.weight"]
    np.savez(tmp_path / "odd.npz", **arrays)
    result = call("inspect", tmp_path / "odd.npz")
    assert result.returncode == 0, result.stderr
    odd = flat(result.stdout).partition(" odd: ")[2]
    for part in (
        "numbers of type float64 in layer2.0.conv1.weight",
        "nothing but 0 in layer1.0.bn1.bias",
        "nothing but 0.25 in layer1.0.bn1.weight",
        "running variances below epsilon, 1e-05: 1 in layer1.0.bn1.running_var",
        "the same numbers stand in layer3.2.bn3.weight, layer3.3.bn3.weight",
        "it has no head",
    ):
        assert part in odd, result.stdout
    assert "classes no head: features only" in flat(result.stdout)


def test_inspect_knows_folded_statistics(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    for name, array in arrays.items():
        if name.endswith(("running_mean", "running_var")):
            array[:] = name.endswith("var")
    np.savez(tmp_path / "folded.npz", **arrays)
    odd = flat(call("inspect", tmp_path / "folded.npz").stdout).partition(" odd: ")[2]
    assert odd.startswith("every running mean is 0 and every running variance 1: ")
    assert "nothing but" not in odd


def test_a_file_that_is_refused_is_shown_first(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    arrays["layer2.0.conv1.weight"].flat[:3] = np.nan, np.inf, -np.inf
    np.savez(tmp_path / "nan.npz", **arrays)
    result = call("inspect", tmp_path / "nan.npz")
    assert_refused(result, "nan.npz: values that are not finite: layer2.0.conv1.weight")
    size = arrays["layer2.0.conv1.weight"].size
    words = flat(result.stdout)
    assert f"layer2.0.conv1.weight: 3 of {size} numbers are NaN or infinite" in words
    assert "layer2.0.conv1.weight 1x1x12x4" in words


def test_another_network_is_shown_first(tmp_path: Path) -> None:
    arrays = {"features.0.weight": np.ones((8, 3, 5, 4), np.float32), "step": np.int64(7)}
    np.savez(tmp_path / "other.npz", **arrays)
    result = call("inspect", tmp_path / "other.npz")
    assert_refused(result, "other.npz: ", "not a ResNet: it has no conv1.weight")
    words = flat(result.stdout)
    assert "features.0.weight 5x4x3x8 float32 1 1 1 0" in words
    assert "step a number int64 7 7 7 0" in words
    assert "torchvision" not in words


def test_inspect_shows_names_of_the_file_beside_ours(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(7, 7, 3, 2)).astype(np.float32)
    write_legacy(tmp_path / "keras.h5", {"conv1_conv": {"conv1_conv/kernel:0": w}})
    words = flat(call("inspect", tmp_path / "keras.h5").stdout)
    assert "conv1.weight 7x7x3x2" in words
    assert "conv1_conv/kernel" in words

    arrays = {f"module.{name}": a for name, a in torchvision_arrays(BLOCKS_50).items()}
    np.savez(tmp_path / "prefix.npz", **arrays)
    assert "each with 'module.' in front" in call("inspect", tmp_path / "prefix.npz").stdout


def test_inspect_takes_a_checkpoint_at_its_word(tmp_path: Path) -> None:
    words = flat(call("inspect", GOLDEN / "checkpoint_format1.npz").stdout)
    assert "format a checkpoint of this project" in words
    assert "each with 'model/' in front" in words
    assert "the file does not say" not in words
    assert "belongs to the training run, not to the model" in words
    record = {"contract": KERAS_CAFFE.to_record(), "classes": ["a\x1b[2J", "b"]}
    save_npz(tmp_path / "odd.npz", {"model/fc.weight": np.ones((2, 2), np.float32)}, record)
    result = call("inspect", tmp_path / "odd.npz")
    assert "\x1b" not in result.stdout
    assert "model/fc.weight" not in result.stdout  # said once, as what stands in front


def test_inspect_refuses(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty").touch()
    for argument, part in [
        (tmp_path / "text.pth", "text.pth: not a known weight format"),
        (tmp_path / "empty", "empty: an empty file"),
    ]:
        assert_refused(call("inspect", argument), part)
    assert_refused(call(), "COMMAND", "--help")
    assert_refused(call("inspect"), "FILE", "--help")
    assert_refused(call("forge"), "'forge'")


def test_the_output_may_be_cut_off(bare: Path) -> None:
    script = f"{' '.join(command('inspect', bare))} | head -1"
    result = subprocess.run(script, shell=True, capture_output=True, text=True, timeout=120)
    assert (result.stdout, result.stderr) == (f"{bare}\n", "")
