"""The suite for cards, on a machine without one: its parts, its deadline, and what it writes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.card import FOLDER, stand_in

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "benchmarks" / "gpu_suite.py"
sys.path.insert(0, str(ROOT / "benchmarks"))
import _suite  # noqa: E402
import gpu_suite  # noqa: E402
from _suite import Outcome, Part, Run, run_part, run_parts  # noqa: E402


def nothing(run: Run) -> Iterator[_suite.Row]:
    return iter(())


def part(name: str, most: float = 60, least: float = 0) -> Part:
    return Part(name, f"About {name}", most, least, nothing)


# --- the parts -----------------------------------------------------------------------------------


def test_the_parts_and_their_limits() -> None:
    names = "machine tests gradients parity mixed determinism inference training memory layers"
    assert [p.name for p in gpu_suite.chosen(names.replace(" ", ","), 8)] == names.split()
    kept = sum(p.least for p in gpu_suite.PARTS)
    assert kept <= 60 * gpu_suite.MINUTES - 2 * gpu_suite.SPARE_SECONDS, "there is some for each"
    assert all(5 < p.least < p.most for p in gpu_suite.PARTS)
    layers, machine = gpu_suite.KNOWN["layers"], gpu_suite.KNOWN["machine"]
    chosen = gpu_suite.chosen("layers,machine", 16)
    assert [(p.name, p.most, p.least) for p in chosen] == [
        ("machine", 2 * machine.most, 2 * machine.least),
        ("layers", 2 * layers.most, 2 * layers.least),
    ]


def test_when_the_time_is_over_parts_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [0.0]

    def take(one: Part, command: list[str], run: Run) -> Outcome:
        now[0] += 40
        return Outcome(command[0], one.title, "passed", seconds=run.seconds)

    monkeypatch.setattr(_suite, "run_part", take)
    parts = [part("a", 60), part("b", 60), part("c", 60), part("d", 3)]
    found = list(run_parts(parts, lambda p, run: [p.name], tmp_path, 83, lambda: now[0]))
    assert [(o.name, o.status, o.seconds) for o in found] == [
        ("a", "passed", 60),
        ("b", "passed", 43),  # what is left of 83
        ("c", "left out", 0),  # 3 are too few to begin
        ("d", "left out", 0),
    ]
    assert found[2].reason == "the 83 s for all parts were over"


def test_some_time_is_kept_for_each_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, given = [0.0], {}

    def take(one: Part, command: list[str], run: Run) -> Outcome:
        given[one.name] = run.seconds
        now[0] += run.seconds + (one.name == "a")  # which takes a second to be stopped
        return Outcome(one.name, one.title, "failed", "stopped")

    monkeypatch.setattr(_suite, "run_part", take)
    parts = [part("a", 60, 20), part("b", 60, 20), part("c", 30, 25), part("d", 60, 15)]
    list(run_parts(parts, lambda p, run: [], tmp_path, 80, lambda: now[0]))
    assert given == {"a": 20, "b": 20, "c": 25, "d": 14}, "all hang, and each had its time"


def shell(script: str, tmp_path: Path, seconds: float = 60) -> Outcome:
    script = script.replace("ROWS", str(tmp_path / "tried.jsonl"))
    return run_part(part("tried"), ["sh", "-c", script], Run(tmp_path, seconds))


def test_a_part_that_passes(tmp_path: Path) -> None:
    outcome = shell("""echo said; echo '{"a": 1}' > ROWS""", tmp_path)
    assert (outcome.status, outcome.reason) == ("passed", "")
    assert (outcome.rows, outcome.output) == ([{"a": 1}], ["said"])


def test_a_part_that_fails(tmp_path: Path) -> None:
    outcome = shell("seq 100; echo it broke >&2; echo; exit 3", tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", "it broke")
    assert outcome.output[-3:] == ["100", "it broke", ""]
    assert len(outcome.output) == _suite.LAST_LINES
    killed = shell("kill -9 $$", tmp_path)
    assert (killed.status, killed.reason) == ("failed", "it said nothing")


def test_a_part_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"  # a pipe that has no end before its last writer has gone
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    row = """printf '{"a": 1}\\n{"a"' > ROWS"""
    outcome = shell(f"{row}; echo begun; (echo x; sleep 300) > {alive} & sleep 300", tmp_path, 1)
    assert (outcome.status, outcome.reason) == ("failed", "stopped after 1 s")
    assert (outcome.rows, outcome.output) == ([{"a": 1}], ["begun"])
    os.set_blocking(reader, True)
    assert os.read(reader, 10) == b"x\n" and os.read(reader, 10) == b""
    os.close(reader)


def test_a_part_writes_its_rows_as_they_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(run: Run) -> Iterator[_suite.Row]:
        yield {"a": 1, "passed": True}
        assert _suite.read_rows(run.folder, "tried") == [{"a": 1, "passed": True}]
        yield {"a": 2.5, "passed": False}

    tried = Part("tried", "", 1, 1, measure)
    assert not _suite.measure_here(tried, Run(tmp_path, 1))
    assert capsys.readouterr().out == "1 line(s) of the table did not pass\n"
    assert len(_suite.read_rows(tmp_path, "tried")) == 2


# --- what is written -----------------------------------------------------------------------------

FACTS = {"date": "2026-11-21T21:00:00+00:00", "gpu": "NVIDIA X1", "driver_cuda": "12.9"}
EXPECTED = """# NVIDIA X1, 2026-11-21

|  | this machine |
| --- | --- |
| date | 2026-11-21T21:00:00+00:00 |
| gpu | NVIDIA X1 |
| driver cuda | 12.9 |
| versions | numpy 2.0, cupy 14.0 |

## All parts

| part |  | s | why |
| --- | --- | --- | --- |
| About a | passed | 12 |  |
| About b | failed | 3 | x \\| y |
| About c | left out | 0 | no time |

## About a

| batch | images/s | rounds | passed | note |
| --- | --- | --- | --- | --- |
| 256 | 12,346 | 0.981 to 1.23 | yes |  |
| 1 | 1.23e-05 |  | NO | slow |

## About b

The last lines of its output:

```text
1 | 2
x | y
```
"""


def test_what_is_written(tmp_path: Path) -> None:
    rows = [
        {"batch": 256, "images/s": 12345.6, "rounds": [0.981, 1.2345], "passed": True},
        {"batch": 1, "images/s": 1.234e-5, "passed": False, "note": "slow"},
    ]
    outcomes = [
        Outcome("a", "About a", "passed", seconds=12.4, rows=rows, output=["kept"]),
        Outcome("b", "About b", "failed", "x | y", 2.9, output=["1 | 2", "x | y"]),
        Outcome("c", "About c", "left out", "no time"),
    ]
    facts = FACTS | {"versions": {"numpy": "2.0", "cupy": "14.0"}}
    _suite.save(tmp_path / "x", facts, outcomes)
    assert (tmp_path / "x.md").read_text() == EXPECTED
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["machine"] == facts
    assert [p["status"] for p in record["parts"]] == ["passed", "failed", "left out"]
    assert record["parts"][0]["rows"] == rows and record["parts"][0]["output"] == ["kept"]


@pytest.mark.parametrize(("fails", "status"), [("", 0), ("inference", 1)])
def test_all_of_it(
    fails: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(one: Part, run: Run) -> list[str]:
        return ["sh", "-c", f"echo about {one.name}; exit {int(one.name == fails)}"]

    monkeypatch.setattr(gpu_suite, "command", command)
    monkeypatch.setattr(sys, "argv", ["gpu_suite", "--out", str(tmp_path / "new")])
    with stand_in(), pytest.raises(SystemExit) as ended:
        gpu_suite.main()
    assert ended.value.code == status
    out = capsys.readouterr().out
    assert out.count("\n") == len(gpu_suite.PARTS) + 1
    assert ("inference: failed, 0 s  about inference" in out) == bool(fails)
    markdown, record = sorted((tmp_path / "new").iterdir(), reverse=True)
    assert markdown.name.endswith("-stand-in-for-a-card-gpu.md")
    machine = json.loads(record.read_text())["machine"]
    assert {"gpu", "driver", "driver_cuda", "cuda", "date", "versions"} <= set(machine)


def test_a_part_has_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command, as far as a part that needs what was not measured."""
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    layers = gpu_suite.KNOWN["layers"]
    run = Run(tmp_path, 300)
    outcome = run_part(layers, gpu_suite.command(layers, run), run)
    assert outcome.status == "failed"
    assert outcome.reason == "error: needs the figures of the part machine: --parts machine,layers"


@pytest.mark.parametrize(
    ("arguments", "circumstance", "complaint"),
    [
        ("", "no device", "--device gpu: no NVIDIA card is to be seen; what do nvidia-smi"),
        ("", "broken", "--device gpu: CuPy is not usable"),
        ("--parts machine,magic", "", "--parts magic: there are machine, tests, gradients, "),
        ("--minutes 0", "", "argument --minutes: must be a whole number of 1 or more"),
    ],
)
def test_without_a_gpu_there_is_one_line_and_status_2(
    arguments: str, circumstance: str, complaint: str, tmp_path: Path
) -> None:
    paths = f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(SUITE), "--out", str(tmp_path / "new"), *arguments.split()],
        env=os.environ | {"PYTHONPATH": paths, "CUPY_STANDIN": circumstance},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {complaint}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
