"""python -m resnet_np.gradcheck, with the network replaced by a narrow one."""

import os
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from refusals import assert_refused
from standins.card import FOLDER, stand_in

from resnet_np import ResNet, gradcheck
from resnet_np.autograd import gradcheck as checker
from resnet_np.command import run_command
from resnet_np.kernels import array, gpu


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradcheck, "ResNet", partial(ResNet, width=1 / 16, num_classes=3))
    monkeypatch.setattr(checker, "SAMPLES", 2)
    monkeypatch.setattr(checker, "FULL_UP_TO", 16)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gradcheck", *arguments])
    try:
        return run_command(gradcheck.main)
    except SystemExit as exit:
        assert isinstance(exit.code, int)
        return exit.code


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["--layer", "layer3.0.conv2"], ["layer3.0.conv2.weight"]),
        (["--layer", "layer4.2.bn3.bias"], ["layer4.2.bn3.bias"]),
        (["--layer", "fc", "--model", "resnet18", "--eval"], ["fc.weight", "fc.bias"]),
        (["--layer", "bn1", "--model", "resnet18", "--batch", "3"], ["bn1.weight", "bn1.bias"]),
        (["--layer", "layer4.0.conv1", "--model", "resnet50-v1"], ["layer4.0.conv1.weight"]),
    ],
)
def test_a_right_layer(
    arguments: list[str],
    parameters: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 0
    out, err = capsys.readouterr()
    for name in parameters:
        assert name in out
    assert "The gradients agree" in out
    assert err == ""


def test_a_wrong_layer_leaves_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = array.conv2d_gw
    monkeypatch.setattr(array, "conv2d_gw", lambda *a: right(*a) * 1.001)
    assert run(monkeypatch, "--layer", "layer3.0.conv2") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("FAILED: the gradient of layer3.0.conv2.weight (shape (3, 3, 16, 16)) is")
    assert err.count("\n") == 1


def test_a_layer_on_a_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same report, but for rounding, and the whole network runs there."""
    layer = ["--model", "resnet18", "--layer", "fc", "--image-size", "32"]
    assert run(monkeypatch, *layer) == 0
    expected = capsys.readouterr().out
    with stand_in() as cupy:
        assert run(monkeypatch, *layer, "--device", "gpu") == 0
        names = {launch.name for launch in cupy.standin.record.launches}
        assert {"moments", "max_pool", "im2col"} <= names
        assert cupy.standin.record.gemms
    out, err = capsys.readouterr()
    tables = [[line.split("│")[:4] for line in text.splitlines()] for text in (out, expected)]
    assert tables[0] == tables[1]  # the last column has the differences
    assert len(tables[0]) > 3
    assert err == ""


def test_a_wrong_layer_on_a_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu.linear_gw
    monkeypatch.setattr(gpu, "linear_gw", lambda *a: right(*a) * 1.001)
    layer = ["--model", "resnet18", "--layer", "fc", "--image-size", "32"]
    with stand_in():
        assert run(monkeypatch, *layer, "--device", "gpu") == 1
    assert capsys.readouterr().err.startswith("FAILED: the gradient of fc.weight (shape (32, 3))")


@pytest.mark.parametrize(
    ("circumstance", "message"),
    [("no driver", "no NVIDIA driver is installed here"), ("broken", "CuPy is not usable")],
)
def test_without_a_card(circumstance: str, message: str) -> None:
    paths = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", "resnet_np.gradcheck", "--layer", "fc", "--device", "gpu"],
        capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": paths, "CUPY_STANDIN": circumstance},
    )  # fmt: skip
    assert_refused(result, f"--device gpu: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --layer"),
        (["--layer", "layer3.9"], "--layer layer3.9: there is no such layer; layer3 has 0, 1, 2"),
        (["--layer", "nothing"], "the top has conv1, bn1, maxpool, layer1"),
        (["--layer", "pool"], "--layer pool: has no parameters"),
        (["--layer", "fc", "--model", "vgg16"], "invalid choice: 'vgg16'"),
        (["--layer", "fc", "--batch", "0"], "--batch: must be a whole number of 1 or more, not"),
        (["--layer", "fc", "--seed", "-1"], "--seed: must be a whole number of 0 or more, not"),
        (["--layer", "fc", "--image-size", "31"], "--image-size: must be a whole number of 32 or"),
        (["--layer", "layer4", "--batch", "1", "--image-size", "32"], "one value per channel"),
    ],
)
def test_bad_arguments_leave_with_2_and_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(gradcheck, "check_gradients", interrupted)
    assert run(monkeypatch, "--layer", "fc") == 130
    assert capsys.readouterr().err == "interrupted\n"
