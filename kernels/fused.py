"""A convolution made ready once, to run on many batches, with what follows it in the same pass.

    conv = fused_conv(w, scale, b, x_shape, stride, padding)
    run = conv.ready(x, y, residual, relu)
    run()                                   y = relu(conv2d(x, w) * scale + b + residual)

For networks whose weights stay what they are for a while: see `resnet_np.plan`. Batch norm with
fixed statistics is a multiplication and an addition for each channel: `scale` and `b`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

from resnet_np.kernels import Array, Padding, Pair, get_array_module, is_compiled, is_on_gpu, of

WORKSPACE_BYTES, GPU_WORKSPACE_BYTES = 64 * 2**20, 2**30


class FusedConv(Protocol):
    """x [N, H, W, C] -> y [N, P, Q, K], for any number of images N.

    unpack : gives w back, number by number, in the shape that it is told; None where it cannot
    """

    unpack: Callable[[tuple[int, ...]], Array] | None

    def ready(self, x: Array, y: Array, residual: Array | None, relu: bool) -> Callable[[], None]:
        """Each call writes into y. All three arrays are contiguous; y may be the residual."""


def fused_conv(
    w: Array,
    scale: Array | None,
    b: Array | None,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
) -> FusedConv:
    """The convolution with w [R, S, C, K] for images [H, W, C] like those of x_shape.

    scale [K] in double precision, b [K]; None is 1 and 0.
    """
    if is_compiled(w):
        from resnet_np.kernels.cpu.fused import PackedConv

        return PackedConv(w, scale, b, x_shape, stride, padding)
    if is_on_gpu(w):
        from resnet_np.kernels.gpu.fused import GemmConv

        return GemmConv(w, scale, b, x_shape, stride, padding)
    return PlainConv(w, scale, b, stride, padding)


def scaled(w: Array, scale: Array | None) -> Array:
    """w [..., K] with each output channel multiplied, in double precision and rounded once."""
    xp = get_array_module(w)
    return w if scale is None else xp.multiply(w, scale, out=xp.empty_like(w))


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """An array for results of `FusedConv`, of the dtype and on the device of `like`."""
    if is_compiled(like):
        from resnet_np.kernels.cpu.arrays import aligned

        return aligned(shape)
    return get_array_module(like).empty(shape, like.dtype)


def in_turn(like: Array) -> AbstractContextManager[None]:
    """Inside, on a GPU, one thread at a time puts work on one stream: see `gpu/streams.py`."""
    if not is_on_gpu(like):
        return nullcontext()
    from resnet_np.kernels.gpu.streams import in_turn as on_gpu

    return on_gpu()


def recorded(runs: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """All of these as one, on a GPU, in turn: see `gpu/streams.py`."""
    from resnet_np.kernels.gpu.streams import Recording

    return Recording(runs)


def workspace_bytes(like: Array) -> int:
    """How much memory results inside a network may take together.

    On a CPU so little that a good part stays in its caches; on a GPU enough for a batch that keeps
    all of it busy (100 images of ResNet-50), but no more than an eighth of what it has.
    """
    if not is_on_gpu(like):
        return WORKSPACE_BYTES
    from resnet_np.kernels.gpu.arrays import memory_bytes

    return min(GPU_WORKSPACE_BYTES, memory_bytes() // 8)


def max_pool(x: Array, y: Array, size: Pair, stride: Pair, padding: Padding) -> None:
    """Write the kernels' `max_pool` into y, without the winning taps: the way back reads those."""
    if is_compiled(x):
        from resnet_np.kernels.cpu.pool import max_pool_y

        max_pool_y(x, size, stride, padding, y)
    elif is_on_gpu(x):
        from resnet_np.kernels.gpu.pool import max_pool_y as on_gpu

        on_gpu(x, size, stride, padding, y)
    else:
        of(x).max_pool(x, size, stride, padding, y)


class PlainConv:
    """One operation after the other, on any device and in any precision."""

    unpack: Callable[[tuple[int, ...]], Array] | None = None

    def __init__(
        self, w: Array, scale: Array | None, b: Array | None, stride: Pair, padding: Padding
    ) -> None:
        self.w, self.b, self.stride, self.padding = scaled(w, scale), b, stride, padding

    def ready(self, x: Array, y: Array, residual: Array | None, relu: bool) -> Callable[[], None]:
        return partial(self._run, x, y, residual, relu)

    def _run(self, x: Array, y: Array, residual: Array | None, relu: bool) -> None:
        xp, k = get_array_module(x), of(x)
        if residual is None:
            k.conv2d(x, self.w, self.b, self.stride, self.padding, out=y)
        else:
            xp.add(k.conv2d(x, self.w, self.b, self.stride, self.padding), residual, out=y)
        if relu:
            xp.maximum(y, 0, out=y)
