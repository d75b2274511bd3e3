"""A convolution made ready once, to run on many batches: see `resnet_np.kernels.fused`."""

from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.fused import scaled
from resnet_np.kernels.gpu.arrays import empty
from resnet_np.kernels.gpu.convolution import Window, product
from resnet_np.kernels.gpu.matmul import as_factor, as_shift, finish


class GemmConv:
    """Matrix products with weights that were scaled before, then one pass for all that follows.

    What `ready` returns allocates nothing. It is to run on the stream that was the current one when
    it was made ready, by one thread at a time: see `lend`, and streams.py.
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
        fields = None if window.is_pixel else lend(window.workspace(x.itemsize), x)
        # Where y lies over the residual, this is gone once the product is there: so it is added to.
        over = residual is not None and residual.data.ptr == y.data.ptr
        steps = [*product(window, x, self.factors[kind], y, fields, accumulate=over)]
        residual = None if over else residual
        steps.append(partial(finish, y, as_shift(self.b, x), residual, relu))
        return partial(_run, steps, fields)


def _run(steps: list[Callable[[], None]], fields: Array | None) -> None:
    """`fields` is the lent memory: whoever can run the steps holds it."""
    for step in steps:
        step()


# By device, stream and dtype, the largest of each; as long as there is a convolution to use it.
_workspaces: WeakValueDictionary[tuple[int, int, str], Array] = WeakValueDictionary()


def lend(count: int, like: Array) -> Array:
    """Memory for fields: of all convolutions on one stream, where one comes after the other."""
    import cupy

    key = cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr, str(like.dtype)
    workspace = _workspaces.get(key)
    if workspace is None or workspace.size < count:
        workspace = _workspaces[key] = empty(None, (count,), like)
    return workspace
