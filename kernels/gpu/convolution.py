"""Convolution by im2col and matrix products. Definitions are in `array.py`.

The fields of a large batch, side by side, can be nine times the input. They are laid out for some
output rows after the others, in one workspace. A 1x1 convolution of stride 1 needs none: there x is
the matrix of its fields.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from resnet_np.kernels import NO_PADDING, Array, Padding, Pair, output_sizes, parameter_dtype
from resnet_np.kernels.gpu import packs
from resnet_np.kernels.gpu.arrays import contiguous, empty
from resnet_np.kernels.gpu.compiling import launch
from resnet_np.kernels.gpu.matmul import as_factor, as_shift, finish, gemm

# With much less, products would be too small to keep a large card busy.
WORKSPACE_BYTES = 256 * 2**20


class Window(NamedTuple):
    """A kernel as it slides over images [N, H, W, C]."""

    x_shape: tuple[int, ...]
    size: Pair
    stride: Pair
    padding: Padding

    @property
    def outputs(self) -> Pair:
        """(P, Q)."""
        return output_sizes(self.x_shape, self.size, self.stride, self.padding)

    @property
    def field(self) -> int:
        """R*S*C: the numbers of a receptive field."""
        return self.size[0] * self.size[1] * self.x_shape[3]

    @property
    def is_pixel(self) -> bool:
        """Whether each field is a pixel of x, in the order in which they lie there."""
        return self.size == (1, 1) and self.stride == (1, 1) and self.padding == NO_PADDING

    def most_rows(self, itemsize: int) -> int:
        """How many output rows' fields fit into the workspace; at least one."""
        return max(1, WORKSPACE_BYTES // max(1, self.outputs[1] * self.field * itemsize))

    def parts(self, itemsize: int) -> list[slice]:
        """The output rows of the whole batch, n*P + p, in parts that fit into the workspace."""
        return _equal_parts(self.x_shape[0] * self.outputs[0], self.most_rows(itemsize))

    def workspace(self, itemsize: int) -> int:
        """How many numbers the fields of the largest of these parts have."""
        rows = max((part.stop - part.start for part in self.parts(itemsize)), default=0)
        return rows * self.outputs[1] * self.field

    def fields(self, workspace: Array, rows: int) -> Array:
        """The beginning of a workspace as the fields of so many output rows: [pixels, R*S*C]."""
        pixels = rows * self.outputs[1]
        return workspace[: pixels * self.field].reshape(pixels, self.field)


def _equal_parts(count: int, most: int) -> list[slice]:
    """The numbers below `count` in as few parts of `most` as will do, then as equal as they go."""
    parts = -(-count // most)
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


# --- forward -------------------------------------------------------------------------------------


def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    window = Window(x.shape, w.shape[:2], stride, padding)
    y = empty(out, (len(x), *window.outputs, w.shape[3]), x)
    workspace = None if window.is_pixel else empty(None, (window.workspace(x.itemsize),), x)
    for step in product(window, contiguous(x), as_factor(w, x), y, workspace):
        step()
    finish(y, as_shift(b, x), None, False)
    return y


def product(
    window: Window, x: Array, w: Array, y: Array, workspace: Array | None, accumulate: bool = False
) -> Iterator[Callable[[], None]]:
    """The steps of y = conv(x, w), or of y += conv(x, w), to be run one after the other.

    workspace : for the window; None where fields are pixels. All arrays are contiguous.
    """
    q, k = window.outputs[1], y.shape[3]
    w, y = w.reshape(-1, k), y.reshape(-1, k)  # [R*S*C, K], [N*P*Q, K]
    if workspace is None:
        yield partial(gemm, x.reshape(-1, window.field), w, y, accumulate=accumulate)
        return
    for part in window.parts(x.itemsize):
        fields = window.fields(workspace, part.stop - part.start)
        yield partial(im2col, window, x, part, fields)
        yield partial(gemm, fields, w, y[part.start * q : part.stop * q], accumulate=accumulate)


def im2col(window: Window, x: Array, part: slice, fields: Array) -> None:
    """Lay out the fields of these output rows: [pixels, R*S*C]."""
    _, h, w, c = window.x_shape
    (r, s), (p, q), ((top, _), (left, _)) = window.size, window.outputs, window.padding
    width = packs.width(c, x, fields)
    launch(
        "im2col.cu", packs.variant("im2col", width), x.dtype,
        (part.stop - part.start, r), packs.block(s * c // width, q),
        x, fields, part.start, h, w, c, p, q, s, *window.stride, top, left,
    )  # fmt: skip


# --- backward ------------------------------------------------------------------------------------


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    r, s, _, k = w_shape
    window = Window(x.shape, (r, s), stride, padding)
    gw = empty(out, w_shape, gy, parameter_dtype(gy.dtype))
    x, gy = contiguous(x, gy.dtype), contiguous(gy)
    gy, flat, q = gy.reshape(-1, k), gw.reshape(-1, k), window.outputs[1]
    if window.is_pixel:
        gemm(x.reshape(-1, window.field), gy, flat, transpose_a=True)
        return gw
    if len(x) == 0:
        gw.fill(0)
    workspace = empty(None, (window.workspace(x.itemsize),), x)
    for part in window.parts(x.itemsize):
        fields = window.fields(workspace, part.stop - part.start)
        im2col(window, x, part, fields)
        pixels = slice(part.start * q, part.stop * q)
        gemm(fields, gy[pixels], flat, transpose_a=True, accumulate=part.start > 0)
    return gw


class Patch(NamedTuple):
    """Some rows of some images, and the output rows whose windows meet them."""

    images: slice
    rows: slice
    outputs: slice

    @property
    def met(self) -> int:
        """How many output rows these are, of all the images."""
        images, outputs = self.images, self.outputs
        return (images.stop - images.start) * (outputs.stop - outputs.start)


def patches(window: Window, itemsize: int) -> list[Patch]:
    """All of x in patches whose fields' gradients fit into the workspace.

    Whole images, if one at least does fit. Else rows of one image: windows at the seam belong to
    two patches then, and their fields' gradients are computed for both. More memory than that is
    taken only where it is needed for the windows that meet a single row.
    """
    n, h = window.x_shape[:2]
    most, p = window.most_rows(itemsize), window.outputs[0]
    if most >= p:
        return [Patch(part, slice(0, h), slice(0, p)) for part in _equal_parts(n, most // p)]
    heights = max(1, most * window.stride[0] - window.size[0] + 1)
    return [
        Patch(slice(image, image + 1), rows, _meeting(window, rows))
        for image in range(n)
        for rows in _equal_parts(h, heights)
    ]


def _meeting(window: Window, rows: slice) -> slice:
    """The output rows whose windows meet these: p * stride <= h + top < p * stride + R."""
    (top, _), r, step = window.padding[0], window.size[0], window.stride[0]
    stop = min(window.outputs[0], (rows.stop - 1 + top) // step + 1)
    return slice(min(max(0, (rows.start + top - r) // step + 1), stop), stop)


def conv2d_gx(
    gy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    residual: Array | None = None,
    out: Array | None = None,
) -> Array:
    window = Window(x_shape, w.shape[:2], stride, padding)
    gx = empty(out, x_shape, gy)
    k = gy.shape[3]
    gy, w = contiguous(gy), as_factor(w, gy).reshape(-1, k)
    if window.is_pixel:
        add = residual is not None
        if add and residual is not gx:
            gx[...] = residual
        gemm(gy.reshape(-1, k), w, gx.reshape(-1, window.field), transpose_b=True, accumulate=add)
        return gx
    residual = contiguous(residual, gy.dtype)
    todo = patches(window, gy.itemsize)
    most = max((patch.met for patch in todo), default=0)
    workspace = empty(None, (most * window.outputs[1] * window.field,), gy)
    for patch in todo:
        fields = window.fields(workspace, patch.met)
        gemm(gy[patch.images, patch.outputs].reshape(-1, k), w, fields, transpose_b=True)
        place = patch.images, patch.rows
        col2im(window, fields, patch, None if residual is None else residual[place], gx[place])
    return gx


def col2im(window: Window, fields: Array, patch: Patch, residual: Array | None, gx: Array) -> None:
    """Each pixel of the patch collects its share of the fields' gradients [pixels, R*S*C]."""
    (images, heights, w, c), q = gx.shape, window.outputs[1]
    (top, _), (left, _) = window.padding
    first, p = patch.outputs.start, patch.outputs.stop - patch.outputs.start
    width = packs.width(c, fields, gx, *(() if residual is None else (residual,)))
    launch(
        "im2col.cu", packs.variant("col2im", width), gx.dtype,
        (images * heights,), packs.block(c // width, w),
        fields, residual, gx, patch.rows.start, heights, w, c, first, p, q, *window.size,
        *window.stride, top, left,
    )  # fmt: skip
