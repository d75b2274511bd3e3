"""The networks built by hand: their shapes, and that they train, on a few real photographs."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from resnet_np import Tensor, no_grad
from resnet_np.weights import read_npz

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = 10  # photographs of each class


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / name / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "network"), [("by_hand", "HandMadeResNet"), ("alexnet", "AlexNet")]
)
def test_shapes(name: str, network: str) -> None:
    model = getattr(load(name), network)(classes=7).eval()
    with no_grad():
        y = model(Tensor(np.ones((2, 64, 64, 3), np.float32)))
    assert y.shape == (2, 7)
    np.testing.assert_allclose(y.numpy()[0], y.numpy()[1])


def test_an_identity_block_by_hand() -> None:
    """With a last batch norm that gives nothing, only the shortcut is left."""
    module = load("by_hand")
    block = module.IdentityBlock(8, 4, np.random.default_rng(0)).eval()
    block.bn3.weight.data[...] = 0
    x = np.random.default_rng(1).standard_normal((1, 5, 5, 8)).astype(np.float32)
    np.testing.assert_array_equal(block(Tensor(x)).numpy(), np.maximum(x, 0))


@pytest.mark.parametrize("name", ["by_hand", "alexnet"])
def test_it_trains(name: str, test_data: Path, tmp_path: Path) -> None:
    for folder in (test_data / "images" / "sign-language-digits").iterdir():
        if folder.is_dir():
            (tmp_path / "signs" / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:FEW]:
                (tmp_path / "signs" / folder.name / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, EXAMPLES / name / "train.py", "--data", "signs", "--epochs", "2",
         "--out", "w.npz"], cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoch   2" in done.stdout
    assert "w.npz: the weights of the best epoch, " in done.stdout
    arrays, _ = read_npz(tmp_path / "w.npz")
    assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize("name", ["by_hand", "alexnet"])
def test_refusals(name: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in "ab":
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / split / label / "0.png")
    for words, parts in {
        "": ["--data"],
        "--data nowhere": ["nowhere: no readable folder"],
        "--data photos": ["photos: has no test images; add a part called test"],
        "--data photos --epochs 0": ["--epochs: must be a whole number of 1 or more"],
        "--data photos --out no/w.npz": ["--out no/w.npz: there is no folder no"],
        "--data photos --out w.png": ["--out w.png: the curves get this name"],
    }.items():
        done = subprocess.run(
            [sys.executable, EXAMPLES / name / "train.py", *words.split()],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert_refused(done, *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
