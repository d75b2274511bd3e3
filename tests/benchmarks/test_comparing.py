"""What the benchmarks conclude from times and outputs, and what they refuse to measure."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from _comparing import differences, fastest, ratio, relative_difference, spread  # noqa: E402
from _engines import engine_names  # noqa: E402
from _profile import Line, Peaks, Profile  # noqa: E402
from _whole_model import check_outputs, row_of, verdict  # noqa: E402
from _workers import Measured, thread_limits  # noqa: E402

from resnet_np.errors import UserError  # noqa: E402


def measured(times: list[float], output: float) -> Measured:
    return Measured(times, 2**20, "as it comes", np.array([[1.0, output]], np.float32))


def test_ratios_are_of_medians_and_their_spread_is_by_round() -> None:
    ours, theirs = [1.0, 2.0, 10.0], [3.0, 3.0, 5.0]
    assert ratio(theirs, ours) == 1.5
    assert spread(theirs, ours) == (0.5, 3.0)
    assert fastest({"a": [1.0, 9.0, 9.0], "b": [8.0, 8.0, 8.0]}) == "b"


def test_differences_are_relative_to_the_largest_number() -> None:
    a, b = np.array([1.0, 100.0], np.float32), np.array([2.0, 100.0], np.float32)
    assert relative_difference(a, b) == pytest.approx(0.01)
    assert relative_difference(np.zeros(2), np.zeros(2)) == 0
    assert relative_difference(a, np.array([1.0, np.nan])) == float("inf")
    assert list(differences({"a": a, "b": b, "c": a})) == ["a, b", "a, c", "b, c"]


def test_a_row_names_the_fastest_other_engine() -> None:
    rounds = {
        "resnet_np": measured([1.0, 1.0, 1.0], 2.0),
        "slow": measured([4.0, 4.0, 4.0], 2.0),
        "quick": measured([1.0, 1.5, 3.0], 2.0),
    }
    row = {"task": "inference", "batch": 4, "unfreeze": "stem"} | row_of(rounds, batch=4)
    assert row["fastest_other"] == "quick"
    assert row["engines"]["quick"]["ratio"] == 1.5
    assert row["engines"]["slow"]["images_per_second"] == 1
    assert row["engines"]["slow"]["peak_mib"] == 1
    assert verdict(row) == (
        "inference, batch 4: 1.50 times as fast as the fastest other, quick (1.00 to 3.00); "
        "outputs differ by 0.0e+00 at most"
    )
    assert verdict(row | {"unfreeze": "layer4"}).startswith("inference from layer4, batch 4: ")
    check_outputs([row])


def test_alone_there_is_no_other() -> None:
    row = row_of({"resnet_np": measured([1.0], 2.0)}, batch=1)
    assert row["fastest_other"] is None and row["largest_difference"] == 0


def test_engines_that_compute_something_else_are_an_error() -> None:
    rounds = {"resnet_np": measured([1.0], 2.0), "other": measured([1.0], 2.001)}
    row = {"task": "inference", "batch": 4, "unfreeze": "stem"} | row_of(rounds, batch=4)
    with pytest.raises(UserError, match="resnet_np, other differ by"):
        check_outputs([row])


def test_engines_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert engine_names("", "inference", "cpu") == ["resnet_np"]
    chosen = engine_names("openvino,torch,torch", "inference", "cpu")
    assert chosen == ["resnet_np", "openvino", "torch"]


@pytest.mark.parametrize(
    ("against", "task", "device", "complaint"),
    [
        ("tensorflow", "inference", "cpu", "no such engine; for inference: torch, torch-nchw, "),
        ("resnet_np", "inference", "cpu", "no such engine"),
        ("torch,onnxruntime", "training", "cpu", "onnxruntime: is measured in inference only; "),
        ("torch-compile", "convolution", "cpu", "is measured in inference, training only"),
        ("openvino", "convolution", "cpu", "openvino: is measured in inference only"),
        ("onnxruntime", "inference", "gpu", "is measured on the CPU only"),
        ("openvino", "inference", "cpu", "openvino is not installed; `bash tests/compare/inst"),
    ],
)
def test_engines_that_cannot_be_measured(
    against: str, task: str, device: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "openvino")
    with pytest.raises(UserError) as caught:
        engine_names(against, task, device)
    assert complaint in str(caught.value)


def test_every_library_gets_the_same_threads() -> None:
    assert set(thread_limits(3).values()) == {"3"}


def test_a_step_is_held_against_the_peak_that_binds_it() -> None:
    peaks = Peaks(flops=100, bytes=10)
    busy = Line("busy", seconds=2, flops=100, moved=5)
    moving = Line("moving", seconds=4, flops=10, moved=20)
    assert (busy.bound(peaks), busy.share(peaks)) == ("compute", 0.5)
    assert (moving.bound(peaks), moving.share(peaks)) == ("memory", 0.5)
    record = Profile(1, 6, [busy, moving], peaks).to_record()
    assert [line["bound"] for line in record["lines"]] == ["compute", "memory"]


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("training", "--against openvino", "--against openvino: is measured in inference only"),
        ("inference", "--threads 0", "--threads must be from 1 to "),
        ("inference", "--profile --against torch", "--profile: is ours on the CPU; "),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    script: str, arguments: str, complaint: str
) -> None:
    command = [sys.executable, str(BENCHMARKS / f"resnet50_{script}.py"), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {complaint}") and done.stderr.count("\n") == 1
