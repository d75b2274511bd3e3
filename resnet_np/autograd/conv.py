"""Convolution and linear layers: the ops with weights."""

import operator
from typing import Any, Literal

from resnet_np import kernels
from resnet_np.autograd.tensor import Op, Tensor, check_tensors
from resnet_np.kernels import Array, Padding, Pair

PaddingArgument = int | tuple[int, int] | Literal["same", "valid"]


def as_pair(value: int | Pair, name: str) -> Pair:
    """A number for both directions, or (vertical, horizontal)."""
    pair = _two_integers(value)
    if pair is None or min(pair) < 1:
        raise ValueError(f"{name} must be a positive number or a pair of them, not {value!r}")
    return pair


def _two_integers(value: Any) -> Pair | None:
    """Python's integers, twice from one or from a pair of them; None if it is neither."""
    try:
        first, second = value if isinstance(value, tuple | list) else (value, value)
        return operator.index(first), operator.index(second)
    except (TypeError, ValueError):
        return None


def as_padding(
    padding: PaddingArgument, x_shape: tuple[int, ...], size: Pair, stride: Pair
) -> Padding:
    """((top, bottom), (left, right)) from a number, a (vertical, horizontal) pair or Keras' words.

    "valid" is no padding. "same" gives ceil(H / stride) outputs; an odd pixel goes to the bottom
    and to the right, as in Keras.
    """
    if padding == "valid":
        return kernels.NO_PADDING
    if padding == "same":
        vertical, horizontal = (
            max((-(-pixels // step) - 1) * step + window - pixels, 0)
            for pixels, window, step in zip(x_shape[1:3], size, stride, strict=True)
        )
        return (
            (vertical // 2, vertical - vertical // 2),
            (horizontal // 2, horizontal - horizontal // 2),
        )
    pair = _two_integers(padding)
    if pair is None or min(pair) < 0:
        raise ValueError(
            f'padding must be "same", "valid", a number or a pair of them, not {padding!r}'
        )
    return (pair[0], pair[0]), (pair[1], pair[1])


def check_window(name: str, x: Tensor, size: Pair, stride: Pair, padding: Padding) -> None:
    """A sliding window needs an NHWC input at least as large as itself."""
    if x.ndim != 4:
        raise ValueError(f"{name}: x must be [N, H, W, C], not of shape {x.shape}")
    if min(kernels.output_sizes(x.shape, size, stride, padding)) < 1:
        raise ValueError(
            f"{name}: a window of {size[0]} x {size[1]} does not fit into an input of "
            f"{x.shape[1]} x {x.shape[2]} with padding {padding}"
        )


class Conv2d(Op):
    """y = conv(x, w) + b. Saved: x (if w needs a gradient) and w (if x does)."""

    makes_gradients = True
    adds_to_gx = True
    parameters = (1, 2)

    def __init__(self, stride: Pair, padding: Padding) -> None:
        self.stride, self.padding = stride, padding

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x_shape, self.w_shape = x.shape, w.shape
        self.saved = (x if self.needs[1] else None), (w if self.needs[0] else None)
        return kernels.of(x).conv2d(x, w, b, self.stride, self.padding)

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        k, where = kernels.of(gy), (self.stride, self.padding)
        gx = None
        if self.needs[0]:
            so_far, out = self.so_far.value, self.so_far.value if self.so_far.owned else None
            gx = k.conv2d_gx(gy, w, self.x_shape, *where, residual=so_far, out=out)  # [N, H, W, C]
        gw = k.conv2d_gw(gy, x, self.w_shape, *where) if self.needs[1] else None  # [R, S, C, K]
        gb = k.bias_gb(gy) if self.needs[2] else None  # [N, P, Q, K] -> [K]
        return gx, gw, gb


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: int | Pair = 1,
    padding: PaddingArgument = 0,
) -> Tensor:
    """Slide `w` over `x`:  y[n,p,q,k] = b[k] + sum of x[n, p*stride+r, q*stride+s, c] * w[r,s,c,k].

    (A cross-correlation, as in every deep-learning library; Dumoulin & Visin 2016, section 2.)

    Parameters
    ----------
    x : [N, H, W, C]
    w : [R, S, C, K], the same dtype
    b : [K] or None
    stride : a number or (vertical, horizontal)
    padding : a number, (vertical, horizontal), "valid" or Keras' "same"

    Returns
    -------
    [N, P, Q, K] with P = floor((H + padding - R) / stride) + 1: the stem of ResNet, 7x7 with stride
    2 and padding 3, makes 112 x 112 out of 224 x 224.
    """
    check_tensors("conv2d", x, w, b)
    if w.ndim != 4 or x.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(
            f"conv2d: x must be [N, H, W, C] and w [R, S, C, K] with the same C, "
            f"not {x.shape} and {w.shape}"
        )
    _check_bias("conv2d", w, b)
    size, strides = (w.shape[0], w.shape[1]), as_pair(stride, "stride")
    borders = as_padding(padding, x.shape, size, strides)
    check_window("conv2d", x, size, strides, borders)
    return Conv2d(strides, borders)(x, w, b)


class Linear(Op):
    """y = x @ w + b. Saved: x (if w needs a gradient) and w (if x does)."""

    makes_gradients = True
    parameters = (1, 2)

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.saved = (x if self.needs[1] else None), (w if self.needs[0] else None)
        return kernels.of(x).linear(x, w, b)

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        k = kernels.of(gy)
        gx = k.linear_gx(gy, w) if self.needs[0] else None  # [N, K] @ [K, C]
        gw = k.linear_gw(gy, x) if self.needs[1] else None  # [C, N] @ [N, K]
        gb = k.bias_gb(gy) if self.needs[2] else None  # [N, K] -> [K]
        return gx, gw, gb


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """y = x @ w + b:  [N, C] @ [C, K] + [K] -> [N, K]."""
    check_tensors("linear", x, w, b)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(
            f"linear: x must be [N, C] and w [C, K] with the same C, not {x.shape} and {w.shape}"
        )
    _check_bias("linear", w, b)
    return Linear()(x, w, b)


def _check_bias(name: str, w: Tensor, b: Tensor | None) -> None:
    """A bias has one number for each output channel of the weight."""
    if b is not None and b.shape != w.shape[-1:]:
        raise ValueError(f"{name}: b must be of shape {w.shape[-1:]}, not {b.shape}")
