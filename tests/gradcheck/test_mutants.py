"""Broken backward passes: the checker must catch every one of them.

Each mutant replaces one kernel by a version with one plausible mistake.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_np import GradientError, ResNet, autograd, check_gradients
from resnet_np.autograd import Tensor, gradcheck
from resnet_np.kernels import array

Kernel = Callable[..., Any]
RNG = np.random.default_rng(1)
RIGHT = {name: getattr(array, name) for name in vars(array)}  # the kernels as they are


def one_channel_off(g: Any) -> Any:
    """The last channel is 5 % too large."""
    return g * np.where(np.arange(g.shape[-1]) == g.shape[-1] - 1, 1.05, 1.0)


def scaled(kernel: str, factor: float) -> Kernel:
    return lambda *arguments, **more: RIGHT[kernel](*arguments, **more) * factor


# --- batch norm ----------------------------------------------------------------------------------


def batch_norm_gx(formula: Callable[..., Any]) -> Kernel:
    """batch_norm_g with another gx, from (g, xhat, gamma, std, M, gbeta, ggamma)."""

    def mutant(*arguments: Any, out: Any) -> Any:
        _, x, _, gamma, mean, var, eps, _, relu = arguments
        _, ggamma, gbeta, g = RIGHT["batch_norm_g"](*arguments[:-2], True, relu)
        std = np.sqrt(var + eps)
        m = x.size // x.shape[-1]
        return formula(g, (x - mean) / std, gamma, std, m, gbeta, ggamma), ggamma, gbeta, g

    return mutant


BATCH_NORM = {
    "zero": batch_norm_gx(lambda g, xhat, gamma, std, m, gb, gg: np.zeros_like(g)),
    "x100": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: 100 * gamma / std * (g - gb / m - xhat * gg / m)
    ),
    "no mean term": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: gamma / std * (g - xhat * gg / m)
    ),
    "no x_hat term": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: gamma / std * (g - gb / m)
    ),
    "gamma forgotten": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: (g - gb / m - xhat * gg / m) / std
    ),
    "n-1 in the mean term": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: gamma / std * (g - gb / (m - 1) - xhat * gg / m)
    ),
    "n-1 in the x_hat term": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: gamma / std * (g - gb / m - xhat * gg / (m - 1))
    ),
    "x1.001": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: 1.001 * gamma / std * (g - gb / m - xhat * gg / m)
    ),
    "one channel +5 %": batch_norm_gx(
        lambda g, xhat, gamma, std, m, gb, gg: one_channel_off(
            gamma / std * (g - gb / m - xhat * gg / m)
        )
    ),
    "ggamma and gbeta exchanged": lambda *a, out: (
        lambda gx, ggamma, gbeta, g: (gx, gbeta, ggamma, g)
    )(*RIGHT["batch_norm_g"](*a)),
    "the ReLU's mask forgotten": lambda *a, out: RIGHT["batch_norm_g"](*a[:-1], False),
    "the residual's mask forgotten": lambda *a, out: (*RIGHT["batch_norm_g"](*a)[:3], a[0]),
}


def fixed(formula: Callable[..., Any]) -> Kernel:
    """fixed_batch_norm_g with another gx, from (g, xhat, gamma, std)."""

    def mutant(*arguments: Any) -> Any:
        _, x, _, gamma, mean, var, eps, _, relu = arguments
        _, ggamma, gbeta, g = RIGHT["fixed_batch_norm_g"](*arguments[:-2], True, relu)
        std = np.sqrt(var + eps)
        return formula(g, (x - mean) / std, gamma, std), ggamma, gbeta, g

    return mutant


FIXED_BATCH_NORM = {
    "zero": fixed(lambda g, xhat, gamma, std: np.zeros_like(g)),
    "gamma forgotten": fixed(lambda g, xhat, gamma, std: g / std),
    "divided by the variance": fixed(lambda g, xhat, gamma, std: gamma * g / std**2),
    "the mean term of batch statistics": fixed(
        lambda g, xhat, gamma, std: gamma / std * (g - g.mean(axis=(0, 1, 2)))
    ),
    "x1.001": fixed(lambda g, xhat, gamma, std: 1.001 * gamma * g / std),
    "one channel +5 %": fixed(lambda g, xhat, gamma, std: one_channel_off(gamma * g / std)),
}


# --- convolution ---------------------------------------------------------------------------------


def conv_gx_of_flipped_kernel(gy: Any, w: Any, *where: Any, **more: Any) -> Any:
    return RIGHT["conv2d_gx"](gy, w[::-1, ::-1], *where, **more)


def conv_gx_without_last_row(*arguments: Any, **more: Any) -> Any:
    gx = RIGHT["conv2d_gx"](*arguments, **more)
    gx[:, -1] = 0
    return gx


def conv_gx_alone(*arguments: Any, residual: Any, out: Any) -> Any:
    return RIGHT["conv2d_gx"](*arguments)


def conv_gw_of_first_image(gy: Any, x: Any, *where: Any) -> Any:
    return RIGHT["conv2d_gw"](gy[:1], x[:1], *where)


def conv_gw_with_padding_exchanged(gy: Any, x: Any, shape: Any, stride: Any, padding: Any) -> Any:
    return RIGHT["conv2d_gw"](gy, x, shape, stride, tuple((b, a) for a, b in padding))


CONV: dict[str, tuple[str, Kernel]] = {
    "gx of the flipped kernel": ("conv2d_gx", conv_gx_of_flipped_kernel),
    "gx without the last row": ("conv2d_gx", conv_gx_without_last_row),
    "gx x1.001": ("conv2d_gx", scaled("conv2d_gx", 1.001)),
    "gw of the first image": ("conv2d_gw", conv_gw_of_first_image),
    "gw with top and bottom exchanged": ("conv2d_gw", conv_gw_with_padding_exchanged),
    "gw one channel +5 %": ("conv2d_gw", lambda *a: one_channel_off(RIGHT["conv2d_gw"](*a))),
    "gb as a mean": ("bias_gb", lambda gy: gy.mean(axis=(0, 1, 2))),
}


# --- max pooling ---------------------------------------------------------------------------------


def pool_overlaps_overwrite(
    gy: Any, index: Any, x_shape: Any, size: Any, stride: Any, padding: Any
) -> Any:
    gx = np.zeros(x_shape)
    for n, p, q, c in np.ndindex(gy.shape):
        r, s = divmod(int(index[n, p, q, c]), size[1])
        gx[n, p * stride[0] + r, q * stride[1] + s, c] = gy[n, p, q, c]
    return gx


def pool_transposed_tap(
    gy: Any, index: Any, x_shape: Any, size: Any, stride: Any, padding: Any
) -> Any:
    transposed = index % size[1] * size[0] + index // size[1]
    return RIGHT["max_pool_gx"](gy, transposed, x_shape, size, stride, padding)


def pool_shared_by_the_window(
    gy: Any, index: Any, x_shape: Any, size: Any, stride: Any, padding: Any
) -> Any:
    return RIGHT["avg_pool_gx"](gy, x_shape, size, stride, padding)


MAX_POOL = {
    "overlaps overwrite": pool_overlaps_overwrite,
    "row and column of the tap exchanged": pool_transposed_tap,
    "shared by the whole window": pool_shared_by_the_window,
    "x1.001": scaled("max_pool_gx", 1.001),
}


# --- softmax cross-entropy -----------------------------------------------------------------------

CROSS_ENTROPY = {
    "zero": lambda gy, p, t: np.zeros_like(p),
    "the target forgotten": lambda gy, p, t: gy[:, None] * p * t.sum(axis=1, keepdims=True),
    "the class weights forgotten in p": lambda gy, p, t: gy[:, None] * (p - t),
    "gy forgotten": lambda gy, p, t: p * t.sum(axis=1, keepdims=True) - t,
    "x1.001": scaled("softmax_cross_entropy_gx", 1.001),
    "one class +5 %": lambda *a: one_channel_off(RIGHT["softmax_cross_entropy_gx"](*a)),
}


# --- the checks ----------------------------------------------------------------------------------

X = RNG.standard_normal((2, 4, 4, 3))
C = [RNG.uniform(0.5, 1.5, 3), RNG.standard_normal(3)]
RESIDUAL = RNG.standard_normal(X.shape)
MEAN, VAR = RNG.standard_normal(3), RNG.uniform(0.5, 2, 3)
W, B = RNG.standard_normal((2, 3, 3, 2)), RNG.standard_normal(2)
TARGETS, WEIGHTS = np.array([0, 2, 1, 1]), np.array([0.5, 1.0, 2.0])


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, residual: Tensor) -> Tensor:
    return autograd.batch_norm(x, gamma, beta, residual=residual, relu=True)[0]


def fixed_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, residual: Tensor) -> Tensor:
    return autograd.fixed_batch_norm(x, gamma, beta, MEAN, VAR, residual=residual, relu=True)


OPS: dict[str, tuple[Callable[..., Tensor], list[Any]]] = {
    "batch_norm": (batch_norm, [X, *C, RESIDUAL]),
    "batch_norm alone": (lambda *t: autograd.batch_norm(*t)[0], [X, *C]),
    "fixed_batch_norm": (fixed_batch_norm, [X, *C, RESIDUAL]),
    "conv2d": (lambda x, w, b: autograd.conv2d(x, w, b, (2, 1), "same"), [X[:, :3], W, B]),
    "max_pool2d": (lambda x: autograd.max_pool2d(x, (3, 2), 1), [X]),
    "conv2d twice": (lambda *t: autograd.conv2d(*t) + autograd.conv2d(*t), [X, W, B]),
    "cross_entropy": (lambda x: autograd.cross_entropy(x, TARGETS, WEIGHTS), [X[0, 0]]),
}

MUTANTS = [
    *(("batch_norm", "batch_norm_g", name, m) for name, m in BATCH_NORM.items()),
    *(
        ("batch_norm alone", "batch_norm_g", name, m)
        for name, m in BATCH_NORM.items()
        if "mask" not in name
    ),
    *(("fixed_batch_norm", "fixed_batch_norm_g", name, m) for name, m in FIXED_BATCH_NORM.items()),
    *(("conv2d", kernel, name, m) for name, (kernel, m) in CONV.items()),
    ("conv2d twice", "conv2d_gx", "the gradient so far forgotten", conv_gx_alone),
    *(("max_pool2d", "max_pool_gx", name, m) for name, m in MAX_POOL.items()),
    *(("cross_entropy", "softmax_cross_entropy_gx", name, m) for name, m in CROSS_ENTROPY.items()),
]


@pytest.mark.parametrize(
    ("op", "kernel", "mutant"),
    [pytest.param(op, kernel, m, id=f"{op}: {name}") for op, kernel, name, m in MUTANTS],
)
def test_mutant_is_caught(
    op: str, kernel: str, mutant: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, inputs = OPS[op]
    check_gradients(f, inputs)
    monkeypatch.setattr(array, kernel, mutant)
    with pytest.raises(GradientError, match=r"is wrong at element|is exactly zero"):
        check_gradients(f, inputs)


@pytest.mark.parametrize("name", ["x1.001", "no mean term", "one channel +5 %"])
def test_batch_norm_mutant_is_caught_in_a_large_input(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,400 elements: along directions, and by sample."""
    x = RNG.standard_normal((4, 10, 10, 6))
    inputs = [x, RNG.uniform(0.5, 1.5, 6), RNG.standard_normal(6)]
    monkeypatch.setattr(array, "batch_norm_g", BATCH_NORM[name])
    with pytest.raises(GradientError, match=r"input 0 .* is wrong at element"):
        check_gradients(lambda *t: autograd.batch_norm(*t)[0], inputs)


@pytest.mark.parametrize("name", ["x1.001", "one channel +5 %"])
def test_mutant_is_caught_inside_a_network_among_its_kinks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the batch norm of layer2.0.bn1 is broken: what is in front of it must look wrong."""
    calls = 0

    def third_from_the_end(*arguments: Any, out: Any) -> Any:
        nonlocal calls
        calls += 1
        kernel = BATCH_NORM[name] if calls % 20 == 3 else RIGHT["batch_norm_g"]
        return kernel(*arguments, out=out)

    monkeypatch.setattr(array, "batch_norm_g", third_from_the_end)
    monkeypatch.setattr(gradcheck, "SAMPLES", 4)
    model = ResNet(18, width=1 / 16, num_classes=3)
    x = RNG.standard_normal((2, 48, 48, 3))
    with pytest.raises(GradientError, match=r"conv1.weight \(shape .*is wrong"):
        check_gradients(model, [x], only=["conv1.weight"])
    monkeypatch.setattr(array, "batch_norm_g", RIGHT["batch_norm_g"])
    check_gradients(model, [x], only=["conv1.weight"])
