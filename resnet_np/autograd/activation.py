"""ReLU and dropout."""

import numpy as np

from resnet_np import kernels
from resnet_np.autograd.tensor import Op, Tensor
from resnet_np.kernels import Array, get_array_module


class ReLU(Op):
    """Saved: y, which is above zero exactly where x was."""

    def forward(self, x: Array) -> Array:
        self.saved = kernels.of(x).relu(x)
        return self.saved

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).relu_gx(gy, self.saved),)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the gradient passes where x > 0 (Nair & Hinton 2010)."""
    return ReLU()(x)


class Dropout(Op):
    """Saved: the mask."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng

    def forward(self, x: Array) -> Array:
        # Drawn on the CPU on every device, so that a seed means the same on each.
        kept = get_array_module(x).asarray(self.rng.random(x.shape) >= self.p)
        self.saved = kept.astype(x.dtype) / (1 - self.p)
        return x * self.saved

    def backward(self, gy: Array) -> tuple[Array]:
        return (gy * self.saved,)


def dropout(x: Tensor, p: float, rng: np.random.Generator) -> Tensor:
    """Each number becomes 0 with probability p, else x / (1 - p): the mean stays the same.

    Srivastava et al. 2014. For training; at test time the layer does nothing and is left out.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), not {p}")
    return Dropout(p, rng)(x)
