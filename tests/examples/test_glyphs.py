"""The invented alphabet, and the embedded weights that were trained on it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import assert_refused

from resnet_np import Tensor, no_grad, weights
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import Contract, WeightFile

EXAMPLES = Path(__file__).parents[2] / "examples"
EMBEDDED = Path(weights.__file__).with_name("glyphs_resnet50_w025.npz")


@pytest.fixture
def glyphs(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import glyphs

    yield glyphs
    sys.modules.pop("glyphs")


@pytest.fixture(scope="module")
def embedded() -> WeightFile:
    return weights.read(EMBEDDED)


def test_the_seed_decides_the_alphabet(glyphs):
    first, again, other = (glyphs.invent_alphabet(9, seed) for seed in (1, 1, 2))
    assert len(first) == 9
    assert (first.strokes == again.strokes).all() and (first.used == again.used).all()
    assert (first.strokes != other.strokes).any()


def test_every_glyph_has_strokes_within_its_square(glyphs):
    alphabet = glyphs.invent_alphabet(50, seed=0)
    assert alphabet.used.any(axis=1).all()
    assert np.abs(alphabet.strokes).max() < 1 + 1e-9
    assert not alphabet.strokes[~alphabet.used].any()


def test_the_generator_decides_what_is_written(glyphs):
    alphabet, labels = glyphs.invent_alphabet(5, seed=0), np.arange(5).repeat(4)
    first, again, other = (
        glyphs.write(alphabet, labels, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any(axis=(1, 2)).all()


def test_ink_looks_like_the_digits(glyphs):
    """As `load_digits`: 8 x 8 counts 0..16, which fill the height and leave the sides empty."""
    alphabet = glyphs.invent_alphabet(100, seed=0)
    ink = glyphs.write(alphabet, np.arange(100).repeat(5), np.random.default_rng(0))
    assert ink.shape == (500, 8, 8) and ink.dtype == np.uint8
    assert ink.min() == 0 and ink.max() == 16
    assert ink.any(axis=(1, 2)).all()
    assert ink.any(axis=2)[:, [0, 7]].mean() > 0.9
    assert ink[:, :, [0, 7]].mean() < 0.1 * ink.mean()


def test_images_are_rgb_bytes(glyphs):
    alphabet = glyphs.invent_alphabet(3, seed=0)
    images = glyphs.write_images(alphabet, np.array([0, 1, 2]), np.random.default_rng(0), 32)
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    assert images.max() > 200


def test_the_embedded_file_says_what_it_is(embedded):
    record = embedded.record
    assert record is not None and record["format"] == 1
    assert embedded.format == "checkpoint" and embedded.depth == 50
    assert embedded.variant == "v1.5" and embedded.contract == Contract.from_record(
        record["contract"]
    )
    assert record["model"]["width"] == 0.25 and record["image_size"] == 32
    assert len(embedded.classes or ()) == record["model"]["num_classes"] == 500
    assert set(record["provenance"]) >= {"script", "arguments", "date"}
    assert (EXAMPLES.parent / record["provenance"]["script"]).is_file()
    assert EMBEDDED.stat().st_size < 5e6
    assert not embedded.folded_statistics


def test_the_embedded_file_fills_its_network(embedded):
    model = ResNet(**embedded.record["model"])
    report = load_weights(model, embedded)
    assert not report.missing and not report.left_out
    assert all(array.dtype == np.float32 for array in model.state_dict().values())


def test_the_embedded_network_knows_its_glyphs(glyphs, embedded):
    """500 glyphs: a network that has learnt nothing is right once in 500 times."""
    model = ResNet(**embedded.record["model"])
    load_weights(model, embedded)
    rng = np.random.default_rng(123)
    labels = rng.integers(500, size=100)
    images = glyphs.write_images(glyphs.invent_alphabet(500, seed=0), labels, rng, 32)
    model.eval()
    with no_grad():
        logits = model(Tensor(embedded.contract.normalise(images))).data
    assert (logits.argmax(axis=1) == labels).mean() > 0.4


@pytest.mark.parametrize(
    ("program", "words", "part"),
    [
        ("glyphs.py", [], "SHEET.png"),
        ("glyphs.py", ["sheet.jpg"], "sheet.jpg: the sheet is a PNG"),
        ("glyphs.py", ["no/x.png"], "no/x.png: there is no folder no"),
        ("pretrain_glyphs.py", ["--out", "no/x.npz"], "--out no/x.npz: there is no folder no"),
        ("pretrain_glyphs.py", ["--out", "x.npz", "--steps", "0"], "--steps"),
    ],
)
def test_bad_arguments(program: str, words: list[str], part: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / program), *words]
    assert_refused(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True), part)
    assert not list(tmp_path.iterdir())
