"""The rungs of docs/fast_convolution.md: one convolution, written seven times, each time faster.

All take the same arrays: x [N, H, W, C] with its border of zeros already there, w [R, S, C, K] and
the result y [N, P, Q, K]; the stride is 1. From rung 5 on the weights come *packed*: brought into
the order in which they are read, once, as a network does before its first image. All run on one
core.

`python benchmarks/conv_throughput.py --ladder` measures them.
"""

from typing import Any

import numpy as np
from numba import njit

from resnet_np.kernels import NO_PADDING, Array, array
from resnet_np.kernels.cpu import conv, winograd
from resnet_np.kernels.cpu.arrays import aligned
from resnet_np.kernels.cpu.microkernel import tile
from resnet_np.kernels.cpu.tasks import worker_count

PIXELS, CHANNELS = 14, 64  # of a block on rung 4: 3.5 KiB of sums


def loops(x, w, y):  # type: ignore[no-untyped-def]
    """Rung 1: the definition, one product after the other."""
    for n in range(y.shape[0]):
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                for k in range(y.shape[3]):
                    total = 0.0
                    for r in range(w.shape[0]):
                        for s in range(w.shape[1]):
                            for c in range(w.shape[2]):
                                total += x[n, p + r, q + s, c] * w[r, s, c, k]
                    y[n, p, q, k] = total


compiled_loops = njit(loops)  # Rung 2: the same loops, as machine code


def matrix_product(x: Array, w: Array, y: Array) -> None:
    """Rung 3: each output pixel's receptive field as a row; rows times weights, by the BLAS."""
    r, s, c, k = w.shape
    rows = array.im2col(x, (r, s), (1, 1))  # [N*P*Q, R*S*C]
    np.matmul(rows, w.reshape(r * s * c, k), out=y.reshape(-1, k))


@njit(fastmath={"contract"})  # a * b + c may be one instruction
def blocked(x, w, y):  # type: ignore[no-untyped-def]
    """Rung 4: PIXELS x CHANNELS sums at a time, and the loop over channels innermost."""
    images, height, width, outputs = y.shape
    sums = np.empty((PIXELS, CHANNELS), np.float32)
    for k0 in range(0, outputs, CHANNELS):
        for n in range(images):
            for p in range(height):
                for q0 in range(0, width, PIXELS):
                    pixels = min(PIXELS, width - q0)
                    sums[:] = 0
                    for r in range(w.shape[0]):
                        for s in range(w.shape[1]):
                            for c in range(w.shape[2]):
                                weights = w[r, s, c, k0 : k0 + CHANNELS]
                                for i in range(pixels):
                                    number, row = x[n, p + r, q0 + i + s, c], sums[i]
                                    for k in range(len(weights)):
                                        row[k] += number * weights[k]
                    block = sums[:pixels, : outputs - k0]
                    y[n, p, q0 : q0 + pixels, k0 : k0 + CHANNELS] = block


def micro_kernel(
    x: Array,
    packed: Array,
    y: Array,
    bias: Array | None = None,
    shortcut: Array | None = None,
    relu: bool = False,
) -> None:
    """Rung 5: tiles of 6 pixels x 16 channels whose sums never leave the registers.

    packed : `conv.pack_weights(w)`
    """
    _, p, q, k = y.shape
    places = 0, p * q * k, q * k, k
    where = packed.shape[1:3], (1, 1), NO_PADDING, (p, q), places
    grid = conv.conv_grid(x.shape, *where, len(packed), worker_count())
    conv.ready(grid, x, packed, conv.pack_bias(bias, k), k, y, shortcut, relu)()


def in_passes(x: Array, packed: Array, y: Array, norm: tuple[Array, ...], shortcut: Array) -> None:
    """Rung 5 with what follows it in a network: y goes through memory once for each step.

    norm : gamma, beta, mean and variance, [K] each
    """
    micro_kernel(x, packed, y)
    array.fixed_batch_norm(y, *norm, EPS, shortcut, True, out=y)


EPS = 1e-5


def fold(w: Array, norm: tuple[Array, ...]) -> tuple[Array, Array]:
    """Batch norm with fixed statistics is linear: the weights and the bias that contain it."""
    gamma, beta, mean, var = norm
    scale = gamma / np.sqrt(var + EPS)
    return w * scale, beta - mean * scale


def fused(x: Array, packed: Array, y: Array, bias: Array, shortcut: Array) -> None:
    """Rung 6: the same in one pass: bias, shortcut and ReLU while the sums are in registers.

    packed, bias : of the folded weights
    """
    micro_kernel(x, packed, y, bias, shortcut, relu=True)


def by_winograd(x: Array, packed: Array, y: Array, bias: Array, shortcut: Array) -> None:
    """Rung 7: F(4x4): 36 products where the definition has 144.

    packed : `winograd.pack(w, 4)` of the folded weights
    """
    winograd.ready(x, packed, bias, y.shape[3], NO_PADDING, 4, y, shortcut, True)()


# --- the micro-kernel by itself ------------------------------------------------------------------


def repeated(tile: Any) -> Any:
    """A loop around one tile: after the first time, all that it reads is in the L1 cache."""

    @njit
    def repeat(times, y, y_at, x, x_at, runs, run, w, b):  # type: ignore[no-untyped-def]
        for _ in range(times):
            tile(y, 0, y_at, 0, x, 0, x_at, runs, run, w, 0, 0, b, b, False, 0, y, False, False)

    return repeat


repeat_tile = repeated(tile)


def tile_arguments(rows: int, panel: int) -> tuple[Any, ...]:
    """For `repeat`: the pixels and the weights of one tile, 24 KiB together."""
    run = 6 * 1024 // (rows + panel) // 4 * 4
    y, x, w, b = (aligned((n,)) for n in (rows * panel, rows * run, run * panel, panel))
    for values in (x, w, b):
        values[...] = 0
    return y, np.arange(rows) * panel, x, np.arange(rows) * run, np.zeros(1, np.int64), run, w, b
