"""What the suite for cards checks, on a machine without one: would it find what is wrong?"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import _suite_checks as checks
from _suite import Run

from resnet_np.errors import UserError


def test_no_test_at_all_is_wrong(tmp_path: Path) -> None:
    (row,) = checks.pytest_on_card(tmp_path, "tests/benchmarks/test_comparing.py")
    assert row == {"tests": 0, "failures": 0, "errors": 0, "skipped": 0, "passed": False}


def test_a_file_that_cannot_be_read_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_a.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "test_b.py").write_text(
        "import pytest, warnings\n"
        "pytestmark = pytest.mark.gpu\n"
        "def test_that_is_warned(): warnings.warn('of something new')\n"
        "def test_that_is_skipped(): pytest.skip('')\n"
    )
    (row,) = checks.pytest_on_card(tmp_path, str(tmp_path))
    assert row == {"tests": 3, "failures": 0, "errors": 1, "skipped": 1, "passed": False}
    monkeypatch.setattr("subprocess.run", lambda *args, **options: None)  # there is no pytest
    with pytest.raises(UserError, match="pytest left no report"):
        next(checks.pytest_on_card(tmp_path / "new", "tests"))


def test_how_steps_are_compared() -> None:
    arrays = {"a": np.array([3.0, 4.0]), "b": np.zeros(2), "c": np.array([1e-3])}
    expected = {
        "losses": {"": np.array(2.5)},
        "statistics": {"m": np.array([1.25]), "n": np.ones(100)},
        "parameters": arrays,
        "gradients": arrays,
    }
    off = arrays | {"c": np.array([2e-3])}
    got = expected | {"gradients": off, "losses": {"": np.array(2.0)}}
    errors = checks.step_errors(
        got | {"statistics": {"m": np.ones(1), "n": np.ones(100)}}, expected
    )
    assert errors["losses"] == pytest.approx(0.2) and errors["statistics"] == pytest.approx(0.2)
    assert errors["parameters"] == 0
    assert errors["gradients"] == pytest.approx(2e-4, rel=1e-6), "all of them as one vector"
    assert errors["worst single gradient"] == pytest.approx(1)
    for none in (np.nan, np.inf):
        got["parameters"] = arrays | {"b": np.array([0.0, none])}
        assert checks.step_errors(got, expected)["parameters"] == np.inf


@pytest.mark.parametrize(
    ("precision", "wrong", "passed"),
    [("fp32", 0.0, True), ("fp32", 1e-3, True), ("fp32", 0.06, False), ("fp64", 1e-3, False)],
)
def test_parity_of_a_small_network(
    precision: str, wrong: float, passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both on the CPU, the second with another gradient where that is asked for."""
    trainer, made = checks.Trainer, []

    class Pair(trainer):  # type: ignore[misc, valid-type]
        def __init__(self, device: str, *arguments: Any, **network: Any) -> None:
            made.append(device)
            super().__init__("cpu", *arguments, **network)
            self.factor = 1 + wrong * (device == "gpu")

        def observed(self, batch: Any) -> Any:
            seen = super().observed(batch)
            return seen | {"gradients": {n: self.factor * g for n, g in seen["gradients"].items()}}

    monkeypatch.setattr(checks, "Trainer", Pair)
    network = {"depth": 18, "width": 1 / 16}
    monkeypatch.setattr(checks, "PARITY_NETWORKS", ((precision, network),))
    monkeypatch.setattr(checks, "PARITY_STEPS", 2)
    monkeypatch.setattr(checks, "PARITY_PIXELS", 32)
    monkeypatch.setattr(checks, "PARITY_BATCH", 4)
    (row,) = checks.parity(Run(tmp_path, 60))
    assert made == ["cpu", "gpu"] and row["steps"] == 2
    assert (row["precision"], row["network"]) == (precision, "depth 18 width 0.0625")
    assert row["passed"] is passed
    assert row["gradients"] == pytest.approx(wrong, rel=1e-3) and row["losses"] == 0


def test_curves_may_differ_by_two_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {"fp32": [2.0, 1.0], "bf16": [2.03, 1.0], "fp16": [2.0, 0.97]}
    monkeypatch.setattr(checks, "loss_curve", curves.__getitem__)
    rows = list(checks.mixed(Run(tmp_path, 60)))
    assert [row.get("passed") for row in rows] == [None, True, False]
    assert [row.get("off by") for row in rows[1:]] == pytest.approx([0.015, 0.03])
    curves["bf16"] = [2.0, np.nan]
    assert not list(checks.mixed(Run(tmp_path, 60)))[1]["passed"]


def test_the_same_twice_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([0.0, 0.0, 0.0, -0.0, 1.0, 1.0, 1.0, np.nextafter(1.0, 2.0)])
    monkeypatch.setattr(
        checks, "state_after_steps", lambda precision: {"w": np.array(next(numbers))}
    )
    rows = list(checks.determinism(Run(tmp_path, 60)))
    assert [row["precision"] for row in rows] == ["fp32", "tf32", "bf16", "fp16"]
    assert [row["passed"] for row in rows] == [True, False, True, False]
