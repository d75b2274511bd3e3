"""The layers: parameters and buffers around the ops of `resnet_np.autograd`."""

from collections.abc import Iterator

import numpy as np

from resnet_np import autograd
from resnet_np.autograd import Tensor
from resnet_np.autograd.conv import PaddingArgument, as_pair
from resnet_np.kernels import Array, Pair
from resnet_np.nn.module import Module, Parameter


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> np.ndarray:
    """Normal numbers with variance 2 / fan: a ReLU halves the variance, and this restores it.

    He et al. 2015, "Delving deep into rectifiers", eq. 10.
    """
    return rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)


class Conv2d(Module):
    """A convolution with `out_channels` kernels of `size`; see `autograd.conv2d`.

    weight [R, S, C, K], He-initialised for K*R*S outputs (what torchvision's ResNet does);
    bias [K], zero, if wanted.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int | Pair,
        stride: int | Pair = 1,
        padding: PaddingArgument = 0,
        bias: bool = True,
        *,
        rng: np.random.Generator,
    ) -> None:
        self.stride, self.padding = stride, padding
        r, s = as_pair(size, "size")
        shape = (r, s, in_channels, out_channels)
        self.weight = Parameter(he_normal(rng, shape, fan=out_channels * r * s))
        self.bias = Parameter(np.zeros(out_channels, np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return autograd.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Linear(Module):
    """y = x @ weight + bias. weight [C, K] and bias [K], uniform in +-1/sqrt(C) as in PyTorch."""

    def __init__(self, in_features: int, out_features: int, *, rng: np.random.Generator) -> None:
        bound = in_features**-0.5
        weight = rng.uniform(-bound, bound, (in_features, out_features))
        self.weight = Parameter(weight.astype(np.float32))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype(np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return autograd.linear(x, self.weight, self.bias)


class BatchNorm2d(Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015).

    In training: with the batch's statistics, which are also mixed into the running ones,
    running = (1 - momentum) * running + momentum * batch. The running variance takes the unbiased
    estimate (M / (M - 1) times the biased one), as in PyTorch. In evaluation, and when frozen: with
    the running statistics, which stay as they are.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(np.ones(channels, np.float32))  # gamma
        self.bias = Parameter(np.zeros(channels, np.float32))  # beta
        self.running_mean = np.zeros(channels, np.float32)
        self.running_var = np.ones(channels, np.float32)

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """relu(normalised x + residual), both of them optional."""
        gamma, beta, mean, var = self.weight, self.bias, self.running_mean, self.running_var
        if self.frozen or not self.training:
            return autograd.fixed_batch_norm(x, gamma, beta, mean, var, self.eps, residual, relu)
        y, mean, var = autograd.batch_norm(x, gamma, beta, self.eps, residual, relu)
        count = x.size // x.shape[-1]
        self._track(self.running_mean, mean)
        self._track(self.running_var, var * (count / (count - 1)))
        return y

    def _track(self, running: Array, batch: Array) -> None:
        running *= 1 - self.momentum
        running += self.momentum * batch


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return autograd.relu(x)


class MaxPool2d(Module):
    """The largest number of each window; see `autograd.max_pool2d`."""

    def __init__(
        self, size: int | Pair, stride: int | Pair | None = None, padding: PaddingArgument = 0
    ) -> None:
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return autograd.max_pool2d(x, self.size, self.stride, self.padding)


class AvgPool2d(MaxPool2d):
    """The mean of each window; see `autograd.avg_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return autograd.avg_pool2d(x, self.size, self.stride, self.padding)


class GlobalAvgPool(Module):
    """The mean over the image: [N, H, W, C] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return autograd.global_avg_pool(x)


class GlobalMaxPool(Module):
    """The largest number of the image in each channel: [N, H, W, C] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        return x.reshape(n, h * w, c).max(axis=1)  # [N, H, W, C] -> [N, H*W, C] -> [N, C]


class Flatten(Module):
    """[N, H, W, C] -> [N, H*W*C]."""

    def forward(self, x: Tensor) -> Tensor:
        return autograd.flatten(x)


class Upsample(Module):
    """Each pixel becomes a block of `factor` pixels."""

    def __init__(self, factor: int | Pair) -> None:
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return autograd.upsample_nearest(x, self.factor)


class Dropout(Module):
    """In training, sets numbers to zero with probability `p`; see `autograd.dropout`.

    `rng` is the generator that training was seeded with, so that a run can be repeated.
    """

    def __init__(self, p: float, *, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0 or self.frozen or not self.training:
            return x
        return autograd.dropout(x, self.p, self.rng)


class Identity(Module):
    """y = x."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Sequential(Module):
    """Modules one after another, named "0", "1", ..."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x
