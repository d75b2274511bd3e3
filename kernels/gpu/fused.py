"""A convolution made ready once, to run on many batches: see `resnet_np.kernels.fused`."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from threading import Lock
from weakref import WeakValueDictionary

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.fused import scaled
from resnet_np.kernels.gpu.arrays import empty
from resnet_np.kernels.gpu.convolution import Window, product
from resnet_np.kernels.gpu.matmul import as_factor, as_shift, finish


class GemmConv:
    """Matrix products with weights that were scaled before, then one pass for all that follows.

    What `ready` returns allocates nothing. It is to run on the stream that was the current one when
    it was made ready: see `Workspace`.
    """

    unpack: Callable[[tuple[int, ...]], Array] | None = None

    def __init__(
        self,
        w: Array,
        scale: Array | None,
        b: Array | None,
        x_shape: tuple[int, ...],
        stride: Pair,
        padding: Padding,
    ) -> None:
        self.w, self.b, self.stride, self.padding = scaled(w, scale), b, stride, padding
        self.factors: dict[str, Array] = {}  # the weights as they are multiplied, by x's dtype

    def ready(self, x: Array, y: Array, residual: Array | None, relu: bool) -> Callable[[], None]:
        window = Window(x.shape, self.w.shape[:2], self.stride, self.padding)
        kind = str(x.dtype)
        if kind not in self.factors:
            self.factors[kind] = as_factor(self.w, x)
        lent = None if window.is_pixel else lend(window.workspace(x.itemsize), x)
        # Where y lies over the residual, this is gone once the product is there: so it is added to.
        over = residual is not None and residual.data.ptr == y.data.ptr
        memory = None if lent is None else lent.numbers
        steps = [*product(window, x, self.factors[kind], y, memory, accumulate=over)]
        residual = None if over else residual
        steps.append(partial(finish, y, as_shift(self.b, x), residual, relu))
        return partial(_run, steps, lent)


def _run(steps: list[Callable[[], None]], workspace: "Workspace | None") -> None:
    with nullcontext() if workspace is None else workspace.lock:
        for step in steps:
            step()


class Workspace:
    """Memory for fields, of all convolutions on one stream: there one comes after the other.

    The lock keeps the steps of two convolutions apart that two threads put on the stream.
    """

    def __init__(self, count: int, like: Array) -> None:
        self.numbers = empty(None, (count,), like)
        self.lock = Lock()


# By device, stream and dtype, the largest of each; as long as there is a convolution to use it.
_workspaces: WeakValueDictionary[tuple[int, int, str], Workspace] = WeakValueDictionary()


def lend(count: int, like: Array) -> Workspace:
    """The current stream's workspace, or a new one where that has less than `count` numbers."""
    import cupy

    key = cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr, str(like.dtype)
    workspace = _workspaces.get(key)
    if workspace is None or workspace.numbers.size < count:
        workspace = _workspaces[key] = Workspace(count, like)
    return workspace
