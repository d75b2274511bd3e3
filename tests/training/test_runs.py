"""The table of runs, as a user sees it."""

import json
import os
from pathlib import Path

import pytest
from refusals import assert_refused
from test_commands import call

from resnet_np.training.options import Options, Phase


@pytest.fixture
def runs(tmp_path) -> Path:
    """Three runs; the third with other options, and the best."""
    told = {
        "cats-2": (Options(data="cats", lr=0.1), 0.5),
        "cats-10": (Options(data="cats", lr=0.2), 0.25),
        "cats-9": (Options(data="cats", phases=(Phase("fc", 1), Phase("layer4", 2))), 0.75),
    }
    for name, (options, accuracy) in told.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        record = {
            "arguments": options.to_record() | {"out": name},
            "history": [{"seconds": 1.5}, {"seconds": 2.0}],
            "figures": {"validation": {"accuracy": accuracy}, "test": {"accuracy": 1 - accuracy}},
        }
        (tmp_path / "runs" / name / "history.json").write_text(json.dumps(record))
    (tmp_path / "runs" / "unfinished").mkdir()
    return tmp_path


def rows(output: str) -> list[list[str]]:
    """The cells of the table's rows that begin with a run."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    return [row for row in cells if row and row[0].startswith("runs/")]


def test_all_runs_in_their_order(runs):
    result = call("runs", cwd=runs, env=os.environ | {"COLUMNS": "200"})
    assert result.returncode == 0, result.stderr
    found = rows(result.stdout)
    assert [row[0] for row in found] == ["runs/cats-2", "runs/cats-9", "runs/cats-10"]
    assert found[0][1:] == ["0.5000", "0.5000", "2", "3.5", "", "0.1"]
    assert found[1][-2:] == ["unfreeze=fc epochs=1; unfreeze=layer4 epochs=2", ""]
    header = next(line for line in result.stdout.splitlines() if "validation" in line)
    for name, there in (("phases", True), ("lr", True), ("data", False), ("out", False)):
        assert (f" {name} " in header) == there


def test_the_best_first_and_some_of_them(runs):
    result = call("runs", "runs/cats-2", "runs/cats-9", "--sort", "validation", cwd=runs)
    assert [row[0] for row in rows(result.stdout)] == ["runs/cats-9", "runs/cats-2"]


def test_one_run_shows_what_is_unusual(runs):
    result = call("runs", "runs/cats-2", cwd=runs)
    (row,) = rows(result.stdout)
    assert row == ["runs/cats-2", "0.5000", "0.5000", "2", "3.5", "cats", "0.1"]


def test_what_is_no_run(runs):
    assert_refused(call("runs", "nowhere", cwd=runs), "nowhere: no such folder")
    file = Path("runs", "cats-2", "history.json")
    assert_refused(call("runs", file, cwd=runs), f"{file}: is a file; name a run's folder")
    said = "unfinished: no finished run in it: a run writes history.json at its end"
    assert_refused(call("runs", "runs/unfinished", cwd=runs), said)
    long = '{"arguments": {}, "history": [{"seconds": 1' + "0" * 400 + '}], "figures": {}}'
    (runs / file).write_text('{"arguments": {}}')
    said = "history.json: is no record of a run: it has no history, figures"
    assert_refused(call("runs", cwd=runs), said)
    for text in ("", "[]", '{"arguments": 3}', '{"arguments": {}, "history": 3}', long):
        (runs / "runs" / "cats-2" / "history.json").write_text(text)
        said = "runs/cats-2/history.json: is no record of a run: "
        assert_refused(call("runs", cwd=runs), said)
