"""Pooling, forward and back, in one pass over memory.

Which pixels a window reads is kept in two small tables, one for its rows and one for its columns.
The way back is written in the same form: each input pixel collects from the outputs that had read
it. (If each output gave to its window, two workers could add to one pixel at the same time.) The
taps are added in the order in which the array kernels add them, so the results are equal.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from resnet_np.kernels import Array, Padding, Pair, array, output_sizes
from resnet_np.kernels.cpu.arrays import aligned, empty
from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.tasks import new_counter, take, worker_count
from resnet_np.kernels.cpu.windows import largest, mean, total_where

# A task is a band of rows [W, C] of the result, of about so many numbers.
BAND_NUMBERS = 8 * 1024


# --- which pixels are read -----------------------------------------------------------------------


class Grid(NamedTuple):
    """What is read for each pixel of the result.

    rows, columns : along each axis, for each place of the result: the first place that is read, how
        many are, and the tap of the first
    step : 1 or -1, from a place to the next one that is read
    size_s : the window's width; tap (r, s) has number r * size_s + s
    taps_r, taps_s : by how much r and s grow with each step
    """

    rows: Array
    columns: Array
    step: int
    size_s: int
    taps_r: int
    taps_s: int


@lru_cache
def _forward(pixels: Pair, outputs: Pair, size: Pair, stride: Pair, border: Pair) -> Grid:
    """For each output, the pixels of its window that lie inside the image."""
    rows, columns = (
        np.array([_reads(p, *axis) for p in range(axis[1])], np.int64).reshape(-1, 3)
        for axis in zip(pixels, outputs, size, stride, border, strict=True)
    )
    return Grid(rows, columns, 1, size[1], 1, 1)


def _reads(p: int, pixels: int, outputs: int, size: int, stride: int, border: int) -> list[int]:
    start = p * stride - border
    tap = max(0, -start)
    return [start + tap, max(0, min(size, pixels - start) - tap), tap]


@lru_cache
def _backward(pixels: Pair, outputs: Pair, size: Pair, stride: Pair, border: Pair) -> Grid:
    """For each pixel, the outputs that had read it: the last one first, with its lowest tap."""
    rows, columns = (
        np.array([_readers(h, *axis) for h in range(axis[0])], np.int64).reshape(-1, 3)
        for axis in zip(pixels, outputs, size, stride, border, strict=True)
    )
    return Grid(rows, columns, -1, size[1], *stride)


def _readers(h: int, pixels: int, outputs: int, size: int, stride: int, border: int) -> list[int]:
    """Output p meets pixel h at tap h + border - p * stride: `stride` less for each p more."""
    place = h + border
    p = min(place // stride, outputs - 1)
    tap = place - p * stride
    return [p, max(0, -((tap - min(size, place + 1)) // stride)), tap]


def _windows(x_shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding) -> tuple:
    """What `_forward` and `_backward` want to know."""
    outputs = output_sizes(x_shape, size, stride, padding)
    border = padding[0][0], padding[1][0]
    return (x_shape[1], x_shape[2]), outputs, size, stride, border


@compiled
def _taps(grid, n, row, column, shape):
    """For one pixel of the result: the taps, as `windows` has them, in an array of this shape."""
    _, height, width, c = shape
    p, count_r, r = grid.rows[row]
    q, count_s, s = grid.columns[column]
    start = ((n * height + p) * width + q) * c
    down, across = grid.step * width * c, grid.step * c
    first = r * grid.size_s + s
    return start, down, across, count_r, count_s, first, grid.taps_r * grid.size_s, grid.taps_s


def _band(shape: tuple[int, ...]) -> int:
    """How many rows [W, C] of a result [N, H, W, C] make a task."""
    return max(1, BAND_NUMBERS // max(1, shape[2] * shape[3]))


# --- the largest ---------------------------------------------------------------------------------


@compiled(parallel=True)
def _max_pool(grid, x, shape, y, index, rows, band, workers, counter):
    down, across, c = len(grid.rows), len(grid.columns), shape[3]
    for _ in prange(workers):
        start = take(counter) * band
        while start < rows:
            for row in range(start, min(rows, start + band)):
                for q in range(across):
                    taps = _taps(grid, row // down, row % down, q, shape)
                    largest(x, taps, y, index, (row * across + q) * c, c)
            start = take(counter) * band


def max_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> tuple[Array, Array]:
    if x.dtype != np.float32:
        return array.max_pool(x, size, stride, padding, out)
    index = aligned((len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]))
    index = index.view(np.int32)
    return _largest(x, size, stride, padding, out, index), index


def max_pool_y(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """`max_pool` for those who will not go back: y alone."""
    if x.dtype != np.float32:
        return array.max_pool(x, size, stride, padding, out)[0]
    return _largest(x, size, stride, padding, out, None)


def _largest(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None, index: Array | None
) -> Array:
    p, q = output_sizes(x.shape, size, stride, padding)
    y = empty(out, (len(x), p, q, x.shape[3]))
    _max_pool(
        _forward(*_windows(x.shape, size, stride, padding)),
        np.ascontiguousarray(x).reshape(-1), x.shape,
        y.reshape(-1), None if index is None else index.reshape(-1),
        len(x) * p, _band(y.shape), worker_count(), new_counter(),
    )  # fmt: skip
    return y


@compiled(parallel=True)
def _max_pool_gx(grid, gy, index, shape, gx, rows, band, workers, counter):
    down, across, c = len(grid.rows), len(grid.columns), shape[3]
    for _ in prange(workers):
        start = take(counter) * band
        while start < rows:
            for row in range(start, min(rows, start + band)):
                for w in range(across):
                    taps = _taps(grid, row // down, row % down, w, shape)
                    total_where(gy, index, taps, gx, (row * across + w) * c, c)
            start = take(counter) * band


def max_pool_gx(
    gy: Array,
    index: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    if gy.dtype != np.float32:
        return array.max_pool_gx(gy, index, x_shape, size, stride, padding, out)
    gx = empty(out, x_shape)
    _max_pool_gx(
        _backward(*_windows(x_shape, size, stride, padding)),
        np.ascontiguousarray(gy).reshape(-1), np.ascontiguousarray(index).reshape(-1), gy.shape,
        gx.reshape(-1), len(gy) * x_shape[1], _band(x_shape), worker_count(), new_counter(),
    )  # fmt: skip
    return gx


# --- the mean ------------------------------------------------------------------------------------


@compiled(parallel=True)
def _totals(grid, x, shape, mean_of, y, rows, band, workers, counter):
    down, across, c = len(grid.rows), len(grid.columns), shape[3]
    for _ in prange(workers):
        start = take(counter) * band
        while start < rows:
            for row in range(start, min(rows, start + band)):
                for q in range(across):
                    taps = _taps(grid, row // down, row % down, q, shape)
                    count = np.float32(taps[3] * taps[4] if mean_of else 1)
                    mean(x, taps, count, y, (row * across + q) * c, c)
            start = take(counter) * band


def avg_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    if x.dtype != np.float32:
        return array.avg_pool(x, size, stride, padding, out)
    p, q = output_sizes(x.shape, size, stride, padding)
    shape = len(x), p, q, x.shape[3]
    y = empty(out, shape)
    _totals(
        _forward(*_windows(x.shape, size, stride, padding)),
        np.ascontiguousarray(x).reshape(-1), x.shape, True, y.reshape(-1),
        len(x) * p, _band(shape), worker_count(), new_counter(),
    )  # fmt: skip
    return y


def avg_pool_gx(
    gy: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """The shares are made first: an output's gradient over the pixels of its window."""
    if gy.dtype != np.float32:
        return array.avg_pool_gx(gy, x_shape, size, stride, padding, out)
    share = gy / array._window_area(gy, x_shape, size, stride, padding)
    gx = empty(out, x_shape)
    _totals(
        _backward(*_windows(x_shape, size, stride, padding)),
        np.ascontiguousarray(share).reshape(-1), gy.shape, False, gx.reshape(-1),
        len(gy) * x_shape[1], _band(x_shape), worker_count(), new_counter(),
    )  # fmt: skip
    return gx


@compiled(parallel=True)
def _global_mean(x, shape, sums, y, workers, counter):
    """The sum of each row, and then of these: no sum is longer than one side of the image."""
    images, height, width, c = shape
    for worker in prange(workers):
        rows = sums[worker]
        n = take(counter)
        while n < images:
            for h in range(height):
                start = (n * height + h) * width * c
                mean(x, (start, 0, c, 1, width, 0, 0, 0), np.float32(1), rows, h * c, c)
            count = np.float32(height * width)
            mean(rows, (0, c, 0, height, 1, 0, 0, 0), count, y, n * c, c)
            n = take(counter)


def global_avg_pool(x: Array, out: Array | None = None) -> Array:
    if x.dtype != np.float32:
        return array.global_avg_pool(x, out)
    n, h, _, c = x.shape
    y, workers = empty(out, (n, c)), worker_count()
    _global_mean(
        np.ascontiguousarray(x).reshape(-1), x.shape, np.empty((workers, h * c), np.float32),
        y.reshape(-1), workers, new_counter(),
    )  # fmt: skip
    return y
