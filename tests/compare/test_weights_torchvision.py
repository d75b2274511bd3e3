"""torchvision's ResNets, saved from PyTorch as .safetensors and .npz, read here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision_shim import torchvision

from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import read


def randomised(depth: int) -> torch.nn.Module:
    """A network in which statistics and affine parameters are not all 0 and 1."""
    torch.manual_seed(depth)
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
    return model


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_tensor(tmp_path: Path, depth: int) -> None:
    state = randomised(depth).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    file = read(tmp_path / "a.safetensors")
    assert (file.depth, file.variant, file.bn_eps, file.conv_bias) == (depth, None, 1e-5, False)
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert set(file.left_out) == counters
    assert set(file.arrays) == set(state) - counters
    for name, array in file.arrays.items():
        tensor = state[name]
        axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim]
        np.testing.assert_array_equal(array, tensor.permute(axes).numpy(), err_msg=name)
    report = load_weights(ResNet(depth, num_classes=10), file)
    assert set(report.used) == set(file.arrays)
    assert not report.missing


def test_npz(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in randomised(50).state_dict().items()}
    np.savez(tmp_path / "a.npz", **state)
    file = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(
        file.arrays["conv1.weight"], state["conv1.weight"].transpose(2, 3, 1, 0)
    )
    assert len(file.left_out) == 53
