"""Class folders become samples, and are split class by class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.folders import list_images, scan_folder, split_stratified
from resnet_np.errors import UserError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def fill(folder: Path, count: int, suffix: str = "png") -> Path:
    """`count` tiny images in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i:03}.{suffix}")
    return folder


def test_without_splits_each_class_is_cut_80_10_10(tmp_path):
    fill(tmp_path / "cat", 20)
    fill(tmp_path / "dog", 40)
    (tmp_path / ".hidden").mkdir()
    parts = scan_folder(tmp_path, rng())
    counts = {name: list(np.bincount(samples.labels)) for name, samples in parts.items()}
    assert counts == {"train": [16, 32], "test": [2, 4], "validation": [2, 4]}
    paths = [path for samples in parts.values() for path in samples.paths]
    assert len(set(paths)) == 60
    for samples in parts.values():
        assert samples.classes == ("cat", "dog")
        wanted = [samples.classes[label] for label in samples.labels]
        assert [path.parent.name for path in samples.paths] == wanted


def test_the_split_follows_the_seed(tmp_path):
    fill(tmp_path / "a", 30)
    fill(tmp_path / "b", 30)
    first, again, other = (scan_folder(tmp_path, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first["test"].paths == again["test"].paths
    assert first["test"].paths != other["test"].paths


def test_given_splits_are_kept(tmp_path):
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        fill(tmp_path / split / "a", count)
        fill(tmp_path / split / "b", count, "JPG")
    parts = scan_folder(tmp_path, rng())
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 10, "validation": 4, "test": 6,
    }  # fmt: skip


def test_a_missing_validation_part_is_cut_off_train(tmp_path):
    for split, count in (("train", 30), ("test", 3)):
        fill(tmp_path / split / "a", count)
        fill(tmp_path / split / "b", count)
    parts = scan_folder(tmp_path, rng())
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 54, "validation": 6, "test": 6,
    }  # fmt: skip


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "plane", "train"):
        fill(tmp_path / name, 3)
    assert scan_folder(tmp_path, rng())["train"].classes == ("car", "plane", "train")


def test_a_test_part_with_fewer_classes_keeps_the_numbering_of_train(tmp_path):
    for name in ("a", "b", "c"):
        fill(tmp_path / "train" / name, 4)
    fill(tmp_path / "test" / "c", 2)
    assert list(scan_folder(tmp_path, rng())["test"].labels) == [2, 2]


def test_links_that_go_round_in_circles_show_each_image_once(tmp_path):
    fill(tmp_path / "a", 20)
    fill(tmp_path / "b" / "inner", 20)
    (tmp_path / "a" / "myself").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "inner" / "all").symlink_to(tmp_path)
    parts = scan_folder(tmp_path, rng())
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 32, "validation": 4, "test": 4,
    }  # fmt: skip
    assert len(list_images(tmp_path)) == 40


def test_folders_behind_links_are_looked_into_but_not_hidden_ones(tmp_path):
    fill(tmp_path / "elsewhere", 3)
    fill(tmp_path / "here" / ".thumbnails", 3)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    assert [path.parent.name for path in list_images(tmp_path / "here")] == ["link"] * 3


def test_split_stratified_takes_at_least_one_of_each_class():
    labels = np.array([0] * 2 + [1] * 50)
    kept, held_out = split_stratified(labels, 0.1, rng())
    assert list(np.bincount(labels[held_out])) == [1, 5]
    assert sorted([*kept, *held_out]) == list(range(52))


def test_list_images_goes_down_into_folders(tmp_path):
    fill(tmp_path / "b" / "c", 1)
    fill(tmp_path / "a", 2)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    relative = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert relative == ["a/000.png", "a/001.png", "b/c/000.png"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no class folders in it"),
        ({"a": 5}, "one class only ('a')"),
        ({"a": 5, "b": 0}, "b: class folder without images"),
        ({"a": 5, "b": 2}, "b: 2 image(s), too few to split off test and validation"),
        ({"train/a": 5, "train/b": 5, "test/c": 5}, "class 'c' is not among those of train"),
        ({"train/a": 5, "train/b": 1, "test/a": 5}, "b: 1 image(s), too few to split off valid"),
        ({"train/a": 1, "val/a": 1, "valid/a": 1}, "more than one validation folder"),
        ({"train/a": 5, "train/b": 5, "val/a": 5, "annotations": 3}, "rename 'annotations' or"),
        ({"train/a": 5, "train/b": 5, "labels": 3}, "rename 'labels' or move it elsewhere"),
        ({"training/a": 5, "training/b": 5, "testing/a": 5}, "rename 'testing' or move it"),
        ({"training_set/a": 5, "test_set/a": 5}, "must be called train, val and test; rename"),
        ({"dev": 5, "valid": 5}, "rename 'dev' or"),
        ({"val/a": 5, "test/a": 5}, "has test and validation folders, but none called train"),
    ],
)
def test_what_is_refused(tmp_path, counts, message):
    for name, count in counts.items():
        fill(tmp_path / name, count)
    with pytest.raises(UserError) as refusal:
        scan_folder(tmp_path, rng())
    assert message in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="no readable folder: No such file"):
        scan_folder(tmp_path / "nowhere", rng())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in this folder"):
        list_images(tmp_path / "empty")
