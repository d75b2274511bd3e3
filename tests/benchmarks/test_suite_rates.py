"""What the suite for cards measures, on a machine without one: rates, turns, and the roofline."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from standins.card import stand_in

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import _suite
import _suite_rates as rates
from _engines import Convolution
from _suite import Run
from _workers import Job, Worker, thread_limits

from resnet_np.errors import UserError


def run_with_machine(folder: Path, **found: float) -> Run:
    rows = [json.dumps({"what": what, "rate": rate}) for what, rate in found.items()]
    _suite.rows_file(folder, "machine").write_text("\n".join(rows) + "\n")
    return Run(folder, 60)


def test_the_machine_multiplies_in_each_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "GEMM_SIZE", 16)
    monkeypatch.setattr(rates, "COPY_BYTES", 4000)

    def card_seconds(call: Callable[[], Any]) -> float:
        call()
        return 1e-6

    monkeypatch.setattr(rates, "card_seconds", card_seconds)
    with stand_in() as cupy:
        rows = list(rates.machine(Run(tmp_path, 60)))
        gemms = [(g.a, g.c, g.compute) for g in cupy.standin.record.gemms]
    assert [row["what"] for row in rows] == ["copy", "fp32", "tf32", "bf16"]
    assert rows[0]["rate"] == pytest.approx(2 * 4000 / 1e-6 / 1e9)
    assert rows[1]["rate"] == pytest.approx(2 * 16**3 / 1e-6 / 1e12)
    float32 = ("float32", "float32")
    assert gemms == [(*float32, "32F"), (*float32, "TF32"), ("bfloat16", "bfloat16", "32F")]


def test_the_cards_clock_takes_the_median_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {1: [9.0, 0.006], 4: [4.0, 44.0, 8.0, 8.0, 6.0]}  # by how many calls were timed
    monkeypatch.setattr(rates, "timed", lambda call, count: seconds[count].pop(0))
    assert rates.card_seconds(lambda: None, least=0.02) == 2.0


def test_the_roofline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Convolution((4, 4, 8), (1, 1, 8, 16), (2, 2), ((0, 0), (0, 0)))
    monkeypatch.setattr(rates, "LAYERS_BATCH", 2)
    products = 2 * (2 * 2 * 2) * 8 * 16
    moved = (2 * 4 * 4 * 8 + 2 * 2 * 2 * 16) * 2 + 8 * 16 * 4  # bfloat16, but for the weights
    slow_memory = {"copy": 1e-3, "bf16": 1e3}
    assert rates.least_seconds(conv, "bf16", slow_memory) == pytest.approx(moved / 1e6)
    slow_products = {"copy": 1e6, "bf16": 1e-3}
    assert rates.least_seconds(conv, "bf16", slow_products) == pytest.approx(products / 1e9)

    import conv_throughput

    monkeypatch.setattr(conv_throughput, "distinct_convolutions", lambda: {conv: 3})
    monkeypatch.setattr(rates, "card_seconds", lambda call: call() is None or 2e-3)
    with stand_in():
        rows = list(rates.layers(run_with_machine(tmp_path, copy=1e-3, bf16=1e3, tf32=1e3)))
    assert [row["pass"] for row in rows[:3]] == ["forward", "input gradient", "weight gradient"]
    assert len(rows) == 12 and rows[3]["convolution"] == "all"
    assert rows[0]["of roofline"] == pytest.approx(moved / 1e6 / 2e-3)
    assert rows[3]["ms"] == pytest.approx(3 * rows[0]["ms"])
    assert rows[3]["TFLOP/s"] == pytest.approx(rows[0]["TFLOP/s"])


class FakeWorker:
    """In place of a process: gets ready, or does not, and takes its turns."""

    made: list[str]
    trouble: dict[str, str]
    process = SimpleNamespace(is_alive=lambda: True)

    def __init__(self, job: Job) -> None:
        self.made.append(job.engine)
        self.begin(job)

    def begin(self, job: Job) -> None:
        self.job, self.setting = job, f"as {job.engine} is"
        self.seconds = {"resnet_np": 2.0}.get(job.engine, 3.0)
        self.output = np.array([1.0, {"resnet_np": 100.0}.get(job.engine, 102.0)])

    def wait(self, seconds: float | None = None) -> None:
        if self.job.engine in self.trouble:
            raise UserError(self.trouble[self.job.engine])

    def run(self) -> float:
        return self.seconds

    def finish(self) -> int:
        return {"resnet_np": 3 * 2**30}.get(self.job.engine, 2**31)

    def stop(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    FakeWorker.made, FakeWorker.trouble = [], {}
    monkeypatch.setattr(rates, "Worker", FakeWorker)
    monkeypatch.setattr(rates, "make_material", lambda folder, batch: None)
    monkeypatch.setattr(rates, "BATCHES", {"inference": (32,), "training": (8, 4)})
    return FakeWorker


def test_engines_are_measured_in_turns(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "installed", lambda: rates.OTHERS)
    rows = list(rates.whole_models("inference", Run(Path(), 100)))
    assert fake.made == ["resnet_np", "torch", "resnet_np", "torch-compile"], "kept for all jobs"
    assert [row["engine"] for row in rows[:2]] == ["resnet_np", "torch"]
    assert [row["precision"] for row in rows] == 2 * ["bf16", "bf16", "tf32", "tf32"]
    ours, theirs = rows[0], rows[1]
    assert ours["images/s"] == 16 and "passed" not in ours
    assert (theirs["ratio"], theirs["rounds"]) == (1.5, (1.5, 1.5))
    assert theirs["difference"] == pytest.approx(2 / 102)
    assert theirs["passed"] and not rows[3]["passed"], "allowed in bf16, and not in tf32"


@pytest.mark.parametrize("name", ["resnet_np", "torch"])
def test_an_engine_that_cannot_be_measured(
    name: str, fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "installed", lambda: ("torch",))
    fake.trouble[name] = "too large"
    rows = list(rates.whole_models("inference", Run(Path(), 100)))
    failed = [row for row in rows if row["engine"] == name]
    assert [row["note"] for row in failed] == ["too large"] * 2
    assert all(row.get("passed", True) == (name != "resnet_np") for row in failed)
    others = [row for row in rows if row["engine"] != name]
    assert all("images/s" in row and "ratio" not in row for row in others)


def test_without_torch_there_are_no_ratios_and_that_is_said(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    *ours, said = rates.whole_models("training", Run(Path(), 100))
    assert [(row["engine"], row["batch"]) for row in ours] == [
        ("resnet_np", n) for n in (8, 8, 4, 4)
    ]
    assert said == {"engine": "torch", "note": "is not installed: nothing to compare with"}


def test_what_there_is_no_time_for_is_said(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "installed", lambda: ("torch",))
    rows = list(rates.whole_models("inference", Run(Path(), rates.SPARE_SECONDS - 1)))
    assert [row["note"] for row in rows] == ["left out: the time was over"] * 2
    assert fake.made == []


def test_peak_memory(fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "installed", lambda: rates.OTHERS)
    ours, theirs = [[row.pop("engine"), row] for row in rates.memory(Run(Path(), 100))][1:3]
    assert ours == ["resnet_np", {"precision": "tf32", "batch": 256, "GiB": 3.0}]
    assert theirs == ["torch", {"precision": "bf16", "batch": 256, "GiB": 2.0}]
    fake.trouble = {"resnet_np": "too large", "torch": "too large, too"}
    said = [(row["note"], row.get("passed")) for row in rates.memory(Run(Path(), 100))]
    assert said == 2 * [("too large", False)] + 2 * [("too large, too", None)]


def test_a_process_takes_one_job_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, threads in thread_limits(1).items():  # a worker sets them, and they would stay
        monkeypatch.setenv(name, threads)
    job = Job("resnet_np", "gemm", 8, None, threads=1)  # type: ignore[arg-type]
    worker = Worker(job)
    with pytest.raises(UserError, match="was not ready after 0 s"):
        worker.wait(0)
    worker = Worker(job)
    worker.wait(100)
    assert worker.output.shape == (1, 8, 8) and worker.run() > 0
    worker.begin(Job("resnet_np", "inference", 8, None, threads=1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="resnet_np: AttributeError: 'NoneType' object has no"):
        worker.wait(100)
    worker.begin(Job("resnet_np", "gemm", 4, None, threads=1))  # type: ignore[arg-type]
    worker.wait(100)
    assert worker.output.shape == (1, 4, 4)
    assert worker.finish() > 0
