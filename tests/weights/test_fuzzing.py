"""Mutants of every format are read or refused, and the judge of that notices everything else.

A hundred and fifty of each format here, in benchmarks/acceptance/12_fuzzing.py a hundred thousand.
"""

import json
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Judge, Task, run, wrong_message
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import FORMATS, IN_A_CHILD, OPCODES, SNIPPETS, Files, mutant, seeds_of, write
from seeds import Entry, make_zip, network, npz, safetensors_of, torch_legacy, torch_zip

from resnet_np.errors import UserError
from resnet_np.weights import WeightFile, read

IN_PROCESS = [format for format in FORMATS if format not in IN_A_CHILD]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for a judge, who works in it and measures memory."""
    here = Path.cwd()
    (tmp_path / "here").mkdir()
    yield tmp_path / "here"
    os.chdir(here)


@pytest.mark.parametrize("format", FORMATS)
def test_seeds_are_read(tmp_path: Path, format: str) -> None:
    write(tmp_path / "a", seeds_of(format)[0])
    assert "conv1.weight" in read(tmp_path / "a").arrays


def test_the_same_three_the_same_bytes() -> None:
    for format in FORMATS:
        assert mutant(format, 3, 7) == mutant(format, 3, 7)
    assert len({json.dumps(str(mutant("npz", 0, n))) for n in range(100)}) > 90


@pytest.mark.parametrize("format", FORMATS)
def test_mutants(folder: Path, format: str) -> None:
    judge = Judge(folder, format)
    outcomes = set()
    for number in range(1, 8 if format in IN_A_CHILD else 150):
        verdict = judge.judge(mutant(format, 0, number))
        assert verdict.outcome != "finding", f"{format}, seed 0, mutant {number}: {verdict.text}"
        outcomes.add(verdict.outcome)
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("format", IN_PROCESS)
@settings(max_examples=60)
@given(seed=st.integers(1, 1 << 30), number=st.integers(1, 1 << 30))
def test_any_mutant(
    tmp_path_factory: pytest.TempPathFactory, format: str, seed: int, number: int
) -> None:
    judged(tmp_path_factory, mutant(format, seed, number))


# --- what hypothesis makes up --------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["F32", "BF16", "resnet", "bottleneck", "v1.5"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {}, optional={"dtype": JSON, "shape": JSON, "data_offsets": st.lists(st.integers(0, 99)) | JSON}
)
NAMES = st.sampled_from(["conv1.weight", "bn1.bias", "__metadata__", "resnet_np", "x\n\x1b[31m"])
NUMBERS = np.arange(25, dtype="<f4").tobytes()


def judged(paths: pytest.TempPathFactory, files: Files) -> None:
    """Read, or refused in one line."""
    path = paths.mktemp("any") / "a"
    write(path, files)
    try:
        read(path)
    except UserError as error:
        assert wrong_message(str(error), path) is None


@given(header=st.dictionaries(NAMES | st.text(), FIELDS | JSON) | JSON)
def test_any_header_of_safetensors(tmp_path_factory: pytest.TempPathFactory, header: Any) -> None:
    judged(tmp_path_factory, {"": safetensors_of(json.dumps(header).encode(), NUMBERS)})


@given(
    descr=st.sampled_from(["<f4", "|O", "<U9", "|V3", "<f3", "[('a', '<f4')]", "<M8[s]"])
    | st.text(),
    shape=st.lists(st.integers(-2, 1 << 64), max_size=5).map(tuple) | JSON,
    content=st.binary(max_size=40),
)
def test_any_header_of_npy(
    tmp_path_factory: pytest.TempPathFactory, descr: str, shape: Any, content: bytes
) -> None:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    array = b"\x93NUMPY\1\0" + (len(header) & 0xFFFF).to_bytes(2, "little") + header + content
    judged(tmp_path_factory, {"": make_zip([Entry(b"conv1.weight.npy", array)])})


@given(record=st.dictionaries(st.sampled_from(["model", "classes", "contract"]), JSON))
def test_any_record_of_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any]
) -> None:
    text = json.dumps({"format": 1, **record}).encode()
    named = {f"model/{name}": array for name, array in network().items()}
    judged(tmp_path_factory, {"": npz({**named, "__record__": np.frombuffer(text, np.uint8)})})


@given(
    config=st.dictionaries(st.sampled_from(["model_type", "id2label", "depths"]), JSON), images=JSON
)
def test_any_configuration(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], images: Any
) -> None:
    files = dict(seeds_of("huggingface")[0])
    changed = json.loads(files["config.json"]) | config
    files |= {
        "config.json": json.dumps(changed).encode(),
        "preprocessor_config.json": json.dumps(images).encode(),
    }
    judged(tmp_path_factory, files)


@settings(max_examples=100)
@given(pieces=st.lists(st.sampled_from(SNIPPETS) | st.sampled_from(OPCODES), max_size=30))
@pytest.mark.parametrize("container", [torch_zip, torch_legacy])
def test_any_instructions(
    tmp_path_factory: pytest.TempPathFactory, container: Any, pieces: list[bytes]
) -> None:
    judged(tmp_path_factory, {"": container(network(), b"\x80\2" + b"".join(pieces) + b".")})


# --- the judge -----------------------------------------------------------------------------------


def raises(path: Path) -> WeightFile:
    raise KeyError("conv1.weight")


def speaks_of_python(path: Path) -> WeightFile:
    raise UserError(f"{path}: damaged (<class 'dict'>)")


def names_no_file(path: Path) -> WeightFile:
    raise UserError("damaged")


def gives_no_reason(path: Path) -> WeightFile:
    raise UserError(f"{path}: ")


def is_long_winded(path: Path) -> WeightFile:
    error = UserError(f"{path}: damaged")
    error.args = (f"{path}: " + "damaged " * 200,)
    raise error


def breaks_the_line(path: Path) -> WeightFile:
    error = UserError(f"{path}: damaged")
    error.args = (f"{path}: damaged\nvery",)
    raise error


def warns(path: Path) -> WeightFile:
    warnings.warn("odd", stacklevel=1)
    raise UserError(f"{path}: damaged")


def fills_memory(path: Path) -> WeightFile:
    np.empty(3 << 20, np.uint8)
    raise UserError(f"{path}: damaged")


def leaves_a_file(path: Path) -> WeightFile:
    Path("left").touch()
    raise UserError(f"{path}: damaged")


def lets_infinity_in(path: Path) -> WeightFile:
    file = read(path)
    file.arrays["fc.bias"][0] = np.inf
    return file


def takes_long(path: Path) -> WeightFile:
    time.sleep(0.02)
    raise UserError(f"{path}: damaged")


@pytest.mark.parametrize(
    "reader",
    [
        raises, speaks_of_python, names_no_file, gives_no_reason, is_long_winded, breaks_the_line,
        warns, fills_memory, leaves_a_file, lets_infinity_in, takes_long,
    ],
    ids=lambda reader: reader.__name__,
)  # fmt: skip
def test_the_judge_notices(folder: Path, monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    if reader is takes_long:
        monkeypatch.setattr("fuzzing.SECONDS", 0.01)
    judge = Judge(folder, "npz")
    judge.reader = reader
    assert judge.judge(mutant("npz", 0, 0)).outcome == "finding"


def troubled(path: Path) -> WeightFile:
    """Dies of mutant 2, prints at mutant 3, hangs at mutant 4."""
    known = {mutant("npz", 0, number)[""]: number for number in range(6)}
    match known.get(path.read_bytes()):
        case 2:
            os.abort()
        case 3:
            os.write(2, b"oh")
        case 4:
            time.sleep(600)
    return read(path)


def test_processes_are_watched() -> None:
    found = dict(run(Task("npz", reader=troubled, patience=3.0), count=6, processes=1))
    assert sorted(found) == list(range(6))
    assert [n for n in found if found[n].outcome == "finding"] == [2, 3, 4]
    assert "died: -6" in found[2].text
    assert "something was printed" in found[3].text
    assert "no end after" in found[4].text
