"""The ops against PyTorch's at the sizes of a real ResNet-50, in float32 and float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- everyone's name for it
from parity import channels_last, our_layout, relative_error, torch_layout
from torch_bridge import images_to_torch

import resnet_np as rnp
from resnet_np import Tensor
from resnet_np.kernels import Array

# Sums of a few thousand products: float32 keeps about five digits of them, float64 thirteen.
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# (pixels, channels in and out, kernel, stride): a convolution of each stage, and each kind.
CONVOLUTIONS = [(64, 3, 64, 7, 2), (14, 64, 256, 1, 1), (15, 64, 64, 3, 1), (14, 128, 128, 3, 2)]
CONVOLUTIONS += [(14, 256, 512, 1, 2), (7, 512, 512, 3, 1)]


def assert_close(ours: Array, theirs: torch.Tensor | None, dtype: Any) -> None:
    assert theirs is not None and ours.dtype == dtype
    assert relative_error(ours, channels_last(theirs.detach().numpy())) < TOLERANCE[dtype]


def leaves(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """The same random images, for us and for torch."""
    x = rng.standard_normal(shape).astype(dtype)
    return Tensor(x, requires_grad=True), images_to_torch(x).requires_grad_()


def backward(rng: np.random.Generator, y: Tensor, twin: torch.Tensor) -> None:
    """Both ways back, from the same random gradient."""
    gy = rng.standard_normal(y.shape).astype(y.dtype)
    y.backward(gy)
    twin.backward(images_to_torch(gy))


@DTYPES
@pytest.mark.parametrize("pixels, c, k, size, stride", CONVOLUTIONS)
def test_conv2d(dtype: Any, pixels: int, c: int, k: int, size: int, stride: int) -> None:
    rng = np.random.default_rng(1)
    x, tx = leaves(rng, (4, pixels, pixels, c), dtype)
    weight = rng.standard_normal((size, size, c, k)).astype(dtype)
    w = Tensor(weight, requires_grad=True)
    tw = torch.from_numpy(torch_layout(weight)).requires_grad_()
    y, ty = rnp.conv2d(x, w, None, stride, size // 2), F.conv2d(tx, tw, None, stride, size // 2)
    backward(rng, y, ty)
    assert_close(y.data, ty, dtype)
    assert_close(x.grad, tx.grad, dtype)
    assert tw.grad is not None
    assert relative_error(w.grad, our_layout(tw.grad.numpy())) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_with_shortcut_and_relu(dtype: Any, training: bool) -> None:
    rng = np.random.default_rng(2)
    x, tx = leaves(rng, (8, 14, 14, 32), dtype)
    shortcut, t_shortcut = leaves(rng, (8, 14, 14, 32), dtype)
    layer, twin = rnp.nn.BatchNorm2d(32), torch.nn.BatchNorm2d(32).to(tx.dtype)
    layer.to(dtype)
    for name, array in layer.state_dict().items():
        array[...] = rng.uniform(0.5, 1.5, 32)
        twin.state_dict()[name].copy_(torch.from_numpy(array))
    layer.train(training)
    twin.train(training)
    y, ty = layer(x, residual=shortcut, relu=True), torch.relu(twin(tx) + t_shortcut)
    backward(rng, y, ty)
    for ours, theirs in [
        (y.data, ty),
        (x.grad, tx.grad),
        (shortcut.grad, t_shortcut.grad),
        (layer.weight.grad, twin.weight.grad),
        (layer.bias.grad, twin.bias.grad),
        (layer.running_mean, twin.running_mean),
        (layer.running_var, twin.running_var),
    ]:
        assert_close(ours, theirs, dtype)


@DTYPES
def test_pooling(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for ours, theirs in [
        (lambda x: rnp.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1)),
        (
            lambda x: rnp.avg_pool2d(x, 3, 2, 1),
            lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        ),
        (lambda x: rnp.upsample_nearest(x, 2), lambda x: F.interpolate(x, scale_factor=2.0)),
    ]:
        x, tx = leaves(rng, (2, 29, 28, 16), dtype)
        y, ty = ours(x), theirs(tx)
        backward(rng, y, ty)
        assert_close(y.data, ty, dtype)
        assert_close(x.grad, tx.grad, dtype)


def test_the_first_of_equal_maxima_gets_the_gradient_in_both() -> None:
    x = np.round(np.random.default_rng(4).standard_normal((2, 9, 9, 3)))
    ours, theirs = Tensor(x, requires_grad=True), images_to_torch(x).requires_grad_()
    y, ty = rnp.max_pool2d(ours, 3, 2, 1), F.max_pool2d(theirs, 3, 2, 1)
    backward(np.random.default_rng(5), y, ty)
    assert_close(ours.grad, theirs.grad, np.float64)


@DTYPES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy(dtype: Any, smoothing: float, reduction: Any) -> None:
    rng = np.random.default_rng(6)
    logits = (5 * rng.standard_normal((32, 1000))).astype(dtype)
    targets = rng.integers(0, 1000, 32)
    targets[[3, 17]] = -1
    weights = rng.uniform(0, 2, 1000).astype(dtype)
    ours = Tensor(logits, requires_grad=True)
    theirs = torch.from_numpy(logits.copy()).requires_grad_()
    loss = rnp.cross_entropy(ours, targets, weights, smoothing, -1, reduction)
    twin = F.cross_entropy(
        theirs,
        torch.from_numpy(targets),
        torch.from_numpy(weights),
        ignore_index=-1,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    loss.backward()
    twin.backward()
    assert_close(loss.data, twin, dtype)
    assert_close(ours.grad, theirs.grad, dtype)
