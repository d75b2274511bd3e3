"""The sketches: the seed decides them, all is on the page, and the classes differ, not too much."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused
from sklearn.neighbors import KNeighborsClassifier

SKETCHES = Path(__file__).parents[2] / "examples" / "sketches"
TRAIN, TEST = 20, 10  # images of each class


@pytest.fixture(scope="module")
def draw():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SKETCHES))
        import draw

        yield draw
    del sys.modules["draw"], sys.modules["objects"]


@pytest.fixture(scope="module")
def images(draw: ModuleType) -> np.ndarray:
    """uint8 [classes, TRAIN + TEST, 256, 256]"""
    indices, numbers = range(TRAIN + TEST), range(len(draw.CLASSES))
    return np.array([[draw.sketch(1, number, i) for i in indices] for number in numbers])


def command(*words: object) -> subprocess.CompletedProcess:
    script = [sys.executable, str(SKETCHES / "draw.py"), *map(str, words)]
    return subprocess.run(script, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder: its path there, and its bytes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# --- files


def test_the_seed_decides_and_more_images_change_no_earlier_one(
    draw: ModuleType, tmp_path: Path
) -> None:
    for name, count, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4)):
        draw.write_folder(tmp_path / name, count, seed)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == len(draw.CLASSES) == 13 and len(two) == 26
    assert one.items() < two.items()  # the same names and bytes
    assert one.keys() == other.keys()
    assert len({*two.values(), *other.values()}) == 39  # no image twice


def test_a_folder_for_each_class(draw: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()  # empty: nothing is in the way
    done = command(tmp_path / "new", "--images", 1, "--seed", 5)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == f"{tmp_path / 'new'}: 13 classes, 1 image(s) of each\n"
    assert sorted(contents(tmp_path / "new")) == [f"{name}/0000.png" for name in draw.CLASSES]
    for number, name in enumerate(draw.CLASSES):
        with Image.open(tmp_path / "new" / name / "0000.png") as image:
            assert image.format == "PNG" and image.mode == "L" and image.size == (256, 256)
            assert (np.asarray(image) == draw.sketch(5, number, 0)).all()


def test_a_sheet(draw: ModuleType, tmp_path: Path) -> None:
    draw.write_sheet(tmp_path / "sheet.png", 2, 0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 6 * sheet.width  # 13 rows of 2
        assert np.asarray(sheet).std() > 10


# --- what is on them


def test_every_image_has_ink_and_nothing_is_cut_off(images: np.ndarray) -> None:
    ink = images < 180
    shares = ink.mean(axis=(2, 3))
    print(f"ink: {shares.min():.3f} to {shares.max():.3f} of the page")
    assert shares.min() > 0.005 and shares.max() < 0.25
    inside = np.zeros((256, 256), dtype=bool)
    inside[6:-6, 6:-6] = True
    assert not ink[:, :, ~inside].any()
    extents = [ink.any(axis=axis).sum(axis=-1) for axis in (2, 3)]
    assert np.maximum(*extents).min() > 128  # none is tiny
    assert images[:, :, ~inside].min() > 215  # paper


def test_classes_differ_but_not_at_a_glance(images: np.ndarray) -> None:
    """The nearest neighbour among 20 small images of each class: a guess is right 1 in 13 times."""
    classes, each = images.shape[:2]
    x = 255.0 - images.reshape(classes, each, 32, 8, 32, 8).mean(axis=(3, 5))
    x = x.reshape(classes, each, -1)
    x -= x.min(axis=-1, keepdims=True)  # neither paper nor pencil counts
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    labels = np.arange(classes)[:, None].repeat(each, axis=1)
    train, test = np.s_[:, :TRAIN], np.s_[:, TRAIN:]
    nearest = KNeighborsClassifier(1).fit(x[train].reshape(-1, 1024), labels[train].ravel())
    right = nearest.score(x[test].reshape(-1, 1024), labels[test].ravel())
    print(f"nearest neighbour: {right:.3f}")
    assert 0.3 < right < 0.9


# --- what is refused


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish" / "0000.png").write_bytes(b"mine")
    assert_refused(command(tmp_path, "--images", 1), tmp_path, "not empty")
    assert contents(tmp_path) == {"fish/0000.png": b"mine"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["fish"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "FOLDER"),
        (["new", "--sheet", "sheet.png"], "--sheet"),
        (["--sheet", "sheet.jpg"], ".png"),
        (["new", "--images", "0"], "--images"),
        (["new", "--seed", "-1"], "--seed"),
        (["file"], "file"),
    ],
)
def test_bad_arguments(
    draw: ModuleType,
    words: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["draw.py", *words])
    status = draw.run_command(draw.main)
    shown = capsys.readouterr()
    assert_refused(subprocess.CompletedProcess(words, status, *shown), part)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
