"""`python -m resnet_np.evaluate` as a user meets it."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import assert_refused
from sklearn.metrics import f1_score

from resnet_np.data.sources import Entry, list_source
from resnet_np.training.evaluating import label_entries
from resnet_np.training.predictor import Predictor


def call(module: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"resnet_np.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def checkpoint(weights: Path, photos: Path, tmp_path_factory: Any) -> Path:
    home = tmp_path_factory.mktemp("home")
    arguments = ["--data", photos, "--weights", weights, "--epochs", 2, "--lr", 0.01]
    result = call("finetune", *arguments, cwd=home)
    assert result.returncode == 0, result.stderr
    return home / "runs" / f"{photos.name}-1" / "checkpoint.npz"


def figure(output: str, name: str) -> float:
    """The number of a line of the table."""
    (line,) = (line for line in output.splitlines() if line.startswith(f"│ {name} "))
    return float(line.split("│")[2])


def test_figures_and_answers_of_a_folder(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    result = call("evaluate", checkpoint, "--data", photos, "--csv", "answers.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    entries, predictor = list_source(photos).entries, Predictor(checkpoint)
    expected = predictor.probabilities([entry.path for entry in entries])
    assert [row["path"] for row in rows] == [entry.name for entry in entries]
    assert [row["label"] for row in rows] == [entry.label for entry in entries]
    found = np.array([[float(row[name]) for name in predictor.classes] for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [row["answer"] for row in rows] == [predictor.classes[k] for k in expected.argmax(1)]
    labels, answers = ([row[name] for row in rows] for name in ("label", "answer"))
    right = np.mean([a == b for a, b in zip(labels, answers, strict=True)])
    assert figure(result.stdout, "accuracy") == pytest.approx(right, abs=1e-4)
    macro = f1_score(labels, answers, average="macro")
    assert figure(result.stdout, "F1") == pytest.approx(macro, abs=1e-4)
    assert all(name in result.stdout for name in ("60 images", *predictor.classes))


def test_a_table_with_groups_and_splits(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    files = [path for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())[:5]]
    lines = ["path,label,split,camera"]
    for i, path in enumerate(files):
        label = "-1" if i % 5 == 4 else path.parent.name
        lines.append(f"{path},{label},{'test' if i % 2 else 'train'},{'old' if i < 5 else 'new'}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    result = call("evaluate", checkpoint, "--data", "t.csv", "--group", "camera", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "12 images" in result.stdout
    assert "3 images without a label: answered, but not counted" in result.stdout
    groups = [line.split("│")[1:3] for line in result.stdout.splitlines() if "│ " in line]
    assert [(a.strip(), b.strip()) for a, b in groups][-2:] == [("new", "8"), ("old", "4")]
    result = call("evaluate", checkpoint, "--data", "t.csv", "--split", "test", cwd=tmp_path)
    assert "6 images" in result.stdout, result.stderr


def test_refusals(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    def refused(*more: object) -> subprocess.CompletedProcess[str]:
        return call("evaluate", checkpoint, *more, cwd=tmp_path)

    assert_refused(refused("--data", "nowhere"), "nowhere")
    assert_refused(
        refused("--data", photos, "--split", "test"), "--split test", "leave --split out"
    )
    assert_refused(refused("--data", photos, "--group", "age"), "--group age", "only a table has")
    table = tmp_path / "t.csv"
    image = next(next(photos.iterdir()).iterdir())
    table.write_text(f"path,label,camera\n{image},zebra,old\n")
    assert_refused(refused("--data", table), "t.csv: the network has no class called zebra",
                   "it knows blue, green", "--names FILE")  # fmt: skip
    assert_refused(refused("--data", table, "--group", "age"), "no such column", "it has camera")
    table.write_text("path,label\n\ngone.png,red\n")
    assert_refused(refused("--data", table), "t.csv, line 3: no such file: ", "gone.png")
    (tmp_path / "none" / "red").mkdir(parents=True)
    assert_refused(refused("--data", "none"), "none: no images in its class folders")
    assert_refused(refused("--data", photos, "--csv", tmp_path), "--csv ", "is a folder")
    run = call("evaluate", checkpoint.parent, "--data", photos, cwd=tmp_path)
    assert_refused(run, f"a run's folder; name the checkpoint in it: {checkpoint}")
    table.write_text(f"path,label\n{image},\n")
    assert_refused(refused("--data", table), "no image in it has a label", "resnet_np.predict")
    answers = tmp_path / "no" / "such" / "folder.csv"
    assert_refused(refused("--data", photos, "--csv", answers), "--csv ", "there is no folder")


def test_classes_that_the_data_only_numbers(tmp_path: Path) -> None:
    from resnet_np.data.class_names import read_class_names
    from resnet_np.errors import UserError

    index = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    names = read_class_names(tmp_path / "index.json")
    entries = [Entry(Path(n), n, n, None) for n in ("n01443537", "n01440764")]
    entries.append(Entry(Path("x"), "x", None, None))
    assert label_entries(entries, ("tench", "goldfish"), names).tolist() == [1, 0, -1]
    with pytest.raises(UserError, match=r"no class called n01443537 \(goldfish\); it knows tench"):
        label_entries(entries, ("tench",), names)
    with pytest.raises(UserError, match="more than one class called tench, so nobody can tell"):
        label_entries(entries, ("tench", "goldfish", "tench"), names)
    assert label_entries(entries[:1], ("tench", "goldfish", "tench"), names).tolist() == [1]
