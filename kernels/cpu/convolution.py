"""Convolution and linear layers, each by the way that is fastest for its shapes."""

import numpy as np

from resnet_np.kernels import NO_PADDING, Array, Padding, Pair, output_sizes
from resnet_np.kernels.cpu import conv, conv_gw, winograd, winograd_gw
from resnet_np.kernels.cpu.arrays import empty
from resnet_np.kernels.cpu.fused import PackedConv


def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """See `array.conv2d`."""
    y = empty(out, (len(x), *output_sizes(x.shape, w.shape[:2], stride, padding), w.shape[3]))
    packed = PackedConv(w, None, b, x.shape, stride, padding)
    packed.ready(np.ascontiguousarray(x), y, None, False)()
    return y


def conv2d_gx(
    gy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    residual: Array | None = None,
    out: Array | None = None,
) -> Array:
    """See `array.conv2d_gx`. With stride 1 it is the convolution of gy with the turned kernel."""
    (top, bottom), (left, right) = padding
    r, s, c, k = w.shape
    border = (r - 1 - top, r - 1 - bottom), (s - 1 - left, s - 1 - right)
    inside = min(*border[0], *border[1]) >= 0
    if inside and (m := winograd.suits(gy.shape, (r, s, k, c), stride, border)):
        gx, gy = empty(out, x_shape), np.ascontiguousarray(gy)
        u, no_bias = winograd.pack(conv.turned(w), m), conv.pack_bias(None, c)
        r = None if residual is None else np.ascontiguousarray(residual)
        winograd.ready(gy, u, no_bias, c, border, m, gx, r)()
        return gx
    return conv.conv2d_gx(gy, w, x_shape, stride, padding, residual, out)


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """See `array.conv2d_gw`."""
    m = winograd_gw.suits(gy.shape, w_shape, stride)
    if m:
        return winograd_gw.conv2d_gw(gy, x, w_shape, padding, m, out)
    return conv_gw.conv2d_gw(gy, x, w_shape, stride, padding, out)


def linear(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    """See `array.linear`: a 1x1 convolution on images of one pixel."""
    y = empty(out, (len(x), w.shape[1]))
    conv2d(x[:, None, None], w[None, None], b, (1, 1), NO_PADDING, y[:, None, None])
    return y


def linear_gx(gy: Array, w: Array, out: Array | None = None) -> Array:
    """See `array.linear_gx`."""
    gx = empty(out, (len(gy), len(w)))
    pixels, shape = gy[:, None, None], (len(gy), 1, 1, len(w))
    conv2d_gx(pixels, w[None, None], shape, (1, 1), NO_PADDING, out=gx[:, None, None])
    return gx
