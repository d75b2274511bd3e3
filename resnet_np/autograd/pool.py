"""Pooling and up-sampling: ops without weights that change the image's size."""

from resnet_np import kernels
from resnet_np.autograd.conv import PaddingArgument, as_padding, as_pair, check_window
from resnet_np.autograd.tensor import Op, Tensor, check_tensors
from resnet_np.kernels import Array, Padding, Pair


class MaxPool2d(Op):
    """Saved: which tap of each window had won."""

    makes_gradients = True

    def __init__(self, size: Pair, stride: Pair, padding: Padding) -> None:
        self.window = size, stride, padding

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        y, self.saved = kernels.of(x).max_pool(x, *self.window)
        return y

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).max_pool_gx(gy, self.saved, self.x_shape, *self.window),)


def max_pool2d(
    x: Tensor, size: int | Pair, stride: int | Pair | None = None, padding: PaddingArgument = 0
) -> Tensor:
    """The largest number of each window: [N, H, W, C] -> [N, P, Q, C].

    `stride` is the window's size unless given. The border counts as minus infinity. ResNet's: 3x3,
    stride 2, padding 1, 112 x 112 -> 56 x 56.
    """
    return MaxPool2d(*_window("max_pool2d", x, size, stride, padding))(x)


class AvgPool2d(Op):
    """Saved: the shape of x."""

    def __init__(self, size: Pair, stride: Pair, padding: Padding) -> None:
        self.window = size, stride, padding

    def forward(self, x: Array) -> Array:
        self.saved = x.shape
        return kernels.of(x).avg_pool(x, *self.window)

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).avg_pool_gx(gy, self.saved, *self.window),)


def avg_pool2d(
    x: Tensor, size: int | Pair, stride: int | Pair | None = None, padding: PaddingArgument = 0
) -> Tensor:
    """The mean of each window: [N, H, W, C] -> [N, P, Q, C].

    Pixels of the border are not counted, as in Keras (PyTorch's `count_include_pad=False`).
    """
    return AvgPool2d(*_window("avg_pool2d", x, size, stride, padding))(x)


def _window(
    name: str, x: Tensor, size: int | Pair, stride: int | Pair | None, padding: PaddingArgument
) -> tuple[Pair, Pair, Padding]:
    """Size, stride and padding, normalised and checked."""
    check_tensors(name, x)
    sizes = as_pair(size, "size")
    strides = sizes if stride is None else as_pair(stride, "stride")
    borders = as_padding(padding, x.shape, sizes, strides)
    check_window(name, x, sizes, strides, borders)
    if any(max(border) * 2 > window for border, window in zip(borders, sizes, strict=True)):
        raise ValueError(f"{name}: padding {padding!r} is more than half of the window {sizes}")
    return sizes, strides, borders


class GlobalAvgPool(Op):
    """Saved: the shape of x."""

    def forward(self, x: Array) -> Array:
        self.saved = x.shape
        return kernels.of(x).global_avg_pool(x)

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).global_avg_pool_gx(gy, self.saved),)


def global_avg_pool(x: Tensor) -> Tensor:
    """The mean over the image: [N, H, W, C] -> [N, C] (Lin et al. 2014, section 3.2)."""
    check_tensors("global_avg_pool", x)
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool: x must be [N, H, W, C], not of shape {x.shape}")
    return GlobalAvgPool()(x)


class UpsampleNearest(Op):
    """Saved: nothing."""

    def __init__(self, factor: Pair) -> None:
        self.factor = factor

    def forward(self, x: Array) -> Array:
        return kernels.of(x).upsample_nearest(x, self.factor)

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).upsample_nearest_gx(gy, self.factor),)


def upsample_nearest(x: Tensor, factor: int | Pair) -> Tensor:
    """Each pixel becomes a block of `factor` pixels: [N, H, W, C] -> [N, H*fh, W*fw, C]."""
    check_tensors("upsample_nearest", x)
    if x.ndim != 4:
        raise ValueError(f"upsample_nearest: x must be [N, H, W, C], not of shape {x.shape}")
    return UpsampleNearest(as_pair(factor, "factor"))(x)
