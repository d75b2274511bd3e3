"""A convolution whose weights are packed once: see `resnet_np.kernels.fused`."""

from collections.abc import Callable

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.cpu import conv, winograd


class PackedConv:
    """Winograd's algorithm where it suits the shapes, else the implicit matrix product.

    Which of the two is decided for one image, so that no image's result depends on how many there
    are in its batch.
    """

    def __init__(
        self, w: Array, b: Array | None, x_shape: tuple[int, ...], stride: Pair, padding: Padding
    ) -> None:
        self.size, self.stride, self.padding = w.shape[:2], stride, padding
        self.bias = conv.pack_bias(b, w.shape[3])
        self.m = winograd.suits((1, *x_shape[1:]), w.shape, stride, padding)
        self.packed = winograd.pack(w, self.m) if self.m else conv.pack_weights(w)

    def ready(self, x: Array, y: Array, residual: Array | None, relu: bool) -> Callable[[], None]:
        _, p, q, k = y.shape
        padding, packed = self.padding, self.packed
        if self.m:
            return winograd.ready(x, packed, self.bias, k, padding, self.m, y, residual, relu)
        places = 0, p * q * k, q * k, k
        grid = conv.conv_grid(x.shape, self.size, self.stride, padding, (p, q), places)
        return conv.ready(grid, x, packed, self.bias, k, y, residual, relu)
