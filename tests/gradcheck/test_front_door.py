"""python -m resnet_np.gradcheck, with the network replaced by a narrow one."""

import sys
from functools import partial
from typing import Any

import pytest

from resnet_np import ResNet, gradcheck
from resnet_np.autograd import gradcheck as checker
from resnet_np.command import run_command
from resnet_np.kernels import array


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
