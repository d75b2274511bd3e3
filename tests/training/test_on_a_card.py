"""Whole commands with `--device gpu`, on a stand-in for CuPy: what they say, move and write."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import assert_refused
from standins.card import FOLDER
from test_commands import command

from resnet_np.weights import read_npz

FEW = 4  # images of each class
STAND_IN = {"PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def few_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the photos, for the stand-in is slow."""
    root = tmp_path_factory.mktemp("few")
    for image in photos.glob("*/*.png"):
        if int(image.stem) < FEW:
            (root / image.parent.name).mkdir(exist_ok=True)
            (root / image.parent.name / image.name).write_bytes(image.read_bytes())
    return root


def call(
    module: str, *arguments: object, cwd: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """The command, in a process that has the stand-in for CuPy."""
    environment = os.environ | STAND_IN | settings
    return subprocess.run(
        command(module, *arguments), cwd=cwd, capture_output=True, text=True, timeout=600,
        env=environment,
    )  # fmt: skip


def finetune(
    photos: Path, weights: Path, folder: Path, *more: object, **settings: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["--data", photos, "--weights", weights, "--batch-size", 4, "--optimizer", "sgd"]
    return call("finetune", *arguments, *more, cwd=folder, **settings)


def parameters(folder: Path) -> dict[str, np.ndarray]:
    arrays, _ = read_npz(folder / "checkpoint.npz")
    return {name: a for name, a in arrays.items() if name.startswith("model/")}


def test_a_run_on_the_card_is_the_run_on_the_cpu(
    few_photos: Path, weights: Path, tmp_path: Path
) -> None:
    """The same files, and parameters that differ by rounding; each goes on from the other's."""
    trunk = ["--unfreeze", "layer4", "--recalibrate", "--epochs", 1]
    for device in ("cpu", "gpu"):
        result = finetune(
            few_photos, weights, tmp_path, *trunk, "--device", device, "--out", device
        )
        assert result.returncode == 0, result.stderr
    there, here = parameters(tmp_path / "gpu"), parameters(tmp_path / "cpu")
    assert there.keys() == here.keys()
    for name, a in here.items():
        assert a.dtype == there[name].dtype == np.float32
        np.testing.assert_allclose(there[name], a, rtol=1e-4, atol=1e-4 * np.abs(a).max())
    for device, other in (("cpu", "gpu"), ("gpu", "cpu")):
        checkpoint = tmp_path / other / "checkpoint.npz"
        again = ["--resume", checkpoint, "--epochs", 2, "--device", device]
        result = call("finetune", *again, "--out", f"{other}-{device}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "epoch   2" in result.stdout
    image = few_photos / "red" / "00.png"
    answers = [
        call("predict", "gpu/checkpoint.npz", image, "--device", device, cwd=tmp_path).stdout
        for device in ("cpu", "gpu")
    ]
    assert answers[0].splitlines()[1:4] == answers[1].splitlines()[1:4] != []


def test_the_best_weights_are_judged(few_photos: Path, weights: Path, tmp_path: Path) -> None:
    words = ["--epochs", 2, "--keep", "best", "--ema", 0.5, "--device", "gpu", "--out", "run"]
    result = finetune(few_photos, weights, tmp_path, *words)
    assert result.returncode == 0, result.stderr
    assert "run/best.npz" in result.stdout
    again = ["--resume", tmp_path / "run" / "best.npz", "--epochs", 3, "--device", "gpu"]
    result = call("finetune", *again, "--out", "more", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.gpu
def test_a_real_card(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the card to the CPU, back, and to an answer."""
    monkeypatch.setattr(sys.modules[__name__], "STAND_IN", {})
    trunk = ["--unfreeze", "layer4", "--recalibrate", "--epochs", 1]
    there = ["--device", "gpu", "--precision", "bf16", "--out"]
    here = ["--device", "cpu", "--precision", "fp32", "--out"]
    result = finetune(photos, weights, tmp_path, *trunk, *there, "1")
    assert result.returncode == 0, result.stderr
    for epoch, place in ((2, here), (3, there)):
        again = ["--resume", f"{epoch - 1}/checkpoint.npz", "--epochs", epoch]
        result = call("finetune", *again, *place, epoch, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"epoch   {epoch}" in result.stdout
    assert all(
        a.dtype == np.float32 and np.isfinite(a).all() for a in parameters(tmp_path / "3").values()
    )
    image = photos / "red" / "00.png"
    result = call("predict", "3/checkpoint.npz", image, "--device", "gpu", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "red" in result.stdout


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_precisions(few_photos: Path, weights: Path, tmp_path: Path, precision: str) -> None:
    """Parameters stay float32 and are near those of a run in float32."""
    run = ["--epochs", 1, "--out", "run"]
    result = finetune(
        few_photos, weights, tmp_path, *run, "--device", "gpu", "--precision", precision
    )
    assert result.returncode == 0, result.stderr
    assert finetune(few_photos, weights, tmp_path, "--epochs", 1, "--out", "cpu").returncode == 0
    for name, a in parameters(tmp_path / "cpu").items():
        there = parameters(tmp_path / "run")[name]
        assert there.dtype == np.float32
        assert np.abs(there - a).max() <= 0.02 * max(1e-2, np.abs(a).max()), name


def test_precision_needs_a_gpu(photos: Path, weights: Path, tmp_path: Path) -> None:
    result = finetune(photos, weights, tmp_path, "--precision", "bf16")
    assert_refused(result, "--precision bf16: needs --device gpu; the CPU has fp32 alone")


@pytest.mark.parametrize(
    ("circumstance", "said"),
    [
        ("no driver", "no NVIDIA driver is installed here; use --device cpu, or install one"),
        ("old driver", "the NVIDIA driver is for CUDA"),
        ("no device", "no NVIDIA card is to be seen; what do nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ("no cublas", "CuPy does not find CUDA's libraries"),
        ("no nvrtc", "CuPy does not find CUDA's libraries"),
        ("broken", "CuPy is not usable"),
    ],
)
def test_what_is_missing(
    photos: Path, weights: Path, tmp_path: Path, circumstance: str, said: str
) -> None:
    for module, arguments in (
        ("finetune", ["--data", photos, "--weights", weights]),
        ("predict", [weights, photos / "red" / "00.png"]),
    ):
        result = call(
            module, *arguments, "--device", "gpu", cwd=tmp_path, CUPY_STANDIN=circumstance
        )
        assert_refused(result, f"--device gpu: {said}")
        if circumstance.startswith("no ") and circumstance[3:] in ("cublas", "nvrtc"):
            assert "pip install 'resnet_np[gpu-cuda1" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_says_which_batch_fits(photos: Path, weights: Path, tmp_path: Path) -> None:
    """What it says is true: that batch runs."""
    small = {"CUPY_STANDIN_CAPACITY": str(36 * 2**20)}  # cuBLAS takes 32 of them
    whole = ["--unfreeze", "stem", "--recalibrate", "--epochs", 2, "--device", "gpu"]
    whole += ["--image-size", 32, "--batch-size"]
    result = finetune(photos, weights, tmp_path, *whole, 48, **small)
    assert_refused(result, "--device gpu: out of memory: ", " more were asked for; of 36.0 MiB, ")
    assert list(tmp_path.iterdir()) == []
    fits = int(result.stderr.split("--batch-size ")[1].split()[0])
    assert 0 < fits < 24
    result = finetune(photos, weights, tmp_path, *whole, fits, **small)
    assert result.returncode == 0, result.stderr


def test_numbers_on_the_card_stay_there(few_photos: Path, weights: Path, tmp_path: Path) -> None:
    """Only images, labels, losses and answers travel, not parameters, activations or gradients."""
    script = (
        "import cupy, sys\n"
        "from resnet_np import finetune\n"
        "finetune.main()\n"
        "r = cupy.standin.record\n"
        "print('travelled', sum(r.uploads), sum(r.downloads), len(r.launches), len(r.gemms))\n"
    )
    arguments = ["--data", few_photos, "--weights", weights, "--epochs", 1, "--device", "gpu"]
    arguments += ["--unfreeze", "layer4", "--recalibrate", "--no-cache", "--batch-size", 8]
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=tmp_path, capture_output=True,
        text=True, timeout=600, env=os.environ | STAND_IN,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    up, down, launches, gemms = map(int, result.stdout.rsplit("travelled", 1)[1].split())
    model = sum(a.nbytes for a in parameters(tmp_path / "runs" / f"{few_photos.name}-1").values())
    images = 3 * FEW * 32 * 32 * 3  # bytes
    assert up < 2 * model + 6 * images
    assert down < 4 * model
    assert launches > 100 and gemms > 50
