"""Ten steps of each optimizer against PyTorch's, from the same parameters and gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from parity import relative_error

from resnet_np import optim
from resnet_np.nn import Parameter

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("name, options", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ten_steps_in_two_groups(name: str, options: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype(dtype) for shape in [(3, 3, 4, 5), (20, 7), (7,)]]
    ours = [Parameter(array.copy()) for array in start]
    theirs = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in start]
    optimizer = getattr(optim, name)(_groups(ours), **options)
    twin = getattr(torch.optim, name)(_groups(theirs), **options)
    for step in range(10):
        for p, q in zip(ours, theirs, strict=True):
            # The last one gets no gradient in the first steps: its own step count starts late.
            absent = p is ours[-1] and step < 3
            p.grad = None if absent else rng.standard_normal(p.shape).astype(dtype)
            q.grad = None if absent else torch.from_numpy(p.grad)
        optimizer.step()
        twin.step()
        for p, q in zip(ours, theirs, strict=True):
            assert relative_error(p.data, q.detach().numpy()) < 1e-6


def _groups(parameters: list[Any]) -> list[dict[str, Any]]:
    return [
        {"params": parameters[:1]},
        {"params": parameters[1:], "lr": 0.003, "weight_decay": 0.02},
    ]
