"""Whole networks against torchvision's, and against v1 networks built in torch.nn."""

from typing import Any

import numpy as np
import pytest
import torch
from parity import relative_error
from torch_bridge import copy_to_torch, from_torch, gradients_from_torch, images_to_torch
from torch_resnet import TorchResNet
from torchvision_shim import torchvision

import resnet_np as rnp
from resnet_np import ResNet, Tensor

IMAGES = np.random.default_rng(0).standard_normal((2, 64, 64, 3))


def randomise(model: ResNet) -> None:
    """Distinct values everywhere: zero gammas and untouched statistics would hide mistakes."""
    rng = np.random.default_rng(1)
    for name, array in model.state_dict().items():
        if array.ndim == 1:
            positive = name.endswith(("running_var", "weight"))
            drawn = rng.uniform(0.5, 1.5, array.shape)
            array[...] = drawn if positive else 0.1 * rng.standard_normal(array.shape)


def assert_same_logits(model: ResNet, twin: torch.nn.Module) -> None:
    images = IMAGES.astype(np.float32)
    randomise(model)
    copy_to_torch(model, twin)
    with rnp.no_grad(), torch.no_grad():
        ours = model.eval()(Tensor(images)).data
        theirs = twin.eval()(images_to_torch(images)).numpy()
    assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_logits_of_torchvision(depth: int) -> None:
    assert_same_logits(ResNet(depth), getattr(torchvision.models, f"resnet{depth}")())


def test_names_and_order_are_torchvisions() -> None:
    twin = torchvision.models.resnet50()
    names = [name for name, _ in ResNet(50).named_parameters()]
    assert names == [name for name, _ in twin.named_parameters()]
    assert {n: a.shape for n, a in from_torch(twin).items()} == {
        n: a.shape for n, a in ResNet(50).state_dict().items()
    }


def test_our_torch_network_is_torchvisions() -> None:
    """What the v1 tests and the golden files rest on."""
    twin, published = TorchResNet(50), torchvision.models.resnet50()
    published.load_state_dict(twin.state_dict())
    images = images_to_torch(IMAGES.astype(np.float32))
    with torch.no_grad():
        assert torch.allclose(twin.eval()(images), published.eval()(images), atol=1e-5)


@pytest.mark.parametrize("bias, eps", [(False, 1e-5), (True, 1.001e-5), (True, 1e-3)])
def test_logits_of_v1(bias: bool, eps: float) -> None:
    model = ResNet(50, variant="v1", conv_bias=bias, bn_eps=eps)
    assert_same_logits(model, TorchResNet(50, "v1", conv_bias=bias, bn_eps=eps))


def test_v1_and_v15_are_told_apart() -> None:
    with pytest.raises(AssertionError):
        assert_same_logits(ResNet(50, variant="v1"), TorchResNet(50, "v1.5"))


@pytest.mark.parametrize("depth, variant, bias", [(18, "v1.5", False), (50, "v1", True)])
@pytest.mark.parametrize("training", [True, False])
def test_every_gradient(depth: int, variant: Any, bias: bool, training: bool) -> None:
    model = ResNet(depth, variant=variant, width=0.25, conv_bias=bias, num_classes=10)
    twin = TorchResNet(depth, variant, 10, 0.25, bias).double()
    model.to(np.float64)
    randomise(model)
    copy_to_torch(model, twin)
    targets = np.array([3, 7])
    loss = rnp.cross_entropy(model.train(training)(Tensor(IMAGES)), targets)
    expected = torch.nn.functional.cross_entropy(
        twin.train(training)(images_to_torch(IMAGES)), torch.from_numpy(targets)
    )
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = gradients_from_torch(twin)
    largest = max(float(np.abs(g).max()) for g in gradients.values())
    for name, p in model.named_parameters():
        assert p.grad is not None
        if bias and training and float(np.abs(gradients[name]).max()) < 1e-10 * largest:
            # A bias in front of a batch norm in training has the gradient zero, but for rounding.
            assert name.endswith("bias") and float(np.abs(p.grad).max()) < 1e-10 * largest
            continue
        assert relative_error(p.grad, gradients[name]) < 1e-8, name
    for name, array in from_torch(twin).items():
        assert relative_error(model.state_dict()[name], array) < 1e-8, name
