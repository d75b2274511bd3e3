"""The ladder's rungs compute the same convolution, and its chapter shows code that runs."""

import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import _ladder  # noqa: E402
import conv_throughput  # noqa: E402

from resnet_np.kernels import NO_PADDING, reference  # noqa: E402
from resnet_np.kernels.cpu.microkernel import UNROLL  # noqa: E402
from resnet_np.kernels.cpu.target import TILE, features  # noqa: E402

compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="about compiled code")
CHAPTER = (ROOT / "docs" / "fast_convolution.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)


@pytest.mark.parametrize(
    ("pixels", "c", "k", "size", "count"), [(5, 16, 80, 3, 8), (15, 3, 10, 3, 7), (3, 7, 65, 4, 7)]
)
def test_each_rung_equals_its_twin(pixels: int, c: int, k: int, size: int, count: int) -> None:
    rungs = _ladder.make_rungs(_ladder.make_layer(pixels, c, k, size))
    assert len(rungs) == count  # Winograd's only where it can compute the layer
    for rung in rungs:
        rung.y[...] = np.nan
        rung.call()
        assert rung.y.shape == rung.layer.output(1)
        assert rung.error() < 2e-5, rung.name


def test_the_twin_is_the_definition() -> None:
    layer = _ladder.make_layer(4, 3, 5, 3)
    first = _ladder.make_rungs(layer)[1]
    x, w = first.call.args[:2]  # type: ignore[attr-defined]
    y = reference.conv2d(x, w, None, (1, 1), NO_PADDING)
    np.testing.assert_allclose(first.expected, y, rtol=0, atol=1e-5)


@compiled
def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(_ladder, "TILE_ROWS", (2, 4))
    layers = [_ladder.make_layer(4, 16, 16, 1), _ladder.make_layer(4, 16, 16, 3)]
    monkeypatch.setattr(conv_throughput, "distinct_convolutions", lambda: layers)
    plot, record = tmp_path / "roofline.png", tmp_path / "ladder.json"
    words = f"x --ladder --layer 6 16 32 3 --repetitions 1 --plot {plot} --json {record}"
    monkeypatch.setattr(sys, "argv", words.split())
    conv_throughput.main()
    shown = capsys.readouterr().out
    for text in ("1 loops in Python", "2x2 16>32 3x3", "7 Winograd", "6x6 16>32 3x3", "| 4 x "):
        assert text in shown
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert '"copy_gbs"' in record.read_text()


def test_the_chapter_shows_the_ladder_as_it_is() -> None:
    source = (ROOT / "benchmarks" / "ladder.py").read_text()
    shown = [block for block in BLOCKS if re.match(r"def |@njit", block)]
    assert len(shown) >= 7
    for block in shown:
        assert block in source


@compiled
def test_the_chapters_code_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCKS)],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if {"fma", "avx2"} <= features():  # the micro-kernel's loop, printed: nothing but what it needs
        sums = TILE.rows * TILE.vectors
        assert done.stdout.count("vfmadd") == UNROLL * sums
        loads = UNROLL * (TILE.rows + TILE.vectors)
        assert done.stdout.count("vbroadcastss") + done.stdout.count("vmovups") == loads
