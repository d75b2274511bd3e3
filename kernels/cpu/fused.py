"""A convolution whose weights are packed once: see `resnet_np.kernels.fused`."""

from collections.abc import Callable
from functools import partial

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.cpu import conv, winograd
from resnet_np.kernels.cpu.tasks import worker_count
from resnet_np.kernels.fused import scaled


class PackedConv:
    """Winograd's algorithm where it suits the shapes, else the implicit matrix product.

    Which of the two is decided for one image, so that no image's result depends on how many there
    are in its batch. Winograd's weights are scaled before they are packed. Those of the matrix
    product only move, and its sums are scaled: so it can give the weights back as they were.
    """

    def __init__(
        self,
        w: Array,
        scale: Array | None,
        b: Array | None,
        x_shape: tuple[int, ...],
        stride: Pair,
        padding: Padding,
    ) -> None:
        k = w.shape[3]
        self.size, self.stride, self.padding = w.shape[:2], stride, padding
        self.bias = conv.pack_bias(b, k)
        self.scale: Array | None = None
        self.unpack: Callable[[tuple[int, ...]], Array] | None = None
        self.m = winograd.suits((1, *x_shape[1:]), w.shape, stride, padding)
        if self.m:
            self.packed = winograd.pack(scaled(w, scale), self.m)
        else:
            self.packed = conv.pack_weights(w)
            self.scale = None if scale is None else conv.pack_bias(scale, k)
            self.unpack = partial(conv.unpack_weights, self.packed)

    def ready(self, x: Array, y: Array, residual: Array | None, relu: bool) -> Callable[[], None]:
        _, p, q, k = y.shape
        padding, packed, bias = self.padding, self.packed, self.bias
        if self.m:
            return winograd.ready(x, packed, bias, k, padding, self.m, y, residual, relu)
        places = 0, p * q * k, q * k, k
        where = self.size, self.stride, padding, (p, q), places
        grid = conv.conv_grid(x.shape, *where, len(packed), worker_count())
        return conv.ready(grid, x, packed, bias, k, y, residual, relu, self.scale)
