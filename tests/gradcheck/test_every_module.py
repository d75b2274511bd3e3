"""Every layer, every block, and whole small networks."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import devices
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_np import ResNet, check_gradients, nn
from resnet_np.autograd import gradcheck
from resnet_np.device import to_device
from resnet_np.models import resnet
from resnet_np.nn import Module, layers

Make = Callable[[np.random.Generator, int, Any], Module]

# name -> the layer, from a generator, a number of channels and a window (size, stride, padding)
LAYERS: dict[str, Make] = {
    "Conv2d": lambda rng, c, window: nn.Conv2d(c, 3, *window, rng=rng),
    "Linear": lambda rng, c, window: nn.Sequential(nn.Flatten(), nn.Linear(36 * c, 3, rng=rng)),
    "BatchNorm2d": lambda rng, c, window: nn.BatchNorm2d(c),
    "ReLU": lambda rng, c, window: nn.ReLU(),
    "MaxPool2d": lambda rng, c, window: nn.MaxPool2d(*window),
    "AvgPool2d": lambda rng, c, window: nn.AvgPool2d(*window),
    "GlobalAvgPool": lambda rng, c, window: nn.GlobalAvgPool(),
    "GlobalMaxPool": lambda rng, c, window: nn.GlobalMaxPool(),
    "Flatten": lambda rng, c, window: nn.Flatten(),
    "Upsample": lambda rng, c, window: nn.Upsample(window[1]),
    "Dropout": lambda rng, c, window: nn.Dropout(0.0, rng=rng),
    "Identity": lambda rng, c, window: nn.Sequential(nn.Identity(), nn.ReLU()),
    "Sequential": lambda rng, c, window: nn.Sequential(
        nn.Conv2d(c, 2, 3, bias=False, rng=rng), nn.BatchNorm2d(2), nn.ReLU()
    ),
}
BLOCKS: dict[str, Make] = {
    "BasicBlock": lambda rng, c, window: resnet.BasicBlock(
        2 * c, 3, window[1], resnet._Recipe("v1.5", c == 2, 1e-5, 0.1, 0)
    ),
    "Bottleneck": lambda rng, c, window: resnet.Bottleneck(
        2 * c, 2, window[1], resnet._Recipe("v1", False, 1e-5, 0.1, 0)
    ),
}


def names_of(module: Any) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Module)
        and value.__module__ == module.__name__
    }


def test_every_module_has_a_check() -> None:
    assert set(LAYERS) == names_of(layers)
    assert set(BLOCKS) | {"ResNet"} == names_of(resnet)


WINDOWS = [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 1, "same")]


@devices
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=3)
@given(st.integers(1, 3), st.sampled_from(WINDOWS), st.booleans(), st.integers(0, 2**32 - 1))
def test_layer(name: str, device: str, c: int, window: Any, training: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    module = LAYERS[name](rng, c, window).train(training).to(device)
    checked = check_gradients(module, [to_device(rng.standard_normal((2, 6, 6, c)), device)])
    assert len(checked) == 1 + len(module.parameters())


@devices
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_block(name: str, stride: int, training: bool, device: str) -> None:
    rng = np.random.default_rng(0)
    module = BLOCKS[name](rng, 1, (3, stride, 1)).train(training).to(device)
    check_gradients(module, [to_device(rng.standard_normal((2, 4, 4, 2)), device)])


@pytest.fixture
def few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network has 62 to 161 parameters: one direction and one element each."""
    monkeypatch.setattr(gradcheck, "FULL_UP_TO", 2)
    monkeypatch.setattr(gradcheck, "DIRECTIONS", 1)
    monkeypatch.setattr(gradcheck, "SAMPLES", 1)
    monkeypatch.setattr(gradcheck, "SPARE", 12)


@pytest.mark.usefixtures("few_comparisons")
@devices
@pytest.mark.parametrize(
    ("config", "training"),
    [
        ({"depth": 18}, True),
        ({"depth": 18, "pooling": "max"}, False),
        ({"depth": 50}, True),
        ({"depth": 50, "variant": "v1", "conv_bias": True, "bn_eps": 1e-3}, False),
        ({"depth": 18, "head": (4,)}, True),
    ],
    ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else "",
)
def test_whole_network(config: dict[str, Any], training: bool, device: str) -> None:
    model = ResNet(**config, width=1 / 16, num_classes=3).train(training).to(device)
    x = np.random.default_rng(0).standard_normal((2, 48, 48, 3))
    checked = check_gradients(model, [to_device(x, device)])
    assert len(checked) == 1 + len(model.parameters())


@pytest.mark.usefixtures("few_comparisons")
def test_a_frozen_trunk_leaves_the_rest_to_check() -> None:
    model = ResNet(18, width=1 / 16, num_classes=3)
    model.freeze_before("layer4")
    x = np.random.default_rng(0).standard_normal((4, 32, 32, 3))
    checked = [line.name for line in check_gradients(model, [x])]
    assert checked[0] == "input 0", "the gradient flows through what is frozen"
    assert {name.split(".")[0] for name in checked[1:]} == {"layer4", "fc"}
