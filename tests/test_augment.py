"""python -m resnet_np.augment: a folder in, a PNG out, and one line where that cannot be."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_np import augment
from resnet_np.command import run_command
from resnet_np.data.transforms import TRANSFORMS


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(9):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["augment", *map(str, arguments)])
    try:
        return run_command(augment.main)
    except SystemExit as exit:
        assert isinstance(exit.code, int)
        return exit.code


def test_a_sheet(photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sheet.png"
    given = ["--data", photos, "--out", out, "--images", 4, "--epochs", 3, "--size", 64,
             "--image-size", 48]  # fmt: skip
    everything = (
        "RandomResizedCrop(48), RandomHorizontalFlip(), RandomRotation(10), KerasAffine(shear_range"
        "=5), ColorJitter(0.2, hue=0.1), RandAugment(), RandomErasing(value='random'), MixUp(0.2)"
    )
    assert run(monkeypatch, *given, "--augment", everything) == 0
    shown, error = capsys.readouterr()
    assert shown == f"{out}: 4 image(s), 3 epoch(s), 288 x 368\n"
    assert error == ""
    with Image.open(out) as sheet:
        assert (sheet.format, sheet.size) == ("PNG", (288, 368))

    first = out.read_bytes()
    assert run(monkeypatch, *given, "--augment", everything) == 0
    assert out.read_bytes() == first
    assert run(monkeypatch, *given, "--augment", everything, "--seed", 1) == 0
    assert out.read_bytes() != first


def test_a_table(photos, tmp_path, monkeypatch, capsys):
    rows = "".join(f"photos/a/{i}.png,a\n" for i in (0, 2, 4))
    (tmp_path / "photos.csv").write_text("path,label\n" + rows)
    out = tmp_path / "a.png"
    assert run(monkeypatch, "--data", tmp_path / "photos.csv", "--out", out) == 0
    assert ": 3 image(s), 7 epoch(s), " in capsys.readouterr().out


def test_no_more_rows_than_images(photos, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--data", photos, "--out", tmp_path / "a.png", "--images", 99) == 0
    assert ": 9 image(s), 7 epoch(s), " in capsys.readouterr().out


def test_help_names_every_transform(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for name in TRANSFORMS:
        assert f"\n  {name}(" in shown
    assert "RandomResizedCrop(size, scale=(0.08, 1), ratio=(0.75, 1.33), inter" in shown
    assert "Cut out a random part and resize it\n" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--augment", "Spin()"], "--augment: no transform is called 'Spin'; there are"),
        (["--augment", "Resize(0)"], "--augment: Resize: size must be pixels"),
        (["--augment", "MixUp(), Resize(9)"], "--augment: MixUp mixes whole batches"),
        (["--augment", "Resize(9)"], "--augment: Resize(size=9, "),
        (["--out", "sheet.jpg"], "--out sheet.jpg: the sheet is a PNG; give it a name that ends"),
        (["--out", "no/such/folder.png"], "--out no/such/folder.png: there is no folder no/such"),
        (["--images", "0"], "argument --images: must be a whole number of 1 or more, not '0'"),
        (["--size", "8"], "argument --size: must be a whole number of 32 or more, not '8'"),
        (["--epochs", "99999"], "the sheet would have 16800000 x 1120 pixels, too many for most"),
        (["--data", "nowhere"], "nowhere: no readable folder"),
    ],
)
def test_bad_arguments_leave_with_2_and_one_line(
    arguments, message, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--data", photos, *arguments) == 2
    shown, error = capsys.readouterr()
    assert shown == ""
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_a_broken_image_is_named(photos, tmp_path, monkeypatch, capsys):
    (photos / "a" / "0.png").write_bytes(b"no image")
    out = tmp_path / "a.png"
    assert run(monkeypatch, "--data", photos, "--images", 9, "--out", out) == 2
    assert "0.png: broken image" in capsys.readouterr().err
    assert not out.exists()
