"""The examples that are recipes, each on a few real images, a small network and an epoch or two."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from resnet_np.training.setup import EMBEDDED

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = 12  # images of each class
PHASES = ["--phase", "unfreeze=fc; epochs=1", "--phase", "unfreeze=layer4; epochs=1; lr=0.0001"]
SHORTER = {
    "cifar_head": ["--epochs", "1"],
    "cifar_finetune": PHASES,
    "sketches": ["--epochs", "1", "--views", "1"],
    "signs": ["--epochs", "1"],
}


def run(*words: object, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the classes of each data set."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def cifar(images: Path, test_data: Path) -> Path:
    folder = images / "cifar"
    if not folder.exists():
        with tarfile.open(test_data / "images" / "cifar10-jpeg-10k-test-5k-train.tar.xz") as tar:
            tar.extractall(images / "all", filter="data")
        for path in sorted((images / "all").glob("*/train/*/*.jpg")):
            target = folder / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            if len(list(target.iterdir())) < FEW:
                path.rename(target / path.name)
    return folder


@pytest.fixture
def signs(images: Path, test_data: Path) -> Path:
    for folder in (test_data / "images" / "sign-language-digits").iterdir():
        if folder.is_dir() and not (images / "signs" / folder.name).exists():
            (images / "signs" / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:FEW]:
                (images / "signs" / folder.name / path.name).symlink_to(path)
    return images / "signs"


@pytest.fixture
def sketches(images: Path) -> Path:
    run(EXAMPLES / "sketches" / "draw.py", "sketches", "--images", FEW, cwd=images)
    return images / "sketches"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cifar_head", "cifar"),
        ("cifar_finetune", "cifar"),
        ("sketches", "sketches"),
        ("signs", "signs"),
    ],
)
def test_a_recipe_runs(
    name: str, data: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = EXAMPLES / name / "recipe.toml"
    source = request.getfixturevalue(data)
    smaller = ["--weights", EMBEDDED, "--image-size", 32, "--batch-size", 16, *SHORTER[name]]
    run("-m", "resnet_np.finetune", "--recipe", recipe, "--data", source, *smaller, "--out", "r",
        cwd=tmp_path)  # fmt: skip
    record = json.loads((tmp_path / "r" / "history.json").read_text())
    assert set(record["figures"]) == {"train", "validation", "test"}
    assert len(record["classes"]) == (13 if data == "sketches" else 10)
    assert (tmp_path / "r" / "report.html").exists()
    assert (tmp_path / "r" / "predictions.csv").exists()


def test_every_recipe_is_tested() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/recipe.toml")} == SHORTER.keys()
