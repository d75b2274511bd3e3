"""What the convolution benchmark measures is what ResNet-50 computes."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from _engines import PASSES, Convolution, ResNetNp  # noqa: E402
from conv_throughput import distinct_convolutions, measure, network_totals  # noqa: E402


def test_the_convolutions_are_those_of_resnet50() -> None:
    found = distinct_convolutions()
    assert sum(found.values()) == 53
    # 4.089 GMAC are published for the whole network; the head has 2048 * 1000 of them.
    gmac = sum(conv.gflop(batch=1) * count for conv, count in found.items()) / 2
    assert gmac + 2048e3 / 1e9 == pytest.approx(4.089, abs=5e-4)
    assert str(next(iter(found))) == "224x224 3>64 7x7/2"


def test_passes_have_the_right_shapes_and_rates() -> None:
    conv = Convolution((8, 8, 4), (3, 3, 4, 6), (2, 2), ((1, 1), (1, 1)))
    calls = ResNetNp("cpu", 1).convolution(conv, batch=2)
    shapes = [calls[which]().shape for which in PASSES]
    assert shapes == [(2, 4, 4, 6), (2, 8, 8, 4), (3, 3, 4, 6)]
    assert conv.gflop(batch=2) == pytest.approx(2e-9 * 2 * 4 * 4 * 6 * 3 * 3 * 4)
    rows = [row | {"count": 3} for row in measure(conv, 2, "cpu", ["resnet_np"], repetitions=1)]
    for row in rows:
        own = row["resnet_np"]
        assert own["gflops"] == pytest.approx(row["gflop"] / (own["ms"] / 1e3))
        assert own["share"] == pytest.approx(own["gflops"] / row["gemm_gflops"])
    total = network_totals(rows, ["resnet_np"])[0]
    assert total["count"] == 3
    assert total["resnet_np"]["ms"] == pytest.approx(3 * rows[0]["resnet_np"]["ms"])


def test_a_wrong_argument_is_one_line_and_status_2() -> None:
    command = [sys.executable, str(BENCHMARKS / "conv_throughput.py"), "--batch", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --batch and --repetitions must be 1 or more\n"
