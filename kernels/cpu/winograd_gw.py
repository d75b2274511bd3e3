"""The weight gradient of 3x3 kernels with stride 1 by Winograd's algorithm.

The outputs of one tile are bilinear in the weights g and the patch d (see winograd.py):

    Y = A^T [(G g G^T) * (B^T d B)] A       * is the product number by number

Hold d fixed, and this is a linear map from g to Y. The gradient by g is its transpose, applied to
the gradient gy of Y: the same matrices, each transposed, in the order from right to left. The
product with fixed numbers is its own transpose.

    gg = G^T [(A gy A^T) * (B^T d B)] G     gy [m, m] -> [a, a] -> gg [3, 3], a = m + 2

So the algorithm that saves products on the way forward saves as many on the way back (on transposed
bilinear algorithms: Winograd 1980, "Arithmetic complexity of computations"; the matrices are those
of Lavin & Gray 2016). G^T comes last and is linear, so the sum over all tiles of all images is
taken before it. What is left between the transforms are a*a products of matrices, one for each
place (i, j) in the patch, whose inner sums run over the tiles:

    V[i, j] = (B^T d B)[i, j]               [tiles, C]
    Z[i, j] = (A gy A^T)[i, j]              [tiles, K]
    dU[i, j] = V[i, j]^T @ Z[i, j]          [C, K]
    gw = G^T dU G                           [3, 3, C, K]

Per tile 36 products where there were 144 (m = 4), or 16 for 36 (m = 2). Tiles over the edge are
filled with zeros: gradients of outputs that are not there.

Where the numbers are. Tiles come in chunks of up to MOST_TILES. First all workers write V and Z of
a chunk, some MiB that stay in the third-level cache, in the order in which the micro-kernel of
conv_gw.py reads them. Then each takes ranges of C and of K, and for one place after the other adds
V^T Z to its part of dU; there the parts of V[i, j] and Z[i, j] stay in the second-level cache. With
the last chunk, a part of dU goes through the last transform as soon as it is complete. If there is
only one chunk, dU is never whole: it would be four times as large as gw.

Each number of dU is the sum of its chunks in their order, whoever adds it: the result does not
depend on the number of threads. Short sums, added up, are also more exact than a long one. Compared
to the largest number of a ResNet layer's gw, the largest error is about 5e-6 with m = 4 and 5e-7
with m = 2, where plain products have 3e-7; NaN or infinity in one number of x or gy spreads over
all nine taps, but not to other channels.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from resnet_np.kernels import Array, Padding, Pair
from resnet_np.kernels.cpu.arrays import aligned, empty
from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.conv_gw import AHEAD, add_tile, up
from resnet_np.kernels.cpu.microkernel import LANES, PANEL, ROWS
from resnet_np.kernels.cpu.target import LINE
from resnet_np.kernels.cpu.tasks import share, take, worker_count
from resnet_np.kernels.cpu.winograd import (
    A2,
    A4,
    G2,
    G4,
    Matrix,
    Tiling,
    cut_tiles,
    input_2,
    input_4,
    make_transform,
    tile_place,
)

# Channels of x that lie side by side in V: whole vectors for the transform, whole register tiles
# for the products.
BLOCK = math.lcm(ROWS, LANES)
MOST_TILES = 128  # of a chunk
GROUP = 4  # tiles that a worker transforms at a time
# A task of products has so many register tiles or more, or it would read more than it multiplies;
# and more ranges than these serve nobody.
LEAST_GROUPS, LEAST_PANELS, MOST_RANGES = 4, 2, 8
# Beside the products of a tile, its transforms cost TRANSFORM / C + TRANSFORM / K of them; and the
# transform of dU costs as much as the products of so many tiles.
TRANSFORM, TRANSFORM_BACK = 32, 16


def _transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


# A gy A^T and G^T dU G. The intrinsics have names, or they could not be kept on disk.
_gradient_2, _gradient_4 = make_transform(_transposed(A2)), make_transform(_transposed(A4))
_back_2, _back_4 = make_transform(_transposed(G2)), make_transform(_transposed(G4))


class Work(NamedTuple):
    """How tiles and products are shared out.

    chunks, chunk : how many chunks there are, and how many tiles the largest has
    c_ranges, k_ranges : tasks of products
    """

    chunks: int
    chunk: int
    c_ranges: int
    k_ranges: int


def share_out(tiling: Tiling) -> Work:
    tiles = tiling.images * tiling.down * tiling.across
    chunks = max(1, up(tiles, MOST_TILES))
    c_ranges = min(MOST_RANGES, up(up(tiling.channels, ROWS), LEAST_GROUPS))
    k_ranges = min(MOST_RANGES, up(up(tiling.k, PANEL), LEAST_PANELS))
    return Work(chunks, up(tiles, chunks), c_ranges, k_ranges)


# --- the transforms ------------------------------------------------------------------------------


@compiled
def _transform_x(tiling, chunk, x, begin, first, last, zeros, v):
    """V of the tiles from first to last, of a chunk of so many that begins at `begin`.

    v : [a*a, blocks of C, tiles of the chunk, BLOCK]
    """
    c, row, plane = tiling.channels, tiling.width * tiling.channels, len(v) // (tiling.m + 2) ** 2
    for number in range(first, last):
        image, p, q = tile_place(tiling, number)
        y, x0 = p - tiling.top, q - tiling.left
        start, v0 = (image * tiling.height + y) * row + x0 * c, (number - begin) * BLOCK
        for c0 in range(0, c, BLOCK):
            count = min(BLOCK, c - c0) // LANES
            if tiling.m == 2:
                input_2(
                    x, start + c0, row, c, -y, tiling.height - y, -x0, tiling.width - x0, zeros,
                    v, v0 + c0 * chunk, plane, count,
                )  # fmt: skip
            else:
                input_4(
                    x, start + c0, row, c, -y, tiling.height - y, -x0, tiling.width - x0, zeros,
                    v, v0 + c0 * chunk, plane, count,
                )  # fmt: skip


@compiled
def _transform_gy(tiling, chunk, gy, begin, first, last, zeros, z):
    """Z, likewise: [a*a, panels of K, tiles of the chunk, PANEL]."""
    k, row, plane = tiling.k, tiling.columns * tiling.k, len(z) // (tiling.m + 2) ** 2
    for number in range(first, last):
        image, p, q = tile_place(tiling, number)
        start, z0 = (image * tiling.rows + p) * row + q * k, (number - begin) * PANEL
        for k0 in range(0, k, PANEL):
            count = min(PANEL, k - k0) // LANES
            if tiling.m == 2:
                _gradient_2(
                    gy, start + k0, row, k, 0, tiling.rows - p, 0, tiling.columns - q, zeros,
                    z, z0 + k0 * chunk, plane, count,
                )  # fmt: skip
            else:
                _gradient_4(
                    gy, start + k0, row, k, 0, tiling.rows - p, 0, tiling.columns - q, zeros,
                    z, z0 + k0 * chunk, plane, count,
                )  # fmt: skip


@compiled
def _transform_back(tiling, du, group0, group1, panel0, panel1, zeros, gw):
    """gw = G^T dU G, for some groups of input channels and some panels of output channels."""
    a, k, k0 = tiling.m + 2, tiling.k, panel0 * PANEL
    plane, pitch = len(du) // a**2, (panel1 - panel0) * PANEL
    count, tap = min(pitch, k - k0) // LANES, tiling.channels * k
    for c in range(group0 * ROWS, min(group1 * ROWS, tiling.channels)):
        at, start = (c - group0 * ROWS) * pitch, c * k + k0
        if tiling.m == 2:
            _back_2(du, at, a * plane, plane, 0, a, 0, a, zeros, gw, start, tap, count)
        else:
            _back_4(du, at, a * plane, plane, 0, a, 0, a, zeros, gw, start, tap, count)


# --- the products --------------------------------------------------------------------------------


@compiled
def _multiply(tiling, work, v, z, v_at, tiles, group0, group1, panel0, panel1, fresh, du):
    """dU += V^T Z for each place; meanwhile the next place's V and Z are fetched.

    du : [a*a, groups * ROWS, panels * PANEL]; with `fresh`, it starts from zero
    """
    places, pitch = (tiling.m + 2) ** 2, (panel1 - panel0) * PANEL
    v_plane, z_plane, du_plane = len(v) // places, len(z) // places, len(du) // places
    v_first, v_last = group0 * ROWS // BLOCK * BLOCK * work.chunk, group1 * ROWS * work.chunk
    z_first, z_last = panel0 * PANEL * work.chunk, panel1 * PANEL * work.chunk
    for place in range(places):
        v1, z1 = (place + 1) * v_plane + v_first, (place + 1) * z_plane + z_first
        for panel in range(panel0, panel1):
            z0 = place * z_plane + panel * PANEL * work.chunk
            for group in range(group0, group1):
                block, c = divmod(group * ROWS, BLOCK)
                v0 = place * v_plane + block * BLOCK * work.chunk + c
                du0 = place * du_plane + (group - group0) * ROWS * pitch + (panel - panel0) * PANEL
                add_tile(du, du0, pitch, fresh, v, v0, v_at, z, z0, tiles, v, v1, z, z1)
                v1 = min((place + 1) * v_plane + v_last, v1 + tiles * AHEAD)
                z1 = min((place + 1) * z_plane + z_last, z1 + tiles * AHEAD)


@compiled
def _products_task(tiling, work, v, z, v_at, chunk, tiles, task, du, zeros, gw):
    """One task: a part of dU, and of gw if it was the last chunk."""
    c_range, k_range = task % work.c_ranges, task // work.c_ranges
    group0, group1 = share(-(-tiling.channels // ROWS), c_range, work.c_ranges)
    panel0, panel1 = share(-(-tiling.k // PANEL), k_range, work.k_ranges)
    _multiply(tiling, work, v, z, v_at, tiles, group0, group1, panel0, panel1, chunk == 0, du)
    if chunk == work.chunks - 1:
        _transform_back(tiling, du, group0, group1, panel0, panel1, zeros, gw)


@compiled(parallel=True)
def _sum_tiles(tiling, work, x, gy, v, z, v_at, du, zeros, gw, counters, workers):
    """All chunks, each in two steps: first V and Z, then the products.

    du : [tasks, part of dU]; for one chunk only, [workers, part of dU]
    counters : [chunks, 2, 1]
    """
    tasks, all_tiles = work.c_ranges * work.k_ranges, tiling.images * tiling.down * tiling.across
    for chunk in range(work.chunks):
        begin, end = share(all_tiles, chunk, work.chunks)
        for _ in prange(workers):
            first = begin + take(counters[chunk, 0]) * GROUP
            while first < end:
                last = min(end, first + GROUP)
                _transform_x(tiling, work.chunk, x, begin, first, last, zeros, v)
                _transform_gy(tiling, work.chunk, gy, begin, first, last, zeros, z)
                first = begin + take(counters[chunk, 0]) * GROUP
        for worker in prange(workers):
            task = take(counters[chunk, 1])
            while task < tasks:
                part = du[worker] if work.chunks == 1 else du[task]
                _products_task(tiling, work, v, z, v_at, chunk, end - begin, task, part, zeros, gw)
                task = take(counters[chunk, 1])


def suits(gy_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair) -> int:
    """The tile size m with which the gradient is fastest here, or 0 if that is not this way.

    Counted are the products for each pair of channels, and the transforms as if they were such:
    those of x and gy are shared by all K and all C channels, the one of dU by all tiles.
    """
    r, s, c, k = w_shape
    if (r, s, *stride) != (3, 3, 1, 1) or c % LANES or k % LANES:
        return 0
    n, p, q, _ = gy_shape
    work = {0: 9.0 * n * p * q}
    for m in (2, 4):
        tiles = n * up(p, m) * up(q, m) * (1 + TRANSFORM / c + TRANSFORM / k)
        work[m] = (m + 2) ** 2 * (tiles + TRANSFORM_BACK)
    return min(work, key=lambda m: work[m])


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    padding: Padding,
    m: int,
    out: Array | None = None,
) -> Array:
    """As `array.conv2d_gw` with stride (1, 1), by tiles of m x m (2 or 4)."""
    gw, workers = empty(out, w_shape), worker_count()
    tiling = cut_tiles(x.shape, gy.shape, padding, m)
    work, places = share_out(tiling), (m + 2) ** 2
    _, _, c, k = w_shape
    blocks, panels = up(c, BLOCK), up(k, PANEL)
    # One cache line more than a plane needs, or all planes would share one set of the cache.
    v = aligned((places, blocks * BLOCK * work.chunk + LINE))
    z = aligned((places, panels * PANEL * work.chunk + LINE))
    # Channels that are not there: nobody keeps their sums.
    if c % BLOCK:
        v[:, (blocks - 1) * BLOCK * work.chunk :] = 0
    if k % PANEL:
        z[:, (panels - 1) * PANEL * work.chunk :] = 0
    parts = workers if work.chunks == 1 else work.c_ranges * work.k_ranges
    largest = up(up(c, ROWS), work.c_ranges) * ROWS * up(panels, work.k_ranges) * PANEL
    _sum_tiles(
        tiling, work, np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1),
        v.reshape(-1), z.reshape(-1), np.arange(work.chunk) * BLOCK,
        aligned((parts, places * (largest + LINE))),
        np.zeros(max(c, k), np.float32), gw.reshape(-1),
        np.zeros((work.chunks, 2, 1), np.int64), workers,
    )  # fmt: skip
    return gw
