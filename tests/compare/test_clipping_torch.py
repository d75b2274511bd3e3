"""Gradients made shorter, against PyTorch."""

import numpy as np
import pytest
import torch

from resnet_np import Tensor, optim
from resnet_np.optim import clip_gradients


@pytest.mark.parametrize("most", [0.1, 3.0, 1000.0])
def test_clip_grad_norm(most: float) -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(shape).astype("f4") for shape in ((64, 64), (7,), (3, 3, 2))]
    theirs = [torch.nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    ours = [Tensor(np.zeros_like(g), requires_grad=True) for g in gradients]
    for p, t, g in zip(ours, theirs, gradients, strict=True):
        p.grad, t.grad = g.copy(), torch.from_numpy(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(theirs, most)
    assert clip_gradients(optim.SGD(ours, lr=1), most) == pytest.approx(norm.item(), rel=1e-6)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-5)
