"""Convolution, forward and back to the input, without im2col: an implicit matrix product.

The output is cut into blocks of pixels, a block into tiles for the micro-kernel. Where the kernel
reaches over the image's border, a worker first copies the part of the image that a block needs into
a buffer with a border of zeros, small enough to stay in its cache; else the image is read in place.
It is copied, too, where neighbouring pixels of a tile lie a multiple of 4 KiB apart, as those of
1,024 channels do, and many panels will read the copy: a cache keeps what lies so far apart in the
same few places, and that cost 10 to 15 % of such a layer's time. In the copy they lie one line
farther apart.
Weights are *packed*: for each panel of output channels, as many as a tile has, all that belongs to
it in the order in which it is read.

The way back to the input is a convolution, too: each pixel of x has met the kernel's taps at the
outputs around it, so gx is gy convolved with the kernel turned by 180 degrees. With a stride of 2
the even and the odd pixels have met different taps, so there are four such convolutions, each with
its part of the kernel, each writing every other pixel (Dumoulin & Visin 2016, section 4.6, without
the zeros between the pixels that the textbook multiplies by).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.cpu.arrays import aligned, empty
from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.memory import clear, copy, turn
from resnet_np.kernels.cpu.microkernel import LANES, PANEL, ROWS, SHARES, tile
from resnet_np.kernels.cpu.target import LINE
from resnet_np.kernels.cpu.tasks import new_counter, share, take, worker_count

# Input numbers of a block. The block stays in the second-level cache (512 KiB and more) while all
# panels of weights pass by.
BLOCK_NUMBERS = 32 * 1024
LEAST_PIXELS, MOST_PIXELS = 96, 512
# Numbers after which the first-level cache begins anew, and panels for which a copy is worth it.
CACHE_PERIOD, PANELS_A_COPY = 1024, 8
# At least so many tasks for each worker, or the last one to finish keeps the others waiting.
TASKS_PER_WORKER = 16


class Grid(NamedTuple):
    """A convolution's geometry: `images` x `rows` x `columns` output pixels, and their places.

    x is [images, height, width, channels]; output pixel (p, q) reads the taps from input pixel
    (p * stride - top, q * stride - left) on. It lies in y at start + n * image + p * row + q *
    pixel, so that a grid can fill every other pixel of a larger y.
    """

    images: int
    rows: int
    columns: int
    height: int
    width: int
    channels: int
    size_r: int
    size_s: int
    stride_r: int
    stride_s: int
    top: int
    left: int
    y_start: int
    y_image: int
    y_row: int
    y_pixel: int
    block_images: int
    block_rows: int
    groups: int  # of panels: a task is a block's pixels with one of them
    copied: bool
    pitch: int  # from a pixel to the next, where they are read: in x, or in the copy

    @property
    def block_pixels(self) -> int:
        return self.block_images * self.block_rows * self.columns

    @property
    def window(self) -> Pair:
        """Height and width of the part of an image that a block reads."""
        return (
            (self.block_rows - 1) * self.stride_r + self.size_r,
            (self.columns - 1) * self.stride_s + self.size_s,
        )


@lru_cache(maxsize=1024)
def conv_grid(
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    outputs: Pair,
    y_strides: tuple[int, int, int, int],
    panels: int,
    workers: int,
) -> Grid:
    """The grid of a convolution with so many `outputs` and panels of weights, cut into tasks.

    y_strides : where they lie: start, and the steps to the next image, row and pixel
    padding : at the top and at the left; a border at the other end follows from the outputs
    """
    n, h, w, c = x_shape
    r, s = size
    (top, _), (left, _) = padding
    if (r, s, *stride, top, left) == (1, 1, 1, 1, 0, 0) and outputs == (h, w):
        step = y_strides[3]
        if y_strides[1:3] == (h * w * step, w * step):  # pixels in a row: all images of one pixel
            n, h, w, outputs, y_strides = n * h * w, 1, 1, (1, 1), (y_strides[0], step, 0, 0)
    p, q = outputs
    pixels = min(max(BLOCK_NUMBERS // (c * r), LEAST_PIXELS), MOST_PIXELS)
    rows = min(p, max(1, round(pixels / q)))
    images = _block_images(n, p * q, pixels) if rows == p else 1
    last = (p - 1) * stride[0] - top + r, (q - 1) * stride[1] - left + s
    copied = top > 0 or left > 0 or last[0] > h or last[1] > w
    blocks = -(-n // images) * -(-p // rows)
    groups = min(panels, -(-workers * TASKS_PER_WORKER // max(1, blocks)))
    pitch = c
    if c * stride[1] % CACHE_PERIOD == 0:
        often = panels // groups >= PANELS_A_COPY
        copied = copied or (often and stride == (1, 1))
        pitch = c + LINE if copied else c
    where = n, p, q, h, w, c, r, s, *stride, top, left, *y_strides
    return Grid(*where, images, rows, groups, copied, pitch)


def _block_images(images: int, size: int, pixels: int) -> int:
    """How many images of `size` pixels a block of about so many pixels has.

    All blocks are of about one size, and fill their register tiles, if these are small beside them.
    """
    blocks = max(1, round(images * size / pixels))
    even, step = max(1, -(-images // blocks)), ROWS // math.gcd(size, ROWS)
    return even if step > even else max(1, min(images, -(-even // step) * step))


# --- packing -------------------------------------------------------------------------------------


def pack_weights(w: Array) -> Array:
    """[R, S, C, K] -> [ceil(K / PANEL), R, S, C, PANEL]; channels that are not there weigh zero."""
    r, s, c, k = w.shape
    packed = aligned((-(-k // PANEL), r, s, c, PANEL))
    _pack(np.ascontiguousarray(w), packed, worker_count(), new_counter())
    return packed


def unpack_weights(packed: Array, shape: tuple[int, ...]) -> Array:
    """What `pack_weights` was given, in a new array: [R, S, C, K], or [C, K] of a 1x1 kernel."""
    _, r, s, c, _ = packed.shape
    w = np.empty(shape, np.float32)
    for panel, k0 in zip(packed, range(0, shape[-1], PANEL), strict=True):
        w.reshape(r, s, c, -1)[..., k0 : k0 + PANEL] = panel[..., : shape[-1] - k0]
    return w


def turned(w: Array) -> Array:
    """The kernel turned by 180 degrees, C and K exchanged: [R, S, C, K] -> [R, S, K, C]."""
    r, s, c, k = w.shape
    result = aligned((r, s, k, c))
    _turn_all(np.ascontiguousarray(w), result, worker_count(), new_counter())
    return result


def pack_turned(w: Array) -> Array:
    """`pack_weights(turned(w))` in one pass: [R, S, C, K] -> [ceil(C / PANEL), R, S, K, PANEL]."""
    r, s, c, k = w.shape
    packed = aligned((-(-c // PANEL), r, s, k, PANEL))
    taps = np.ascontiguousarray(w).reshape(r * s, c, k)
    _pack_turned(taps, packed.reshape(len(packed), r * s, k, PANEL), worker_count(), new_counter())
    return packed


@compiled
def _pack_panels(w, packed, counter):
    size_r, size_s, c, k = w.shape
    w, flat = w.reshape(-1), packed.reshape(-1)
    panel = take(counter)
    while panel < len(packed):
        k0 = panel * PANEL
        used = min(PANEL, k - k0)
        for i in range(size_r * size_s * c):
            into = (panel * size_r * size_s * c + i) * PANEL
            copy(flat, into, w, i * k + k0, used)
            clear(flat, into + used, PANEL - used)
        panel = take(counter)


@compiled(parallel=True)
def _pack(w, packed, workers, counter):
    for _ in prange(workers):
        _pack_panels(w, packed, counter)


@compiled
def _turn_tap(w, result, k0, k1):
    """[C, K] -> [K, C], for some output channels; rows of the result may be longer."""
    c, k = w.shape
    flat, turned, pitch = w.reshape(-1), result.reshape(-1), result.shape[1]
    whole_c, whole_k = c // LANES * LANES, k0 + (k1 - k0) // LANES * LANES
    for i in range(0, whole_c, LANES):
        for j in range(k0, whole_k, LANES):
            turn(flat, i * k + j, k, turned, j * pitch + i, pitch)
    for i in range(c):
        for j in range(whole_k if i < whole_c else k0, k1):
            result[j, i] = w[i, j]


@compiled(parallel=True)
def _turn_all(w, result, workers, counter):
    size_r, size_s, _, k = w.shape
    panels = -(-k // PANEL)
    for _ in prange(workers):
        task = take(counter)
        while task < size_r * size_s * panels:
            tap, k0 = task // panels, task % panels * PANEL
            r, s = tap // size_s, tap % size_s
            into = result[size_r - 1 - r, size_s - 1 - s]
            _turn_tap(w[r, s], into, k0, min(k0 + PANEL, k))
            task = take(counter)


@compiled(parallel=True)
def _pack_turned(w, packed, workers, counter):
    taps, _, k = w.shape
    for _ in prange(workers):
        task = take(counter)
        while task < taps * len(packed):
            panel, tap = task // taps, task % taps
            rows, into = w[tap, panel * PANEL : (panel + 1) * PANEL], packed[panel, taps - 1 - tap]
            if len(rows) < PANEL:
                clear(into.reshape(-1), 0, into.size)
            _turn_tap(rows, into, 0, k)
            task = take(counter)


def pack_bias(b: Array | None, k: int) -> Array:
    """[K] -> [K rounded up to panels], zero where there is none."""
    packed = np.zeros(-(-k // PANEL) * PANEL, np.float32)
    if b is not None:
        packed[:k] = b
    return packed


# --- the convolution -----------------------------------------------------------------------------


@compiled
def _place_pixels(grid, n0, n1, p0, p1, height, width, x_at, y_at):
    """Where the pixels of a block are read and written; the number of pixels.

    The last pixel is repeated until the last tile is full: it is then computed more than once.
    """
    count = 0
    for n in range(n1 - n0):
        for p in range(p1 - p0):
            for q in range(grid.columns):
                pixel = (n * height + p * grid.stride_r) * width + q * grid.stride_s
                x_at[count] = pixel * grid.pitch
                y_at[count] = n * grid.y_image + p * grid.y_row + q * grid.y_pixel
                count += 1
    for more in range(count, -(-count // ROWS) * ROWS):
        x_at[more], y_at[more] = x_at[count - 1], y_at[count - 1]
    return count


@compiled
def _copy_window(grid, x, n0, n1, top, height, width, buffer):
    """Rows from `top` on of the images n0 to n1, as [n, height, width, C], zeros for the border."""
    c = grid.channels
    first, last = max(0, grid.left), min(width, grid.width + grid.left)
    for n in range(n1 - n0):
        for row in range(height):
            start, y = (n * height + row) * width * grid.pitch, top + row
            if y < 0 or y >= grid.height:
                clear(buffer, start, width * grid.pitch)
                continue
            source = (((n0 + n) * grid.height + y) * grid.width + first - grid.left) * c
            clear(buffer, start, first * grid.pitch)
            if grid.pitch == c:
                copy(buffer, start + first * c, x, source, (last - first) * c)
            else:
                for i in range(last - first):
                    copy(buffer, start + (first + i) * grid.pitch, x, source + i * c, c)
            clear(buffer, start + last * grid.pitch, (width - last) * grid.pitch)


@compiled
def _store_edge(y, y0, y_at, i, rows, edge, used, r, has_r, relu):
    """The first `used` channels of a tile [ROWS, PANEL], for the panel that K does not fill.

    Only its first `rows` pixels: where y is the shortcut, one twice would add that twice.
    """
    for row in range(rows):
        place = y0 + y_at[i + row]
        for k in range(used):
            total = edge[row * PANEL + k]
            if has_r:
                total += r[place + k]
            y[place + k] = 0 if relu and total < 0 else total


@compiled
def _convolve_blocks(
    grid, x, w, b, s, has_s, r, y, k, has_r, relu, runs, edge_at,
    buffer, places, edge, counter,
):  # fmt: skip
    """One worker: block by block, for each a group of panels."""
    run, panels = grid.size_r * grid.size_s * grid.channels // len(runs), -(-k // PANEL)
    height = (grid.block_rows - 1) * grid.stride_r + grid.size_r
    width = (grid.columns - 1) * grid.stride_s + grid.size_s
    down = -(-grid.rows // grid.block_rows)
    tasks = -(-grid.images // grid.block_images) * down * grid.groups
    x_at, y_at = places[0], places[1]
    task = take(counter)
    while task < tasks:
        block, group = task // grid.groups, task % grid.groups
        n0, p0 = block // down * grid.block_images, block % down * grid.block_rows
        n1, p1 = min(grid.images, n0 + grid.block_images), min(grid.rows, p0 + grid.block_rows)
        top = p0 * grid.stride_r - grid.top
        if grid.copied:
            source, x0 = buffer, 0
            _copy_window(grid, x, n0, n1, top, height, width, source)
            pixels = _place_pixels(grid, n0, n1, p0, p1, height, width, x_at, y_at)
        else:
            source, x0 = x, ((n0 * grid.height + top) * grid.width - grid.left) * grid.channels
            pixels = _place_pixels(grid, n0, n1, p0, p1, grid.height, grid.width, x_at, y_at)
        y_block = grid.y_start + n0 * grid.y_image + p0 * grid.y_row
        panel0, panel1 = share(panels, group, grid.groups)
        for panel in range(panel0, panel1):
            size = len(runs) * run * PANEL
            k0, w0 = panel * PANEL, panel * size
            y0 = y_block + k0
            whole = k0 + PANEL <= k
            for i in range(0, pixels, ROWS):
                w1 = w0 + size + i // ROWS % SHARES * (size // SHARES)  # of the next panel
                tile(
                    y if whole else edge, y0 if whole else 0, y_at if whole else edge_at, i,
                    source, x0, x_at, runs, run, w, w0, w1, b, s, has_s, k0,
                    r, has_r and whole, relu and whole,
                )  # fmt: skip
                if not whole:
                    rows = min(ROWS, pixels - i)
                    _store_edge(y, y0, y_at, i, rows, edge, k - k0, r, has_r, relu)
        task = take(counter)


@compiled(parallel=True)
def _convolve(
    grid, x, w, b, s, has_s, r, y, k, has_r, relu, runs, edge_at,
    buffers, places, edges, counter,
):  # fmt: skip
    for worker in prange(len(buffers)):
        _convolve_blocks(
            grid, x, w, b, s, has_s, r, y, k, has_r, relu, runs, edge_at,
            buffers[worker], places[worker], edges[worker], counter,
        )  # fmt: skip


def ready(
    grid: Grid,
    x: Array,
    packed: Array,
    bias: Array,
    k: int,
    y: Array,
    residual: Array | None = None,
    relu: bool = False,
    scale: Array | None = None,
) -> Callable[[], None]:
    """Each call writes relu(scale * conv(x) + bias + residual) into the grid's pixels of y.

    x, y and residual are contiguous; y may be the residual. packed and bias as packed above, scale
    as a bias is.
    """
    height, width = grid.window
    buffer = grid.block_images * height * width * grid.pitch if grid.copied else 1
    pixels = grid.block_pixels + ROWS
    fixed = (
        grid, x.reshape(-1), packed.reshape(-1), bias,
        bias if scale is None else scale, scale is not None,
        (y if residual is None else residual).reshape(-1), y.reshape(-1), k,
        residual is not None, relu,
        _runs(grid, width), np.arange(pixels) % ROWS * PANEL,
    )  # fmt: skip

    def run() -> None:
        workers = worker_count()
        buffers = np.empty((workers, buffer), np.float32)
        places = np.empty((workers, 2, pixels), np.int64)
        edges = np.empty((workers, ROWS * PANEL), np.float32)
        _convolve(*fixed, buffers, places, edges, new_counter())

    return run


@compiled(parallel=True)
def _clear_all(numbers, workers):
    for worker in prange(workers):
        begin, end = share(len(numbers), worker, workers)
        clear(numbers, begin, end - begin)


def _runs(grid: Grid, width: int) -> Array:
    """Where the runs of a pixel begin: rows of the kernel, or its taps where pixels lie apart."""
    rows = np.arange(grid.size_r) * ((width if grid.copied else grid.width) * grid.pitch)
    if grid.pitch == grid.channels:
        return rows
    return (rows[:, None] + np.arange(grid.size_s) * grid.pitch).reshape(-1)


def conv2d_gx(
    gy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    residual: Array | None = None,
    out: Array | None = None,
) -> Array:
    """See `array.conv2d_gx`. One convolution for each place that a pixel can have in a stride.

    Pixel h = i * stride + a has met the taps r = first, first + stride, ... for which h + top - r
    is a multiple of the stride, at the outputs i + (a + top - r) / stride.
    """
    gx = empty(out, x_shape)
    _, h, w_, c = x_shape
    residual = None if residual is None else np.ascontiguousarray(residual)
    if min(w.shape[:2]) < max(stride):  # some pixels have met no tap at all
        if residual is None:
            _clear_all(gx.reshape(-1), worker_count())
        elif residual is not gx:
            gx[...] = residual
            residual = gx
    gy, bias = np.ascontiguousarray(gy), pack_bias(None, c)
    for a in range(min(stride[0], h)):
        for b in range(min(stride[1], w_)):
            sides = zip((a, b), padding, stride, strict=True)
            first = [(place + border[0]) % step for place, border, step in sides]
            taps = pack_turned(w[first[0] :: stride[0], first[1] :: stride[1]])
            if taps.size == 0:
                continue
            top, left = (
                taps.shape[1 + axis] - 1 - (place + padding[axis][0]) // stride[axis]
                for axis, place in enumerate((a, b))
            )
            outputs = -(-(h - a) // stride[0]), -(-(w_ - b) // stride[1])
            places = (a * w_ + b) * c, h * w_ * c, stride[0] * w_ * c, stride[1] * c
            size = (taps.shape[1], taps.shape[2])
            padding_here = (top, 0), (left, 0)
            where = size, (1, 1), padding_here, outputs, places
            grid = conv_grid(gy.shape, *where, len(taps), worker_count())
            ready(grid, gy, taps, bias, c, gx, residual)()
    return gx
