"""Winograd's convolution for 3x3 kernels with stride 1: a quarter of the products, more sums.

Two neighbouring outputs of a 1-D convolution with 3 weights read 4 inputs and take 6 products:

    y0 = d0 g0 + d1 g1 + d2 g2
    y1 = d1 g0 + d2 g1 + d3 g2

The same two numbers from 4 products, F(2, 3):

    m0 = (d0 - d2) g0                       m1 = (d1 + d2) (g0 + g1 + g2) / 2
    m3 = (d1 - d3) g2                       m2 = (d2 - d1) (g0 - g1 + g2) / 2
    y0 = m0 + m1 + m2                       y1 = m1 - m2 - m3

Why does it work? Read backwards, from y to d, it is a product of two polynomials. One of degree 3
is known when its values at 4 points are: so evaluate both factors at 0, 1, -1 and infinity,
multiply value by value, and interpolate. To evaluate and to interpolate are products with small
matrices of fixed numbers; reading backwards transposes them (Lavin & Gray 2016, "Fast algorithms
for convolutional neural networks", equations 5 to 7):

    y = A^T [(G g) * (B^T d)]               * is the product number by number

In two dimensions, with `a` = m + 2 inputs on each side for m outputs (equation 8):

    Y = A^T [(G g G^T) * (B^T d B)] A

For m = 2, F2: 16 products instead of 36. For m = 4, F4, with the points 2 and -2 besides: 36
instead of 144. The transforms cost little, because each is done once and used often: the one of a
patch d by all K output channels, the one of g by all tiles, and the sum over the input channels c
is taken before the last one. That sum turns the products number by number into a*a products of
matrices, one for each place (i, j) in the patch:

    M[i, j] = V[i, j] @ U[i, j]             [tiles, K] = [tiles, C] @ [C, K]

which are work for the micro-kernel. What F4 costs is accuracy: its matrices hold numbers from 1/24
to 8, so that sums of large numbers cancel, and a float32 result is wrong in the sixth digit instead
of the seventh; NaN or infinity in one pixel spreads over its tile. Larger tiles would be worse, and
gain little more. And memory: U has 36 numbers (F2: 16) where the kernel has 9.

A worker takes a group of tiles through all three steps, few enough for its cache. V of a group is
read once for each panel of output channels, U once for each group.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from resnet_np.kernels import Array, Padding, Pair, output_sizes
from resnet_np.kernels.cpu.arrays import aligned
from resnet_np.kernels.cpu.compiling import COMPILED, compiled
from resnet_np.kernels.cpu.microkernel import LANES, PANEL, ROWS, SHARES, tile
from resnet_np.kernels.cpu.target import LINE
from resnet_np.kernels.cpu.tasks import new_counter, share, take, worker_count
from resnet_np.kernels.cpu.vectors import Emitter

Matrix = list[list[float]]

# F(2, 3): Lavin & Gray, equation 7.
B2: Matrix = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]  # B^T
G2: Matrix = [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]
A2: Matrix = [[1, 1, 1, 0], [0, 1, -1, -1]]  # A^T

# F(4, 3): the same, section 4.3.
B4: Matrix = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
G4: Matrix = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
A4: Matrix = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]

# Tiles of a group. Each number of U that comes from memory is multiplied so often, and so many
# patches have to stay in the cache.
MOST_TILES = 48
# At least so many tasks for each worker, and at most such a part of the time without one.
TASKS_PER_WORKER, MOST_IDLE = 2, 0.1
LEAST_GAIN = 1.4  # fewer products than in the plain convolution by this factor pay the transforms


# --- the transforms ------------------------------------------------------------------------------


def _combine(e: Emitter, factors: Any, vectors: Any) -> Any:
    """The sum of factors[i] * vectors[i]: zeros cost nothing, ones no multiplication."""
    total = None
    for factor, vector in sorted(zip(factors, vectors, strict=True), key=lambda p: p[0] != 1):
        if factor == 0:
            continue
        if total is None:
            total = vector if factor == 1 else e.builder.fmul(e.constant(factor), vector)
        elif factor == 1:
            total = e.builder.fadd(total, vector)
        elif factor == -1:
            total = e.builder.fsub(total, vector)
        else:
            total = e.multiply_add(e.constant(factor), vector, total)
    return total


def _both_sides(e: Emitter, matrix: Matrix, read: Any) -> list[list[Any]]:
    """matrix @ patch @ matrix^T, of vectors: read(i, j) emits the loading of one."""
    size = range(len(matrix[0]))
    columns = []
    for j in size:
        column = [read(i, j) for i in size]
        columns.append([_combine(e, row, column) for row in matrix])
    return [[_combine(e, row, half) for row in matrix] for half in zip(*columns, strict=True)]


def slow_transform(matrix: Matrix) -> Any:
    def transform(
        d: Array, d0: int, d_row: int, d_column: int,
        top: int, bottom: int, left: int, right: int, zeros: Array,
        v: Array, v0: int, v_plane: int, count: int,
    ) -> None:  # fmt: skip
        """matrix @ patch @ matrix^T, for count * LANES channels. All arrays are flat.

        d : the patch's pixel (i, j) begins at d[d0 + i * d_row + j * d_column]
        top, bottom, left, right : it is there if top <= i < bottom and left <= j < right; else it
            is read from `zeros`
        v : the result's place (i, j) begins at v[v0 + (i * a + j) * v_plane], `a` being the number
            of rows of the matrix
        """
        a, size = np.shape(matrix)
        channels = count * LANES
        patch = np.tile(zeros[:channels], (size, size, 1))
        for i in range(max(top, 0), min(bottom, size)):
            for j in range(max(left, 0), min(right, size)):
                start = d0 + i * d_row + j * d_column
                patch[i, j] = d[start : start + channels]
        planes = np.einsum("ir,rsk,js->ijk", matrix, patch, matrix).reshape(a * a, channels)
        v[v0 + np.arange(a * a)[:, None] * v_plane + np.arange(channels)] = planes

    return transform


def make_transform(matrix: Matrix) -> Any:
    if not COMPILED:
        return slow_transform(matrix)

    @intrinsic
    def transform(
        typing, d, d0, d_row, d_column, top, bottom, left, right, zeros, v, v0, v_plane, count
    ):
        """`slow_transform`, emitted."""
        integer = types.intp
        signature = types.void(d, *[integer] * 7, zeros, v, *[integer] * 3)

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(context, builder, LANES)
            d, d0, d_row, d_column, top, bottom, left, right, zeros, v, v0, v_plane, count = (
                arguments
            )
            d, zeros = e.at(e.data(signature.args[0], d), d0), e.data(signature.args[8], zeros)
            v = e.at(e.data(signature.args[9], v), v0)

            def pixel(i: int, j: int) -> Any:
                row = _within(builder, top, e.int(i), bottom)
                inside = builder.and_(row, _within(builder, left, e.int(j), right))
                there = e.at(d, _offset(e, i, d_row, j, d_column))
                return builder.select(inside, there, zeros)

            size = range(len(matrix[0]))
            pixels = [[pixel(i, j) for j in size] for i in size]
            with e.loop(e.int(0), count) as n:
                k = builder.mul(n, e.int(LANES))
                vectors = _both_sides(e, matrix, lambda i, j: e.load(pixels[i][j], k))
                planes = e.at(v, k)
                for plane, vector in enumerate(itertools.chain(*vectors)):
                    e.store(vector, planes, builder.mul(v_plane, e.int(plane)))
            return context.get_dummy_value()

        return signature, emit

    return transform


def _within(builder: Any, first: Any, index: Any, last: Any) -> Any:
    """first <= index < last."""
    return builder.and_(
        builder.icmp_signed("<=", first, index), builder.icmp_signed("<", index, last)
    )


def _offset(e: Emitter, i: int, row: Any, j: int, column: Any) -> Any:
    """i * row + j * column."""
    return e.builder.add(e.builder.mul(row, e.int(i)), e.builder.mul(column, e.int(j)))


def slow_untransform(matrix: Matrix) -> Any:
    def untransform(
        v: Array, v0: int, v_plane: int, y: Array, y0: int, y_row: int, y_column: int,
        rows: int, columns: int, b: Array, k0: int, r: Array, has_r: bool, relu: bool, count: int,
    ) -> None:  # fmt: skip
        """relu(matrix @ planes @ matrix^T + b + r) for count * LANES channels. All arrays are flat.

        v : the number (i, j) of the planes begins at v[v0 + (i * a + j) * v_plane]
        y : the output pixel (i, j) begins at y[y0 + i * y_row + j * y_column]; only those with
            i < rows and j < columns are written
        b, k0 : biases from b[k0] on
        r, has_r : the shortcut, lying as y does
        """
        a = len(matrix[0])
        channels = count * LANES
        planes = v[v0 + np.arange(a * a)[:, None] * v_plane + np.arange(channels)]
        pixels = np.einsum("pi,ijk,qj->pqk", matrix, planes.reshape(a, a, channels), matrix)
        for i, j in np.ndindex(rows, columns):
            start = y0 + i * y_row + j * y_column
            total = pixels[i, j] + b[k0 : k0 + channels]
            if has_r:
                total = total + r[start : start + channels]
            y[start : start + channels] = np.maximum(total, 0) if relu else total

    return untransform


def _make_untransform(matrix: Matrix) -> Any:
    if not COMPILED:
        return slow_untransform(matrix)
    m, a = len(matrix), len(matrix[0])

    @intrinsic
    def untransform(
        typing, v, v0, v_plane, y, y0, y_row, y_column, rows, columns, b, k0, r, has_r, relu, count
    ):
        """`slow_untransform`, emitted."""
        integer, boolean = types.intp, types.boolean
        signature = types.void(
            v, integer, integer, y, *[integer] * 5, b, integer, r, boolean, boolean, integer
        )

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(context, builder, LANES)
            v, v0, v_plane, y, y0, y_row, y_column, rows, columns = arguments[:9]
            b, k0, r, has_r, relu, count = arguments[9:]
            kinds = signature.args
            v, y, r = e.data(kinds[0], v), e.data(kinds[3], y), e.data(kinds[11], r)
            v, y, r = e.at(v, v0), e.at(y, y0), e.at(r, y0)
            b = e.at(e.data(kinds[9], b), k0)
            # Nothing is below minus infinity, and NaN is below nothing.
            least = builder.select(relu, e.constant(0.0), e.constant(float("-inf")))
            with e.loop(e.int(0), count) as n:
                k = builder.mul(n, e.int(LANES))
                planes = e.at(v, k)

                def read(i: int, j: int) -> Any:
                    return e.load(planes, builder.mul(v_plane, e.int(i * a + j)))

                pixels = _both_sides(e, matrix, read)
                bias, total = e.load(b, k), e.variable()
                for i, j in itertools.product(range(m), range(m)):
                    row = _within(builder, e.int(0), e.int(i), rows)
                    inside = builder.and_(row, _within(builder, e.int(0), e.int(j), columns))
                    with builder.if_then(inside):
                        place = builder.add(_offset(e, i, y_row, j, y_column), k)
                        e.set(total, builder.fadd(pixels[i][j], bias))
                        with builder.if_then(has_r):
                            e.set(total, builder.fadd(e.get(total), e.load(r, place)))
                        value = e.get(total)
                        below = builder.fcmp_ordered("<", value, least)
                        e.store(builder.select(below, least, value), y, place)
            return context.get_dummy_value()

        return signature, emit

    return untransform


# The intrinsics have names in the module: only such ones can be kept on disk.
input_2, _weight_2, _output_2 = make_transform(B2), make_transform(G2), _make_untransform(A2)
input_4, _weight_4, _output_4 = make_transform(B4), make_transform(G4), _make_untransform(A4)


# --- the weights ---------------------------------------------------------------------------------


@compiled(parallel=True)
def _pack(w, c_count, k_count, m, u, counter, workers):
    panels = -(-k_count // PANEL)
    plane = panels * c_count * PANEL
    for _ in prange(workers):
        panel = take(counter)
        while panel < panels:
            k0, u0 = panel * PANEL, panel * c_count * PANEL
            for c in range(c_count):
                for k in range(k0, min(k0 + PANEL, k_count), LANES):
                    w_at, u_at = c * k_count + k, u0 + c * PANEL + k - k0
                    step = c_count * k_count
                    if m == 2:
                        _weight_2(w, w_at, 3 * step, step, 0, 3, 0, 3, w, u, u_at, plane, 1)
                    else:
                        _weight_4(w, w_at, 3 * step, step, 0, 3, 0, 3, w, u, u_at, plane, 1)
            panel = take(counter)


def pack(w: Array, m: int) -> Array:
    """U = G g G^T: [3, 3, C, K] -> [a*a, ceil(K / PANEL), C, PANEL]; absent channels weigh zero."""
    _, _, c, k = w.shape
    u = aligned(((m + 2) ** 2, -(-k // PANEL), c, PANEL))
    if k % PANEL:
        u[:, -1] = 0
    w = np.ascontiguousarray(w).reshape(-1)
    _pack(w, c, k, m, u.reshape(-1), new_counter(), worker_count())
    return u


# --- the convolution -----------------------------------------------------------------------------


class Tiling(NamedTuple):
    """x [images, height, width, channels], y [images, rows, columns, k], cut into tiles of m x m.

    top, left : the border of zeros
    down, across : how many tiles cover an image
    """

    images: int
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    k: int
    top: int
    left: int
    m: int
    down: int
    across: int


def cut_tiles(
    x_shape: tuple[int, ...], y_shape: tuple[int, ...], padding: Padding, m: int
) -> Tiling:
    """As few tiles as cover the outputs."""
    n, h, w, c = x_shape
    _, p, q, k = y_shape
    (top, _), (left, _) = padding
    return Tiling(n, h, w, c, p, q, k, top, left, m, -(-p // m), -(-q // m))


@compiled
def tile_place(tiling, number):
    """Image, first row and first column of a tile."""
    image, place = divmod(number, tiling.down * tiling.across)
    return image, place // tiling.across * tiling.m, place % tiling.across * tiling.m


@compiled
def _transform_input(tiling, x, first, last, zeros, v):
    """V of the tiles from first to last: [a*a, tiles, C]."""
    plane = len(v) // (tiling.m + 2) ** 2
    c, row, count = tiling.channels, tiling.width * tiling.channels, tiling.channels // LANES
    for number in range(first, last):
        image, p, q = tile_place(tiling, number)
        y, x0 = p - tiling.top, q - tiling.left
        start, v0 = (image * tiling.height + y) * row + x0 * c, (number - first) * c
        if tiling.m == 2:
            input_2(
                x, start, row, c, -y, tiling.height - y, -x0, tiling.width - x0, zeros,
                v, v0, plane, count,
            )  # fmt: skip
        else:
            input_4(
                x, start, row, c, -y, tiling.height - y, -x0, tiling.width - x0, zeros,
                v, v0, plane, count,
            )  # fmt: skip


@compiled
def _transform_output(tiling, sums, first, last, panel0, panel1, b, r, y, has_r, relu):
    """Y of the tiles from first to last, for some panels of output channels."""
    m, k, row = tiling.m, tiling.k, tiling.columns * tiling.k
    plane = len(sums) // (m + 2) ** 2
    k0, pitch = panel0 * PANEL, (panel1 - panel0) * PANEL
    count = min(pitch, k - k0) // LANES
    for number in range(first, last):
        image, p, q = tile_place(tiling, number)
        rows, columns = min(m, tiling.rows - p), min(m, tiling.columns - q)
        at, y0 = (number - first) * pitch, (image * tiling.rows + p) * row + q * k + k0
        if m == 2:
            _output_2(
                sums, at, plane, y, y0, row, k, rows, columns, b, k0, r, has_r, relu, count
            )  # fmt: skip
        else:
            _output_4(
                sums, at, plane, y, y0, row, k, rows, columns, b, k0, r, has_r, relu, count
            )  # fmt: skip


@compiled
def _multiply(tiling, u, v, sums, tiles, panel0, panel1, v_at, sums_at, zeros, runs):
    """M = V @ U for each place, for some panels of output channels: the sum over c.

    v : [a*a, tiles, C], sums : [a*a, tiles, PANEL * number of panels], both with planes as large
        as the buffers allow
    """
    c, places, panels = tiling.channels, (tiling.m + 2) ** 2, -(-tiling.k // PANEL)
    size = c * PANEL
    v_plane, sums_plane = len(v) // places, len(sums) // places
    filled = -(-tiles // ROWS) * ROWS
    for i in range(filled):  # the last tile is repeated until the last register tile is full
        v_at[i] = min(i, tiles - 1) * c
        sums_at[i] = min(i, tiles - 1) * (panel1 - panel0) * PANEL
    for place in range(places):
        for panel in range(panel0, panel1):
            u0 = (place * panels + panel) * size
            sums0 = place * sums_plane + (panel - panel0) * PANEL
            u1 = u0 + size if panel + 1 < panel1 else ((place + 1) * panels + panel0) * size
            for i in range(0, filled, ROWS):
                tile(
                    sums, sums0, sums_at, i, v, place * v_plane, v_at, runs, c,
                    u, u0, u1 + i // ROWS % SHARES * (size // SHARES),
                    zeros, zeros, False, 0, sums, False, False,
                )  # fmt: skip


@compiled(parallel=True)
def _convolve(
    tiling, group, parts, x, u, b, r, y, has_r, relu, zeros, runs, vs, sums, places, counter
):
    tiles, panels = tiling.images * tiling.down * tiling.across, -(-tiling.k // PANEL)
    tasks = -(-tiles // group) * parts
    for worker in prange(len(vs)):
        task = take(counter)
        while task < tasks:
            first, part = task // parts * group, task % parts
            last = min(tiles, first + group)
            panel0, panel1 = share(panels, part, parts)
            _transform_input(tiling, x, first, last, zeros, vs[worker])
            _multiply(
                tiling, u, vs[worker], sums[worker], last - first, panel0, panel1,
                places[worker, 0], places[worker, 1], zeros, runs,
            )  # fmt: skip
            _transform_output(
                tiling, sums[worker], first, last, panel0, panel1, b, r, y, has_r, relu
            )
            task = take(counter)


def _parts(groups: int, panels: int, workers: int) -> int:
    """In how many parts to split the output channels: as few as leave nobody idle for long.

    Few, because each part transforms the input of its tiles again.
    """
    for parts in range(1, panels):
        tasks = groups * parts
        if tasks >= workers * TASKS_PER_WORKER and -tasks % workers <= tasks * MOST_IDLE:
            return parts
    return panels


def suits(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, padding: Padding
) -> int:
    """The tile size m with which this convolution is fastest here, or 0 if that is not this way.

    Counted are the products, in whole register tiles, and one register tile more for reading the
    weights. Where an image's result must not depend on what else is in its batch, ask for one.
    """
    r, s, c, k = w_shape
    if (r, s, *stride) != (3, 3, 1, 1) or c % LANES or k % LANES:
        return 0
    n, (p, q) = x_shape[0], output_sizes(x_shape, (r, s), stride, padding)
    work = {0: (-(-n * p * q // ROWS) + 1) * 9 / LEAST_GAIN}
    for m in (2, 4):
        tiles = n * -(-p // m) * -(-q // m)
        work[m] = (-(-tiles // ROWS) + 1) * (m + 2) ** 2
    return min(work, key=lambda m: work[m])


def ready(
    x: Array,
    u: Array,
    bias: Array,
    k: int,
    padding: Padding,
    m: int,
    y: Array,
    residual: Array | None = None,
    relu: bool = False,
) -> Callable[[], None]:
    """Each call writes y = relu(conv(x) + bias + residual), with tiles of m x m outputs.

    x [N, H, W, C], y and residual [N, P, Q, K] are contiguous; y may be the residual. u as from
    `pack`; bias [K] or longer.
    """
    tiling, c = cut_tiles(x.shape, y.shape, padding, m), x.shape[3]
    places, panels = (m + 2) ** 2, u.shape[1]
    tiles = max(1, tiling.images * tiling.down * tiling.across)
    groups = -(-tiles // MOST_TILES)
    group = -(-tiles // (groups * ROWS)) * ROWS
    parts = _parts(groups, panels, worker_count())
    # One cache line more than a plane needs, or all planes would share one set of the cache.
    v_plane, sums_plane = group * c + LINE, group * -(-panels // parts) * PANEL + LINE
    fixed = (
        tiling, group, parts, x.reshape(-1), u.reshape(-1), bias,
        (y if residual is None else residual).reshape(-1), y.reshape(-1),
        residual is not None, relu, np.zeros(max(c, PANEL), np.float32), np.zeros(1, np.int64),
    )  # fmt: skip

    def run() -> None:
        workers = worker_count()
        vs = np.empty((workers, places * v_plane), np.float32)
        sums = np.empty((workers, places * sums_plane), np.float32)
        _convolve(*fixed, vs, sums, np.empty((workers, 2, group), np.int64), new_counter())

    return run
