"""Carry images, weights and gradients between PyTorch and resnet_np."""

import sys
from pathlib import Path

import numpy as np
import torch

from resnet_np.nn import Module

sys.path.insert(0, str(Path(__file__).parents[1]))
from parity import channels_first, our_layout, torch_layout


def from_torch(twin: torch.nn.Module) -> dict[str, np.ndarray]:
    """Parameters and running statistics of a torch network under our names, in our layout."""
    return {
        name: our_layout(value.detach().numpy()).copy()
        for name, value in twin.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def gradients_from_torch(twin: torch.nn.Module) -> dict[str, np.ndarray]:
    """The gradient of each parameter that has one, in our layout."""
    return {
        name: our_layout(p.grad.numpy())
        for name, p in twin.named_parameters()
        if p.grad is not None
    }


def copy_to_torch(model: Module, twin: torch.nn.Module) -> None:
    """Give the torch network our network's weights and running statistics."""
    state = {
        name: torch.from_numpy(torch_layout(array).copy())
        for name, array in model.state_dict().items()
    }
    wrong = twin.load_state_dict(state, strict=False)
    unfilled = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
    if unfilled or wrong.unexpected_keys:
        raise ValueError(f"unfilled: {unfilled}, unexpected: {wrong.unexpected_keys}")


def images_to_torch(images: np.ndarray) -> torch.Tensor:
    """[N, H, W, C] -> [N, C, H, W]."""
    return torch.from_numpy(channels_first(images))
