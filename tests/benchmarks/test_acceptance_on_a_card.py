"""What the acceptance script for cards says of figures, and where there is no card."""

import importlib.util
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from standins.card import FOLDER

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "acceptance" / "21_on_a_card.py"


def load() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("on_a_card", SCRIPT)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


script = load()


def pytests() -> list[dict[str, Any]]:
    return [{"tests": 9, "failures": 0, "errors": 0, "skipped": 2, "passed": True}]


def rates(batches: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for batch, precision in product(batches, ("bf16", "tf32")):
        head = {"precision": precision, "batch": batch}
        rows += [
            head | {"engine": "resnet_np", "images/s": 60.0},
            head | {"engine": "torch", "images/s": 100.0, "ratio": 0.6, "rounds": [0.5, 0.7]},
        ]
        rows[-1] |= {"difference": 1e-3, "passed": True}
    return [*rows, {"engine": "torch-compile", "batch": 1, "precision": "bf16", "note": "no time"}]


def figures() -> dict[str, Any]:
    """As the suite writes them, when all is well."""
    errors = {"losses": 1e-6, "statistics": 2e-6, "parameters": 1e-6, "passed": True}
    rows = {
        "tests": pytests(),
        "gradients": pytests(),
        "parity": [
            {"precision": "fp32", **errors, "worst single gradient": 0.01},
            {"precision": "fp64", **errors, "worst single gradient": 1e-8},
        ],
        "mixed": [{"precision": "fp32"}, {"precision": "bf16", "off by": 0.01, "passed": True}],
        "determinism": [{"precision": "fp32", "different": 0, "passed": True}],
        "inference": rates((256, 32, 1)),
        "training": rates((256, 64)),
        "memory": [{"engine": "resnet_np", "precision": p, "GiB": 30.0} for p in ("bf16", "tf32")],
    }
    parts = [
        {"name": name, "status": "passed", "reason": "", "rows": found}
        for name, found in rows.items()
    ]
    return {"machine": {"gpu": "X1", "date": "2026-11-22T00"}, "parts": parts}


def part(record: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in record["parts"] if one["name"] == name)


def missed(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said of figures that are not as asked."""
    passed = list(script.judge(record))
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines if line.startswith("MISSED")]
    assert passed.count(False) == len(wrong) and len(lines) >= len(passed) == 18
    return wrong


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert missed(figures(), capsys) == []


def test_each_figure_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    record = figures()
    for name, reason in (("tests", "1 line(s)"), ("mixed", "stopped after 60 s")):
        part(record, name).update(status="failed", reason=reason)
    part(record, "tests")["rows"][0]["failures"] = 3
    part(record, "gradients")["rows"] = []
    part(record, "parity")["rows"][0]["losses"] = 2e-4
    part(record, "determinism").update(status="failed", reason="1 line(s)")
    part(record, "determinism")["rows"][0]["different"] = 4
    part(record, "inference")["rows"][1]["ratio"] = 0.4
    part(record, "inference")["rows"][3].update(difference=0.1, passed=False)
    part(record, "training")["rows"][1] = {"engine": "torch", "batch": 256, "precision": "bf16"}
    record["parts"].remove(part(record, "memory"))
    told = "\n".join(missed(record, capsys))
    for figure in (
        "tests on the card: 7 ran, 3 failed, failed: 1 line(s) (asked: all pass)",
        "gradient checks on the card: passed:  (asked: all pass)",
        "card against CPU, float32: losses, statistics, parameters: 2.0e-04 (asked: at most 0.0001",
        "loss curves, 16 bits against 32: 1.0e-02, failed: stopped after 60 s (asked: at most 0.02",
        "when the same steps are done twice: fp32 4, failed: 1 line(s) (asked: none)",
        "inference, batch 256, bf16, ratio to eager PyTorch: 0.40 (40 images/s; in the rounds 0.50",
        "inference, batch 256, tf32, ratio to eager PyTorch, outputs: 1.0e-01 apart (asked: the",
        "training, batch 256, bf16, ratio to eager PyTorch: no figure:  (asked: at least 0.5)",
        "peak memory of training, batch 256, tf32: no figure (asked: is measured)",
    ):
        assert figure in told
    assert told.count("MISSED") == 10, "peak memory is asked for twice"


def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    paths = f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths} | settings,
        capture_output=True,
        text=True,
    )


def test_figures_of_another_day(tmp_path: Path) -> None:
    file = tmp_path / "x-gpu.json"
    record = figures()
    file.write_text(json.dumps(record))
    assert run("--judge", file).returncode == 0
    part(record, "training")["rows"] = []
    file.write_text(json.dumps(record))
    done = run("--judge", file)
    assert done.returncode == 1 and done.stdout.startswith("X1, 2026-11-22\nPASS")


def test_without_a_card_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    """Figures of another day, in the same folder, are not taken for this one's."""
    (tmp_path / "old-gpu.json").write_text(json.dumps(figures()))
    os.utime(tmp_path / "old-gpu.json", (1, 1))
    done = run("--out", tmp_path, CUPY_STANDIN="no device")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --device gpu: no NVIDIA card is to be seen")
    assert done.stderr.count("\n") == 1
