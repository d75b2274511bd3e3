"""The steps of a plan: a convolution with all that was fused into it, or any op as it is."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from resnet_np import kernels
from resnet_np.autograd import Tensor
from resnet_np.autograd.activation import ReLU
from resnet_np.autograd.arithmetic import Reshape
from resnet_np.autograd.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from resnet_np.autograd.tensor import Op
from resnet_np.kernels import Array, Padding, Pair, get_array_module, is_on_gpu
from resnet_np.kernels.fused import FusedConv, fused_conv, max_pool
from resnet_np.nn import Parameter
from resnet_np.plan.trace import Record


def _array(value: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


class Norm(NamedTuple):
    """A batch norm with fixed statistics: gamma * (x - mean) / sqrt(var + eps) + beta."""

    gamma: Tensor
    beta: Tensor
    mean: Array
    var: Array
    eps: float


class Source(NamedTuple):
    """What the weights of a fused convolution are made from."""

    w: Tensor
    b: Tensor | None
    norm: Norm | None

    def scale_and_shift(self) -> tuple[Array | None, Array | None]:
        """Scale and shift of the channels, [K] each: b and the batch norm in one.

        With scale = gamma / sqrt(var + eps), batch norm makes of conv(x, w) + b

            conv(x, w) * scale + b * scale + beta - mean * scale

        Computed in double precision; the shift is rounded, the scale not yet.
        """
        b = None if self.b is None else self.b.data
        if self.norm is None:
            return None, b
        gamma, beta, mean, var = (_array(v).astype("f8") for v in self.norm[:4])
        scale = gamma / (var + self.norm.eps) ** 0.5
        shift = beta - mean * scale
        if b is not None:
            shift += b * scale
        return scale, shift.astype(self.w.dtype)

    def channel_tensors(self) -> list[Tensor | Array]:
        """All that has one number for each channel: Tensors, and the statistics' arrays."""
        bias: list[Tensor | Array] = [] if self.b is None else [self.b]
        return bias if self.norm is None else [*bias, *self.norm[:4]]


class Prepared:
    """A source's weights, packed, and what tells whether they still are the source's.

    Statistics are written in place, and have no version: so what is small is compared, number by
    number, with what it was: `numbers`. Weights are large, and go by their version. Where the
    packed ones can be unpacked, they take the place of the parameter's own, until somebody asks for
    that.
    """

    def __init__(
        self,
        source: Source,
        numbers: bytes,
        x_shape: tuple[int, ...],
        stride: Pair,
        padding: Padding,
    ) -> None:
        self.source, self.numbers = source, numbers
        w, self.version = source.w, source.w.version
        self.conv: FusedConv = fused_conv(
            _as_kernel(w.data), *source.scale_and_shift(), x_shape, stride, padding
        )
        self.w: Array | None = None  # a parameter's version counts other arrays, too
        if not isinstance(w, Parameter):
            self.w = w.data
        elif self.conv.unpack is not None:
            w.pack_away(partial(self.conv.unpack, w.shape), self.version)

    def is_fresh(self, numbers: bytes) -> bool:
        """Whether the source still has the same weights, and now these numbers."""
        w = self.source.w
        same = w.version == self.version and (self.w is None or w.data is self.w)
        return same and numbers == self.numbers


def read_numbers(groups: Sequence[Sequence[Tensor | Array]]) -> list[bytes]:
    """The numbers of each group of small tensors and arrays. From a GPU they come all at once."""
    arrays = [[_array(tensor) for tensor in group] for group in groups]
    flat = [array for group in arrays for array in group]
    if not flat or not is_on_gpu(flat[0]):
        return [b"".join([array.tobytes() for array in group]) for group in arrays]
    xp = get_array_module(flat[0])
    fetched = xp.concatenate([array.ravel().view("uint8") for array in flat]).tobytes()
    ends = list(accumulate(sum(array.nbytes for array in group) for group in arrays))
    return [fetched[start:end] for start, end in pairwise([0, *ends])]


class Convolution:
    """y = relu(conv(x) + residual), with a batch norm folded into it.

    x, residual, output : numbers of values
    """

    def __init__(self, x: int, source: Source, stride: Pair, padding: Padding, output: int) -> None:
        self.x, self.source, self.output = x, source, output
        self.stride, self.padding = stride, padding
        self.residual: int | None = None
        self.relu = False
        self.prepared: Prepared | None = None

    @property
    def inputs(self) -> list[int]:
        return [self.x] if self.residual is None else [self.x, self.residual]

    def key(self, x_shape: tuple[int, ...]) -> tuple:
        """Equal for steps that need the same weights, packed in the same way."""
        w, b, norm = self.source
        parts = tuple(map(id, (w, b, *(norm or ())[:4])))
        return parts, norm and norm.eps, x_shape[1:], self.stride, self.padding

    def prepare(self, x_shape: tuple[int, ...], numbers: bytes) -> Prepared:
        return Prepared(self.source, numbers, _as_images(x_shape), self.stride, self.padding)

    def ready(self, values: list[Any]) -> Callable[[], None]:
        """What computes the step from these arrays, into these."""
        assert self.prepared is not None
        contiguous = get_array_module(values[0]).ascontiguousarray
        x, y = contiguous(values[self.x]), values[self.output]
        r = None if self.residual is None else contiguous(values[self.residual])
        if x.ndim == 2:  # [N, C] -> [N, 1, 1, C]
            x, y, r = x[:, None, None], y[:, None, None], None if r is None else r[:, None, None]
        return self.prepared.conv.ready(x, y, r, self.relu)

    def flops(self, shapes: list[tuple[int, ...]]) -> int:
        """Multiplications and additions for one image: each weight at each output pixel."""
        return 2 * self.source.w.size * math.prod(shapes[self.output][1:-1])


def _as_kernel(w: Array) -> Array:
    """A linear layer is a 1x1 convolution of images of one pixel: [C, K] -> [1, 1, C, K]."""
    return w[None, None] if w.ndim == 2 else w


def _as_images(x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """[N, C] -> [N, 1, 1, C]."""
    return (x_shape[0], 1, 1, x_shape[1]) if len(x_shape) == 2 else x_shape


# Ops whose kernels write into memory that they are given: (kernels, op, x, y).
INTO: dict[type[Op], Callable[[Any, Any, Array, Array], Any]] = {
    AvgPool2d: lambda k, op, x, y: k.avg_pool(x, *op.window, out=y),
    GlobalAvgPool: lambda k, op, x, y: k.global_avg_pool(x, out=y),
    MaxPool2d: lambda k, op, x, y: max_pool(x, y, *op.window),
    ReLU: lambda k, op, x, y: k.relu(x, out=y),
}


class Other:
    """An op that no pattern knows, run by its own `forward`."""

    residual = None
    prepared = None

    def __init__(self, record: Record) -> None:
        self.op, self.operands, self.output = record

    @property
    def inputs(self) -> list[int]:
        return [operand for operand in self.operands if isinstance(operand, int)]

    def ready(self, values: list[Any]) -> Callable[[], None]:
        """What runs the op on these values, and puts its result among them."""
        return partial(self._run, values)

    def _run(self, values: list[Any]) -> None:
        arrays: list[Any] = [values[v] if isinstance(v, int) else _array(v) for v in self.operands]
        y = values[self.output]
        if y is not None and type(self.op) in INTO:
            INTO[type(self.op)](kernels.of(y), self.op, arrays[0], y)
            return
        op = copy.copy(self.op)  # `forward` may write into it, on another thread, too
        if isinstance(op, Reshape):  # from [1, ...] to [1, ...] in the trace, here for N images
            op.shape = (len(arrays[0]), *op.shape[1:])
        result = op.forward(*arrays)
        if y is None:
            values[self.output] = result
        else:
            y[...] = result

    def flops(self, shapes: list[tuple[int, ...]]) -> int:
        """Only convolutions are counted."""
        return 0


Step = Convolution | Other


def is_placed(step: Step) -> bool:
    """Whether a step writes into memory that it is given; else it brings its own."""
    return isinstance(step, Convolution) or type(step.op) in INTO
