"""Small files that the real frameworks wrote (tests/golden/make_source_files.py), without them."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resnet_np.weights import read

sys.path.append(str(Path(__file__).parents[1]))
from imported import facts, noise, run
from parity import relative_error

FOLDER = Path(__file__).parents[1] / "golden" / "source_files"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def logits() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "logits.npz") as file:
        return dict(file)


@pytest.mark.parametrize("cell", EXPECTED)
def test_facts_and_logits(tmp_path: Path, logits: dict[str, np.ndarray], cell: str) -> None:
    with tarfile.open(FOLDER / f"{cell}.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    entry = EXPECTED[cell]
    file = read(tmp_path / "file")
    assert facts(file) == entry["facts"]
    expected = logits[entry["logits"]]
    ours = run(file, entry["network"], noise(len(expected), 64))
    for a, b in zip(ours, expected, strict=True):
        assert relative_error(a, b) <= TOLERANCE


def test_the_networks_tell_images_apart(logits: dict[str, np.ndarray]) -> None:
    """Else these logits would hide what happens in front of the last layers."""
    for name, (one, other) in logits.items():
        assert relative_error(one, other) > 0.01, name
