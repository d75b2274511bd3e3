"""Batch normalisation and ReLU, at the speed at which memory delivers the numbers.

There is little to compute here and much to read, so what counts is how often an array passes by:
the forward pass reads x twice, once for the statistics and once to normalise, and the way back
reads its arrays twice. Nothing else of that size is read, written or allocated.

Arrays are taken as flat: with the channels last, the channel of number i is i % C. Pixels of a few
channels are too short for vectors of 8 numbers, so several of them are taken as one *row*, whose
`width` is a multiple of C (and of 8 if C is small). All that belongs to a channel is then kept once
for each column of such a row. Rows are shared out in *blocks*; their number depends on the shape
and on nothing else, so that sums are added up in the same order however many threads there are.
"""

from collections.abc import Callable
from math import lcm
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from resnet_np.kernels import Array, array
from resnet_np.kernels.cpu.arrays import aligned, empty
from resnet_np.kernels.cpu.compiling import COMPILED, compiled
from resnet_np.kernels.cpu.target import TILE
from resnet_np.kernels.cpu.tasks import new_counter, take, worker_count
from resnet_np.kernels.cpu.vectors import Emitter

# Rows at least so wide: the start and the end of a loop over a row cost about 20 numbers.
LEAST_WIDTH = 256
# Numbers of a block: enough for its administration not to be felt, and at most so many blocks.
BLOCK_NUMBERS, MOST_BLOCKS = 64 * 1024, 128
# So many rows are added up in float32 before their sum is added to a float64.
RUN = 64


class Blocks(NamedTuple):
    """How `size` numbers of `channels` channels are cut: see above."""

    size: int
    channels: int
    width: int
    numbers: int  # of a block, except perhaps the last
    tasks: int  # how many blocks


def _cut(x: Array) -> Blocks:
    channels = x.shape[-1]
    width = channels
    if channels < LEAST_WIDTH:
        whole = lcm(channels, TILE.lanes)
        width = whole * -(-LEAST_WIDTH // whole)
    rows = max(1, -(-max(BLOCK_NUMBERS, x.size // MOST_BLOCKS) // width))
    return Blocks(x.size, channels, width, rows * width, -(-x.size // (rows * width)))


@compiled
def _block(blocks, task):
    """Where a task's numbers begin, and where they end."""
    start = task * blocks.numbers
    return start, min(start + blocks.numbers, blocks.size)


def _columns(values: Array, blocks: Blocks) -> Array:
    """[C] -> [width] in float32: the channels' values, once for each column of a row."""
    columns = aligned((blocks.width // blocks.channels, blocks.channels))
    columns[:] = values
    return columns.reshape(-1)


# --- on the way in -------------------------------------------------------------------------------


def _suits(like: Array, *others: Array | None, channels: tuple[Array, ...] = ()) -> bool:
    """Whether all is float32, the others of the first one's shape and `channels` of shape [C].

    All else, and what is empty, is left to `array`, which broadcasts it or complains.
    """
    arrays = [a for a in others if a is not None]
    return (
        like.size > 0
        and all(a.dtype == np.float32 for a in (like, *arrays, *channels))
        and all(a.shape == like.shape for a in arrays)
        and all(a.shape == like.shape[-1:] for a in channels)
    )


def _flat(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(-1)


def _workers(blocks: Blocks) -> int:
    return min(worker_count(), blocks.tasks)


# --- statistics ----------------------------------------------------------------------------------


@compiled
def _add_rows(x, sums):
    """sums += each row of x."""
    for start in range(0, len(x), len(sums)):
        row = x[start : start + len(sums)]
        for c in range(len(row)):
            sums[c] += row[c]


@compiled
def _add_moments(x, shift, sums, squares):
    """sums += d and squares += d * d for each row of x, with d = x - shift."""
    for start in range(0, len(x), len(shift)):
        row = x[start : start + len(shift)]
        for c in range(len(row)):
            d = row[c] - shift[c]
            sums[c] += d
            squares[c] += d * d


@compiled
def _flush(sums, total):
    """total += sums; sums = 0."""
    for c in range(len(sums)):
        total[c] += sums[c]
        sums[c] = 0


@compiled
def _block_moments(x, mean, spread):
    """Of a block, for each column: its mean, and the sum of squared distances from it.

    Both begin as zeros. The sum of x * x minus the square of the sum would lose all digits where
    the mean is far from 0. So the numbers are first shifted by a rough mean, that of the block's
    first eighth. Whatever the numbers are, that is off by sqrt(15) standard deviations at most, and
    four bits are lost (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance:
    analysis and recommendations").
    """
    width = len(mean)
    rows = -(-len(x) // width)
    shift = np.zeros(width, np.float32)
    sums, squares = np.zeros_like(shift), np.zeros_like(shift)
    first = max(1, rows // 8)
    _add_rows(x[: first * width], shift)
    for c in range(width):
        shift[c] /= np.float32(first)
    for start in range(0, len(x), RUN * width):
        _add_moments(x[start : start + RUN * width], shift, sums, squares)
        _flush(sums, mean)
        _flush(squares, spread)
    last = len(x) - (rows - 1) * width  # columns of the last row, which may be cut off
    for c in range(width):
        total, count = mean[c], max(1, rows if c < last else rows - 1)
        mean[c] = shift[c] + total / count
        rest = spread[c] - total * total / count
        spread[c] = 0 if rest < 0 else rest  # by rounding; NaN is not < 0


@compiled(parallel=True)
def _all_moments(blocks, x, means, spreads, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _block_moments(x[start:stop], means[task], spreads[task])
            task = take(counter)


def _column_counts(blocks: Blocks) -> Array:
    """How many numbers each mean of a block's columns is of: [tasks, width / C]."""
    block = np.minimum(blocks.numbers, blocks.size - np.arange(blocks.tasks) * blocks.numbers)
    from_column = block[:, None] - np.arange(0, blocks.width, blocks.channels)
    return np.maximum(0, -(-from_column // blocks.width))


def _statistics(blocks: Blocks, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, in float64.

    From groups of n[i] numbers, together M, each with its mean and spread, the sum of squared
    distances from its own mean:

        mean = sum n[i] * mean[i] / M    var = sum (spread[i] + n[i] * (mean[i] - mean)^2) / M
    """
    means, spreads = np.zeros((2, blocks.tasks, blocks.width))
    _all_moments(blocks, x, means, spreads, _workers(blocks), new_counter())
    means = means.reshape(-1, blocks.channels)  # [tasks, width] -> [tasks * width / C, C]
    n = _column_counts(blocks).reshape(-1, 1)
    count = blocks.size // blocks.channels
    mean = (n * means).sum(axis=0) / count
    means -= mean
    means *= means
    means *= n
    means += spreads.reshape(-1, blocks.channels)
    return mean, means.sum(axis=0) / count


# --- forward -------------------------------------------------------------------------------------


@compiled
def _normalise(x, mean, scale, shift, r, has_r, relu, y):
    """y = relu((x - mean) * scale + shift + r), row by row.

    Not x * scale + (shift - mean * scale): that loses digits where the mean is far from 0.
    """
    for start in range(0, len(x), len(mean)):
        row, y_row = x[start : start + len(mean)], y[start : start + len(mean)]
        if has_r:
            r_row = r[start : start + len(mean)]
            for c in range(len(row)):
                v = (row[c] - mean[c]) * scale[c] + shift[c] + r_row[c]
                y_row[c] = np.float32(0) if relu and v < 0 else v
        else:
            for c in range(len(row)):
                v = (row[c] - mean[c]) * scale[c] + shift[c]
                y_row[c] = np.float32(0) if relu and v < 0 else v


@compiled(parallel=True)
def _normalise_all(blocks, x, mean, scale, shift, r, has_r, relu, y, workers, counter):
    for _ in prange(workers):
        # The last block first: it was read last, and may still lie in a cache.
        task = blocks.tasks - 1 - take(counter)
        while task >= 0:
            start, stop = _block(blocks, task)
            _normalise(x[start:stop], mean, scale, shift, r[start:stop], has_r, relu, y[start:stop])
            task = blocks.tasks - 1 - take(counter)


def _normalise_into(
    y: Array, x: Array, mean: Array, scale: Array, shift: Array, residual: Array | None, relu: bool
) -> None:
    """The whole of x; mean, scale and shift are [C]."""
    blocks, x = _cut(x), _flat(x)
    columns = [_columns(values, blocks) for values in (mean, scale, shift)]
    r = x if residual is None else _flat(residual)
    _normalise_all(
        blocks, x, *columns, r, residual is not None, relu, y.reshape(-1),
        _workers(blocks), new_counter(),
    )  # fmt: skip


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual); also mean and var [C]."""
    if not _suits(x, residual, channels=(gamma, beta)):
        return array.batch_norm(x, gamma, beta, eps, residual, relu, out)
    y, x = empty(out, x.shape), np.ascontiguousarray(x)
    exact_mean, var = _statistics(_cut(x), _flat(x))
    mean = exact_mean.astype(np.float32)
    scale = gamma / np.sqrt(var + eps)
    shift = beta + (mean - exact_mean) * scale  # what float32 took off the mean
    _normalise_into(y, x, mean, scale, shift, residual, relu)
    return y, mean, var.astype(np.float32)


def fixed_batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> Array:
    """As `batch_norm`, with `mean` and `var` given."""
    if not _suits(x, residual, channels=(gamma, beta, mean, var)):
        return array.fixed_batch_norm(x, gamma, beta, mean, var, eps, residual, relu, out)
    y = empty(out, x.shape)
    _normalise_into(y, x, mean, gamma / np.sqrt(var + eps), beta, residual, relu)
    return y


# --- backward ------------------------------------------------------------------------------------


def slow_add_gradients(
    gy: Array, y: Array, x: Array, mean: Array, relu: bool, sums: Array, products: Array
) -> None:
    """sums += g and products += g * (x - mean), for one row, with g = gy where y > 0.

    The last row may be shorter than mean, sums and products, which are [width].
    """
    n = len(gy)
    g = np.where(y > 0, gy, np.float32(0)) if relu else gy
    sums[:n] += g
    products[:n] += g * (x - mean[:n])


def slow_spread_gradients(
    gy: Array, y: Array, x: Array, mean: Array, a: Array, b: Array, c: Array,
    relu: bool, gx: Array, has_g: bool, g: Array,
) -> None:  # fmt: skip
    """gx = a * g + b * (x - mean) + c, for one row, with g = gy where y > 0; g if has_g."""
    n = len(gy)
    masked = np.where(y > 0, gy, np.float32(0)) if relu else gy
    gx[:] = a[:n] * masked + (b[:n] * (x - mean[:n]) + c[:n])
    if has_g:
        g[:] = masked


def _each(context: Any, builder: Any, count: Any, step: Callable[[Emitter, Any], None]) -> None:
    """step(emitter, i) for i in range(count): vectors as long as they fit, then single numbers."""
    wide, single = Emitter(context, builder, TILE.lanes), Emitter(context, builder, 1)
    most = builder.and_(count, wide.int(-TILE.lanes))
    with wide.loop(wide.int(0), most, TILE.lanes) as i:
        step(wide, i)
    with single.loop(most, count) as i:
        step(single, i)


def _gradient(e: Emitter, gy: Any, y: Any, relu: Any, i: Any) -> Any:
    """gy[i]; with ReLU 0 where y is not > 0. No product with a mask: 0 * infinity would be NaN."""
    builder, g = e.builder, e.variable()
    e.set(g, e.load(gy, i))
    with builder.if_then(relu):
        is_open = builder.fcmp_ordered(">", e.load(y, i), e.constant(0.0))
        e.set(g, builder.select(is_open, e.get(g), e.constant(0.0)))
    return e.get(g)


@intrinsic
def _add_gradients(typing, gy, y, x, mean, relu, sums, products):
    """`slow_add_gradients`, emitted: Numba gives up vectors where so many arrays may overlap."""
    signature = types.void(gy, y, x, mean, types.boolean, sums, products)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = Emitter(context, builder, TILE.lanes)
        gy, y, x, mean, relu, sums, products = arguments
        kinds = signature.args
        count = e.count(kinds[0], gy)
        gy, y, x, mean = (e.data(kinds[i], arguments[i]) for i in range(4))
        sums, products = e.data(kinds[5], sums), e.data(kinds[6], products)

        def step(e: Emitter, i: Any) -> None:
            g = _gradient(e, gy, y, relu, i)
            centred = builder.fsub(e.load(x, i), e.load(mean, i))
            e.store(builder.fadd(e.load(sums, i), g), sums, i)
            e.store(e.multiply_add(g, centred, e.load(products, i)), products, i)

        _each(context, builder, count, step)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _spread_gradients(typing, gy, y, x, mean, a, b, c, relu, gx, has_g, g):
    """`slow_spread_gradients`, emitted."""
    signature = types.void(gy, y, x, mean, a, b, c, types.boolean, gx, types.boolean, g)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = Emitter(context, builder, TILE.lanes)
        gy, y, x, mean, a, b, c, relu, gx, has_g, g = arguments
        kinds = signature.args
        count = e.count(kinds[0], gy)
        gy, y, x, mean, a, b, c = (e.data(kinds[i], arguments[i]) for i in range(7))
        gx, g = e.data(kinds[8], gx), e.data(kinds[10], g)

        def step(e: Emitter, i: Any) -> None:
            masked = _gradient(e, gy, y, relu, i)
            centred = builder.fsub(e.load(x, i), e.load(mean, i))
            rest = e.multiply_add(e.load(b, i), centred, e.load(c, i))
            e.store(e.multiply_add(e.load(a, i), masked, rest), gx, i)
            with builder.if_then(has_g):
                e.store(masked, g, i)

        _each(context, builder, count, step)
        return context.get_dummy_value()

    return signature, emit


add_gradients = _add_gradients if COMPILED else slow_add_gradients
spread_gradients = _spread_gradients if COMPILED else slow_spread_gradients


@compiled
def _block_sums(gy, y, x, mean, relu, total_g, total_product):
    """Sums of g and of g * (x - mean) over a block, for each column."""
    width = len(mean)
    sums, products = np.zeros_like(mean), np.zeros_like(mean)
    for run in range(0, len(x), RUN * width):
        for start in range(run, min(run + RUN * width, len(x)), width):
            stop = min(start + width, len(x))
            add_gradients(gy[start:stop], y[start:stop], x[start:stop], mean, relu, sums, products)
        _flush(sums, total_g)
        _flush(products, total_product)


@compiled(parallel=True)
def _all_sums(blocks, gy, y, x, mean, relu, sums, products, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _block_sums(
                gy[start:stop], y[start:stop], x[start:stop], mean, relu,
                sums[task], products[task],
            )  # fmt: skip
            task = take(counter)


def _sums(
    blocks: Blocks, gy: Array, y: Array, x: Array, mean: Array, relu: bool
) -> tuple[Array, Array]:
    """Sums of g and of g * (x - mean) for each channel [C], in float64. `mean` is [width]."""
    sums = np.zeros((2, blocks.tasks, blocks.width))
    _all_sums(blocks, gy, y, x, mean, relu, *sums, _workers(blocks), new_counter())
    g, product = sums.reshape(2, -1, blocks.channels).sum(axis=1)
    return g, product


@compiled
def _spread_block(gy, y, x, mean, a, b, c, relu, gx, has_g, g):
    for start in range(0, len(gy), len(mean)):
        stop = min(start + len(mean), len(gy))
        spread_gradients(
            gy[start:stop], y[start:stop], x[start:stop], mean, a, b, c, relu,
            gx[start:stop], has_g, g[start:stop],
        )  # fmt: skip


@compiled(parallel=True)
def _spread_all(blocks, gy, y, x, mean, a, b, c, relu, gx, has_g, g, workers, counter):
    for _ in prange(workers):
        task = blocks.tasks - 1 - take(counter)
        while task >= 0:
            start, stop = _block(blocks, task)
            _spread_block(
                gy[start:stop], y[start:stop], x[start:stop], mean, a, b, c, relu,
                gx[start:stop], has_g, g[start:stop],
            )  # fmt: skip
            task = blocks.tasks - 1 - take(counter)


def _shortcut_gradient(
    gy: Array, gx: Array, residual: bool, relu: bool
) -> tuple[bool, Array, Array | None]:
    """Whether a pass has to write g, where (anywhere, if not), and the shortcut's gradient.

    That is g; without ReLU it is gy itself.
    """
    if not relu or not residual:
        return False, gx, gy if residual else None
    g = aligned(gy.shape)
    return True, g, g


def batch_norm_g(
    gy: Array,
    x: Array,
    y: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """(gx, ggamma, gbeta, gresidual) of `batch_norm`. With d = x - mean and M numbers a channel:

    gbeta = sum g    ggamma = sum g * d / std
    gx = gamma / std * g  -  gamma * ggamma / (std^2 * M) * d  -  gamma * gbeta / (std * M)
    """
    if not _suits(gy, x, y if relu else None, channels=(gamma, mean, var)):
        return array.batch_norm_g(gy, x, y, gamma, mean, var, eps, residual, relu, out)
    gx, blocks = empty(out, x.shape), _cut(x)
    has_g, g, gresidual = _shortcut_gradient(gy, gx, residual, relu)
    gy, x, means = _flat(gy), _flat(x), _columns(mean, blocks)
    y = _flat(y) if relu else gy
    gbeta, product = _sums(blocks, gy, y, x, means, relu)
    std = np.sqrt(var.astype(np.float64) + eps)
    a, ggamma, count = gamma / std, product / std, blocks.size // blocks.channels
    factors = a, -a * ggamma / (std * count), -a * gbeta / count
    _spread_all(
        blocks, gy, y, x, means, *[_columns(f, blocks) for f in factors], relu,
        gx.reshape(-1), has_g, g.reshape(-1), _workers(blocks), new_counter(),
    )  # fmt: skip
    return gx, ggamma.astype(np.float32), gbeta.astype(np.float32), gresidual


@compiled
def _scale_block(gy, y, a, relu, gx, has_g, g):
    """gx = a * g, with g = gy where y > 0; g if has_g."""
    for start in range(0, len(gy), len(a)):
        stop = min(start + len(a), len(gy))
        gy_row, gx_row, y_row, g_row = gy[start:stop], gx[start:stop], y[start:stop], g[start:stop]
        if has_g:
            _relu_gx_block(gy_row, y_row, g_row)
            for c in range(len(g_row)):
                gx_row[c] = a[c] * g_row[c]
        else:
            for c in range(len(gy_row)):
                gx_row[c] = a[c] * (np.float32(0) if relu and not y_row[c] > 0 else gy_row[c])


@compiled(parallel=True)
def _scale_all(blocks, gy, y, a, relu, gx, has_g, g, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _scale_block(
                gy[start:stop], y[start:stop], a, relu, gx[start:stop], has_g, g[start:stop]
            )
            task = take(counter)


def fixed_batch_norm_g(
    gy: Array,
    x: Array | None,
    y: Array | None,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """(gx, ggamma, gbeta, gresidual) of `fixed_batch_norm`: gx = g * gamma / std, no more."""
    if not _suits(gy, x, y if relu else None, channels=(gamma, mean, var)):
        return array.fixed_batch_norm_g(gy, x, y, gamma, mean, var, eps, residual, relu, out)
    gx, blocks = empty(out, gy.shape), _cut(gy)
    has_g, g, gresidual = _shortcut_gradient(gy, gx, residual, relu)
    gy = _flat(gy)
    y = _flat(y) if relu else gy
    std = np.sqrt(var.astype(np.float64) + eps)
    _scale_all(
        blocks, gy, y, _columns(gamma / std, blocks), relu,
        gx.reshape(-1), has_g, g.reshape(-1), _workers(blocks), new_counter(),
    )  # fmt: skip
    if x is None:
        return gx, None, None, gresidual
    gbeta, product = _sums(blocks, gy, y, _flat(x), _columns(mean, blocks), relu)
    return gx, (product / std).astype(np.float32), gbeta.astype(np.float32), gresidual


# --- ReLU alone ----------------------------------------------------------------------------------


@compiled
def _relu_block(x, y):
    for i in range(len(x)):
        value = x[i]
        y[i] = np.float32(0) if value < 0 else value


@compiled
def _relu_gx_block(gy, y, gx):
    for i in range(len(gy)):
        value = gy[i]
        gx[i] = value if y[i] > 0 else np.float32(0)


@compiled(parallel=True)
def _relu_all(blocks, x, y, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _relu_block(x[start:stop], y[start:stop])
            task = take(counter)


@compiled(parallel=True)
def _relu_gx_all(blocks, gy, y, gx, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _relu_gx_block(gy[start:stop], y[start:stop], gx[start:stop])
            task = take(counter)


@compiled
def _add_block(a, b, y):
    for i in range(len(y)):
        y[i] = a[i] + b[i]


@compiled(parallel=True)
def _add_all(blocks, a, b, y, workers, counter):
    for _ in prange(workers):
        task = take(counter)
        while task < blocks.tasks:
            start, stop = _block(blocks, task)
            _add_block(a[start:stop], b[start:stop], y[start:stop])
            task = take(counter)


def add(a: Array, b: Array, out: Array | None = None) -> Array:
    """y = a + b; `out` may be one of them."""
    if a.size < BLOCK_NUMBERS or not _suits(a, b):
        return array.add(a, b, out)
    y, blocks = empty(out, a.shape), _cut(a)
    _add_all(blocks, _flat(a), _flat(b), y.reshape(-1), _workers(blocks), new_counter())
    return y


def relu(x: Array, out: Array | None = None) -> Array:
    """y = 0 where x < 0, else x."""
    if not _suits(x):
        return array.relu(x, out)
    y, blocks = empty(out, x.shape), _cut(x)
    _relu_all(blocks, _flat(x), y.reshape(-1), _workers(blocks), new_counter())
    return y


def relu_gx(gy: Array, y: Array, out: Array | None = None) -> Array:
    """gx = gy where y > 0, else 0."""
    if not _suits(gy, y):
        return array.relu_gx(gy, y, out)
    gx, blocks = empty(out, gy.shape), _cut(gy)
    _relu_gx_all(blocks, _flat(gy), _flat(y), gx.reshape(-1), _workers(blocks), new_counter())
    return gx
