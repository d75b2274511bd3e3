"""The gradient of a convolution by its weights, and of a bias: sums over all output pixels.

    gw[r,s,c,k] = sum over n, p, q of x[n, p*stride + r - top, q*stride + s - left, c] * gy[n,p,q,k]

This is a matrix product, too, but one whose inner sums are very long (50,176 pixels for a batch of
16 at 56x56) and whose result may be as small as 64 x 64. So it has a micro-kernel of its own: a
tile of gw, ROWS input channels x PANEL output channels, stays in registers while a block of some
400 pixels passes by, and is then added to what earlier blocks gave. (Many short sums, added up, are
also more exact than a long one.)

For each block, a worker copies what it needs in the order in which tiles read it:

    gy as [panels of K][pixels][PANEL]
    x, with its border of zeros, as [groups of C][pixels of the window][ROWS]

Copying costs one step for dozens of multiplications. It is repaid because channels at a pitch of
1024 or 2048 bytes would fall into the same few lines of the first-level cache and push each other
out. The taps of a kernel need no copies of x: pixel i meets tap (r, s) at window pixel
`at[i] + r * width + s`.

A task is a range of pixels, a range of input channels and one of output channels. Where gw is
small, several ranges of pixels give partial sums of the whole of it; these are added up at the end.
Tasks depend on the shapes only, so the result does not depend on the number of threads.

Where does the time go? On a Zen 3, tiles reach 97 percent of what the processor can do in blocks of
400 pixels, 90 in blocks of 112. To copy a number takes about a cycle if it comes from memory, half
of one from the third-level cache; in a cycle, tiles do 16 products. Each range of C means a copy of
gy and each range of K one of x: the fewer there are, the better.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from resnet_np.kernels import NO_PADDING, Array, Padding, Pair
from resnet_np.kernels.cpu.arrays import aligned, empty
from resnet_np.kernels.cpu.compiling import COMPILED, compiled
from resnet_np.kernels.cpu.microkernel import LANES, PANEL, ROWS
from resnet_np.kernels.cpu.target import TILE
from resnet_np.kernels.cpu.tasks import new_counter, share, take, worker_count
from resnet_np.kernels.cpu.vectors import Emitter

# Numbers of x in one group of channels, and of gy in one panel, of a block: about what the
# first-level cache holds. (A tile's start and end cost as much as some 10 pixels.)
BLOCK_NUMBERS = 9 * 1024
# Numbers of x, and of gy, that a task copies for a block: most stay in the second-level cache.
COPIED_NUMBERS = 112 * 1024
PARTIAL_NUMBERS = 4 * 2**20  # of all partial sums together: 16 MiB
# Each costs as much time as some dozen pixels, so they are to be over so many; unless all of them
# together stay in a cache.
PARTIAL_PIXELS = 750
CHEAP_NUMBERS = 512 * 1024
# Enough for the threads of a large machine, where the shape allows; and where channels have to be
# divided for it, which means more copies.
TASKS, FEWEST_TASKS = 32, 16
BIAS_PIXELS = 256  # in each partial sum of a bias's gradient
ADDED = 1024  # numbers of partial sums that are added at a time
UNROLL = 4  # pixels in one turn of the micro-kernel's loop
AHEAD = 16 // UNROLL  # in each turn, a line (64 bytes) of the next block's x and gy is called for


# --- the micro-kernel ----------------------------------------------------------------------------


def slow_add_tile(
    gw: Array, w0: int, pitch: int, fresh: bool,
    x: Array, x0: int, x_at: Array, g: Array, g0: int, pixels: int,
    next_x: Array, x1: int, next_g: Array, g1: int,
) -> None:  # fmt: skip
    """gw[row, k] += sum over i of x[x_at[i] + row] * g[i, k]: ROWS x PANEL sums. Flat arrays.

    gw, w0, pitch : sum (row, k) is at gw[w0 + row * pitch + k]; with `fresh`, it starts from zero
    x, x0, x_at : pixel i's channels are at x[x0 + x_at[i]] and after
    g, g0 : [pixels, PANEL] from g[g0] on
    next_x, x1, next_g, g1 : what lies from here on, AHEAD numbers a pixel, will be wanted soon
    """
    rows = x[x0 + x_at[:pixels, None] + np.arange(ROWS)]  # [pixels, ROWS]
    total = rows.T @ g[g0 : g0 + pixels * PANEL].reshape(pixels, PANEL)
    for row in range(ROWS):
        place = slice(w0 + row * pitch, w0 + row * pitch + PANEL)
        gw[place] = total[row] if fresh else gw[place] + total[row]


def _make_add_tile(rows: int, vectors: int, lanes: int) -> Any:
    panel = vectors * lanes

    @intrinsic
    def add_tile(typing, gw, w0, pitch, fresh, x, x0, x_at, g, g0, pixels, next_x, x1, next_g, g1):
        """`slow_add_tile`, emitted: the same arguments, the same result."""
        integer = types.intp
        signature = types.void(
            gw, integer, integer, types.boolean, x, integer, x_at, g, integer, integer,
            next_x, integer, next_g, integer,
        )  # fmt: skip

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(context, builder, lanes)
            gw, w0, pitch, fresh, x, x0, x_at, g, g0, pixels, next_x, x1, next_g, g1 = arguments
            kinds = signature.args
            gw, x = e.at(e.data(kinds[0], gw), w0), e.at(e.data(kinds[4], x), x0)
            x_at, g = e.data(kinds[6], x_at), e.at(e.data(kinds[7], g), g0)
            ahead = e.at(e.data(kinds[10], next_x), x1), e.at(e.data(kinds[12], next_g), g1)

            tile = [(row, v) for row in range(rows) for v in range(vectors)]
            sums = {place: e.variable() for place in tile}
            for place in tile:
                e.set(sums[place], e.constant(0.0))

            def step(i: Any) -> None:
                """One pixel: 2 vectors of gy, 6 numbers of x, 12 multiplications."""
                line, pixel = e.at(g, builder.mul(i, e.int(panel))), e.at(x, e.number(x_at, i))
                gradients = [e.load(line, e.int(v * lanes)) for v in range(vectors)]
                for row in range(rows):
                    number = e.spread(e.number(pixel, e.int(row)))
                    for v in range(vectors):
                        total = e.multiply_add(number, gradients[v], e.get(sums[row, v]))
                        e.set(sums[row, v], total)

            places = [e.at(gw, builder.mul(pitch, e.int(row))) for row in range(rows)]
            for place in places:
                e.prefetch(place, write=True)

            most = builder.and_(pixels, e.int(-UNROLL))
            with e.loop(e.int(0), most, UNROLL) as i:
                for address in ahead:
                    e.prefetch(e.at(address, builder.mul(i, e.int(AHEAD))), write=False)
                for n in range(UNROLL):
                    step(builder.add(i, e.int(n)))
            with e.loop(most, pixels) as i:
                step(i)

            with builder.if_then(builder.not_(fresh)):
                for row, v in tile:
                    earlier = e.load(places[row], e.int(v * lanes))
                    e.set(sums[row, v], builder.fadd(earlier, e.get(sums[row, v])))
            for row, v in tile:
                e.store(e.get(sums[row, v]), places[row], e.int(v * lanes))
            return context.get_dummy_value()

        return signature, emit

    return add_tile


def _make_slow_deal(wide: int, lanes: int) -> Any:
    moved = -(-wide // lanes) * lanes

    def deal(
        source: Array, s: int, step: int, pixels: int, groups: int,
        target: Array, t: int, place: int, pitch: int,
    ) -> None:  # fmt: skip
        """Groups of `wide` channels of some pixels, each group to a place of its own.

        Group j of pixel i goes from source[s + i * step + j * wide] to
        target[t + i * place + j * pitch], in whole vectors: more than `wide` numbers are read and
        written where that is no multiple of `lanes`.
        """
        for i in range(pixels):
            for j in range(groups):
                start, to = s + i * step + j * wide, t + i * place + j * pitch
                target[to : to + moved] = source[start : start + moved]

    return deal


def _make_deal(wide: int, lanes: int) -> Any:
    @intrinsic
    def deal(typing, source, s, step, pixels, groups, target, t, place, pitch):
        """The same, emitted."""
        integer = types.intp
        signature = types.void(
            source, integer, integer, integer, integer, target, integer, integer, integer
        )

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(context, builder, lanes)
            source, s, step, pixels, groups, target, t, place, pitch = arguments
            source = e.at(e.data(signature.args[0], source), s)
            target = e.at(e.data(signature.args[5], target), t)
            with e.loop(e.int(0), pixels) as i:
                pixel = e.at(source, builder.mul(i, step))
                places = e.at(target, builder.mul(i, place))
                with e.loop(e.int(0), groups) as j:
                    start = e.at(pixel, builder.mul(j, e.int(wide)))
                    to = e.at(places, builder.mul(j, pitch))
                    for v in range(0, wide, lanes):
                        e.store(e.load(start, e.int(v)), to, e.int(v))
            return context.get_dummy_value()

        return signature, emit

    return deal


if not COMPILED:
    add_tile = slow_add_tile
    deal_rows, deal_panels = _make_slow_deal(ROWS, LANES), _make_slow_deal(PANEL, LANES)
else:
    add_tile = _make_add_tile(ROWS, TILE.vectors, LANES)
    deal_rows, deal_panels = _make_deal(ROWS, LANES), _make_deal(PANEL, LANES)


# --- how the work is cut -------------------------------------------------------------------------


class Cut(NamedTuple):
    """A convolution's geometry, and how its sums are cut into blocks and tasks.

    Output pixel (p, q) of a block begins at pixel (p * stride_r, q * stride_s) of its window; the
    window's row i is row i * step_r of x.
    """

    images: int
    rows: int
    columns: int
    height: int
    width: int
    channels: int
    k: int
    stride_r: int
    stride_s: int
    step_r: int
    step_s: int
    top: int
    left: int
    taps_r: int
    taps_s: int
    run: int  # rows of gw for each tap
    wide: int  # numbers of a window's pixel that lie side by side
    window_columns: int
    across: int  # blocks: ranges of images, and of rows
    down: int
    pixel_ranges: int  # tasks
    c_ranges: int
    k_ranges: int
    x_pitch: int  # from one group of channels, one panel, to the next
    g_pitch: int

    @property
    def block_pixels(self) -> int:
        """Output pixels of the largest block."""
        return up(self.images, self.across) * up(self.rows, self.down) * self.columns

    @property
    def window_pixels(self) -> int:
        """Pixels of its window."""
        rows = (up(self.rows, self.down) - 1) * self.stride_r + self.taps_r
        return up(self.images, self.across) * rows * self.window_columns

    @property
    def groups(self) -> int:
        """Groups of channels of a task, as they are copied."""
        return up(up(self.run, ROWS), self.c_ranges) if self.wide == ROWS else 1

    @property
    def panels(self) -> int:
        return up(up(self.k, PANEL), self.k_ranges)


class Room(NamedTuple):
    """Where a worker puts its copies, one row for each worker, and where a pixel's are."""

    x: Array
    gy: Array
    edge: Array
    x_at: Array  # the place of each output pixel's first tap; the same for all blocks


def up(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@lru_cache(1024)
def cut(
    x_shape: tuple[int, ...],
    gy_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
) -> Cut:
    """How conv2d_gw goes about these shapes."""
    n, h, w, c = x_shape
    _, p, q, k = gy_shape
    r, s = size
    (top, bottom), (left, _) = padding
    if (r, top, bottom) == (1, 0, 0) and h == p * stride[0]:  # images on top of each other
        n, h, p = 1, n * h, n * p
    # A single tap never meets the pixels between: they are not copied.
    step_r, step_s = stride[0] if r == 1 else 1, stride[1] if s == 1 else 1
    stride_r, stride_s = stride[0] // step_r, stride[1] // step_s
    # With few channels, the S*C numbers that a row of the kernel meets, neighbours in x, count as
    # the channels of one tap.
    taps_s, run, wide = (s, c, ROWS) if c >= ROWS else (1, s * c, c)
    pixels = BLOCK_NUMBERS // (PANEL + wide * stride_r * stride_s)
    down = up(p, max(1, pixels // q))
    across = up(n, max(1, pixels // (p * q))) if down == 1 else n
    blocks = Cut(
        n, p, q, h, w, c, k, stride_r, stride_s, step_r, step_s, top, left, r, taps_s, run, wide,
        (q - 1) * stride_s + s, across, down, 1, 1, 1, 0, 0,
    )  # fmt: skip
    return _with_ranges(blocks)


def _with_ranges(cut: Cut) -> Cut:
    """With as many ranges of channels as keep a task's copies small, then enough for many tasks."""
    groups, panels, pixels = cut.groups, cut.panels, cut.block_pixels
    # Pitches that are no powers of two, with room for the numbers that a move writes too many.
    x_pitch = up(cut.window_pixels * cut.wide, 16) * 16 + 16
    g_pitch = (pixels + 1) * PANEL
    c_ranges = min(groups, up(groups * x_pitch, COPIED_NUMBERS))
    k_ranges = min(panels, up(panels * g_pitch, COPIED_NUMBERS))
    numbers = cut.taps_r * cut.taps_s * cut.run * cut.k
    worth = max(cut.images * cut.rows * cut.columns // PARTIAL_PIXELS, CHEAP_NUMBERS // numbers)
    most = min(worth, PARTIAL_NUMBERS // numbers, cut.across * cut.down)
    pixel_ranges = max(1, min(most, up(TASKS, c_ranges * k_ranges)))
    while pixel_ranges * c_ranges * k_ranges < FEWEST_TASKS:
        # Another range of C copies all of gy once more, one of K all of x.
        if groups * x_pitch * k_ranges > panels * g_pitch * c_ranges and groups >= 8 * c_ranges:
            c_ranges *= 2
        elif panels >= 8 * k_ranges:
            k_ranges *= 2
        else:
            break
    return cut._replace(
        pixel_ranges=pixel_ranges, c_ranges=c_ranges, k_ranges=k_ranges,
        x_pitch=x_pitch, g_pitch=g_pitch,
    )  # fmt: skip


@lru_cache(1024)
def _first_taps(cut: Cut) -> Array:
    """The place in its window of each output pixel's first tap: [pixels of the largest block]."""
    images, rows = up(cut.images, cut.across), up(cut.rows, cut.down)
    height = (rows - 1) * cut.stride_r + cut.taps_r
    n, p, q = np.ogrid[:images, :rows, : cut.columns]
    pixels = (n * height + p * cut.stride_r) * cut.window_columns + q * cut.stride_s
    return (pixels * cut.wide).ravel()


def rooms(cut: Cut) -> Room:
    """Room for the copies of all workers."""
    workers = worker_count()
    return Room(
        aligned((workers, cut.groups * cut.x_pitch + ROWS * PANEL)),
        aligned((workers, cut.panels * cut.g_pitch)),
        aligned((workers, ROWS * PANEL)),
        _first_taps(cut),
    )


# --- the sums ------------------------------------------------------------------------------------


@compiled
def _whole(numbers, end, s, step, pixels):
    """How many pixels can be read in whole vectors, and where the others begin in `end`."""
    last = len(numbers) - len(end) // 2
    whole = min(pixels, max(0, (last - s) // step + 1))
    return whole, s + whole * step - last


@compiled
def _copy_gradients(cut, gy, end, n0, n1, p0, p1, panel0, panels, room):
    """The block's gy as [panels, pixels, PANEL]; the number of pixels.

    Where K is no multiple of PANEL, the last panel holds more than its channels: whatever comes
    after them. Nobody keeps those sums.
    """
    pixels, t = (p1 - p0) * cut.columns, 0
    for n in range(n0, n1):
        s = (n * cut.rows + p0) * cut.columns * cut.k + panel0 * PANEL
        whole, s1 = _whole(gy, end, s, cut.k, pixels)
        t1 = t + whole * PANEL
        deal_panels(gy, s, cut.k, whole, panels, room.gy, t, PANEL, cut.g_pitch)
        deal_panels(end, s1, cut.k, pixels - whole, panels, room.gy, t1, PANEL, cut.g_pitch)
        t += pixels * PANEL
    return t // PANEL


@compiled
def _copy_window(cut, x, end, n0, n1, p0, p1, group0, groups, room):
    """The block's part of x as [groups, pixels of the window, wide], zeros for the border.

    As above, the last group holds more than its channels.
    """
    if cut.wide < ROWS:
        groups = 1
    height, width = (p1 - p0 - 1) * cut.stride_r + cut.taps_r, cut.window_columns
    # The window's columns before, inside and after x.
    before = min(width, -(-cut.left // cut.step_s))
    inside = max(0, min(width, (cut.width - 1 + cut.left) // cut.step_s + 1) - before)
    w, step = before * cut.step_s - cut.left, cut.step_s * cut.channels
    zeros = len(end) // 2
    t = 0
    for n in range(n0, n1):
        for row in range(height):
            h = (p0 * cut.stride_r + row) * cut.step_r - cut.top
            if 0 <= h < cut.height:
                s = ((n * cut.height + h) * cut.width + w) * cut.channels + group0 * ROWS
                whole, s1 = _whole(x, end, s, step, inside)
                t0 = t + before * cut.wide
                t1, t2 = t0 + whole * cut.wide, t0 + inside * cut.wide
                deal_rows(end, zeros, 0, before, groups, room.x, t, cut.wide, cut.x_pitch)
                deal_rows(x, s, step, whole, groups, room.x, t0, cut.wide, cut.x_pitch)
                deal_rows(end, s1, step, inside - whole, groups, room.x, t1, cut.wide, cut.x_pitch)
                after = width - before - inside
                deal_rows(end, zeros, 0, after, groups, room.x, t2, cut.wide, cut.x_pitch)
            else:
                deal_rows(end, zeros, 0, width, groups, room.x, t, cut.wide, cut.x_pitch)
            t += width * cut.wide
    # Tiles read a little further than the last pixel.
    deal_rows(end, zeros, 0, 1, 1, room.x, t, 0, 0)


@compiled
def _add_edge(gw, w0, pitch, fresh, edge, rows, columns):
    """The part of a tile [ROWS, PANEL] that lies inside of gw."""
    for row in range(rows):
        for column in range(columns):
            place = w0 + row * pitch + column
            total = edge[row * PANEL + column]
            gw[place] = total if fresh else gw[place] + total


@compiled
def _bounds(cut, block):
    """The images n0 to n1, and of these the rows p0 to p1, of a block."""
    i, j = block // cut.down, block % cut.down
    n0, n1 = share(cut.images, i, cut.across)
    p0, p1 = share(cut.rows, j, cut.down)
    return n0, n1, p0, p1


@compiled
def _places(cut, block):
    """Where a block's numbers lie: x from, to, gy from, to."""
    n0, n1, p0, p1 = _bounds(cut, block)
    first = max(0, p0 * cut.stride_r - cut.top)
    last = min(cut.height, (p1 - 1) * cut.stride_r + cut.taps_r - cut.top)
    row = cut.width * cut.channels
    x0, x1 = (n0 * cut.height + first) * row, ((n1 - 1) * cut.height + last) * row
    row = cut.columns * cut.k
    g0, g1 = (n0 * cut.rows + p0) * row, ((n1 - 1) * cut.rows + p1) * row
    return x0, x1, g0, g1


@compiled
def _add_block(cut, x, gy, gw, w0, fresh, group0, groups, panel0, panels, pixels, ahead, room):
    """All sums of a task, over a block that has been copied; meanwhile the next one is fetched."""
    x1, x_last, g1, g_last = ahead
    window, gradients, x_at, edge = room.x, room.gy, room.x_at, room.edge
    pitch = cut.x_pitch if cut.wide == ROWS else ROWS
    for panel in range(panels):
        k0, g0 = (panel0 + panel) * PANEL, panel * cut.g_pitch
        columns = min(PANEL, cut.k - k0)
        for group in range(groups):
            c = (group0 + group) * ROWS
            rows = min(ROWS, cut.run - c)
            place = w0 + c * cut.k + k0
            for r in range(cut.taps_r):
                for s in range(cut.taps_s):
                    x0 = group * pitch + (r * cut.window_columns + s) * cut.wide
                    if rows == ROWS and columns == PANEL:
                        add_tile(
                            gw, place, cut.k, fresh, window, x0, x_at, gradients, g0, pixels,
                            x, x1, gy, g1,
                        )  # fmt: skip
                    else:
                        add_tile(
                            edge, 0, PANEL, True, window, x0, x_at, gradients, g0, pixels,
                            x, x1, gy, g1,
                        )  # fmt: skip
                        _add_edge(gw, place, cut.k, fresh, edge, rows, columns)
                    place += cut.run * cut.k
                    x1, g1 = min(x_last, x1 + pixels * AHEAD), min(g_last, g1 + pixels * AHEAD)


@compiled
def _sum_task(cut, x, x_end, gy, gy_end, gw, task, room):
    """One task: a part of gw, summed over a range of pixels."""
    all_groups, all_panels, blocks = -(-cut.run // ROWS), -(-cut.k // PANEL), cut.across * cut.down
    k_range, rest = task % cut.k_ranges, task // cut.k_ranges
    c_range, pixel_range = rest % cut.c_ranges, rest // cut.c_ranges
    panel0, panel1 = share(all_panels, k_range, cut.k_ranges)
    group0, group1 = share(all_groups, c_range, cut.c_ranges)
    panels, groups = panel1 - panel0, group1 - group0
    w0 = pixel_range * cut.taps_r * cut.taps_s * cut.run * cut.k
    first, stop = share(blocks, pixel_range, cut.pixel_ranges)
    for block in range(first, stop):
        n0, n1, p0, p1 = _bounds(cut, block)
        _copy_window(cut, x, x_end, n0, n1, p0, p1, group0, groups, room)
        pixels = _copy_gradients(cut, gy, gy_end, n0, n1, p0, p1, panel0, panels, room)
        ahead = _places(cut, min(block + 1, stop - 1))
        _add_block(
            cut, x, gy, gw, w0, block == first,
            group0, groups, panel0, panels, pixels, ahead, room,
        )  # fmt: skip


@compiled(parallel=True)
def _sum_products(cut, x, x_end, gy, gy_end, gw, rooms, counter):
    """gw [pixel_ranges, R*S*C, K]: the sums over each range of pixels."""
    tasks = cut.pixel_ranges * cut.c_ranges * cut.k_ranges
    for worker in prange(len(rooms.x)):
        room = Room(rooms.x[worker], rooms.gy[worker], rooms.edge[worker], rooms.x_at)
        task = take(counter)
        while task < tasks:
            _sum_task(cut, x, x_end, gy, gy_end, gw, task, room)
            task = take(counter)


@compiled(parallel=True)
def _add_up(parts, total):
    """total[i] = sum over j of parts[j, i], in the order of j."""
    pieces = -(-len(total) // ADDED)
    for piece in prange(pieces):
        a, b = piece * ADDED, min(len(total), piece * ADDED + ADDED)
        total[a:b] = parts[0, a:b]
        for j in range(1, len(parts)):
            for i in range(a, b):
                total[i] += parts[j, i]


def _end(numbers: Array, reach: int) -> Array:
    """The last `reach` numbers, or zeros and all of them, and then as many zeros.

    What is copied in whole vectors is taken from here where it would read past the end.
    """
    end = np.zeros(2 * reach, np.float32)
    count = min(reach, len(numbers))
    end[reach - count : reach] = numbers[len(numbers) - count :]
    return end


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    gw = empty(out, w_shape)
    work = cut(x.shape, gy.shape, (w_shape[0], w_shape[1]), stride, padding)
    flat = gw.reshape(-1)
    parts = flat if work.pixel_ranges == 1 else aligned((work.pixel_ranges, len(flat)))
    x, gy = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1)
    x_end, gy_end = _end(x, work.groups * ROWS + LANES), _end(gy, work.panels * PANEL)
    _sum_products(work, x, x_end, gy, gy_end, parts.reshape(-1), rooms(work), new_counter())
    if work.pixel_ranges > 1:
        _add_up(parts, flat)
    return gw


def linear_gw(gy: Array, x: Array, out: Array | None = None) -> Array:
    """That of a 1x1 convolution on images of one pixel."""
    shape = (x.shape[1], gy.shape[1])
    gw = empty(out, shape)
    conv2d_gw(
        gy[:, None, None], x[:, None, None], (1, 1, *shape), (1, 1), NO_PADDING, gw[None, None]
    )
    return gw


@compiled(parallel=True)
def _sum_rows(rows, parts):
    """rows [pixels, K]: parts[i] is the sum of an even share of them."""
    count = len(rows)
    for part in prange(len(parts)):
        total = parts[part]
        total[:] = 0
        for row in range(count * part // len(parts), count * (part + 1) // len(parts)):
            for k in range(len(total)):
                total[k] += rows[row, k]


def bias_gb(gy: Array, out: Array | None = None) -> Array:
    """Sums of at most BIAS_PIXELS pixels, added up as array does it."""
    k = gy.shape[-1]
    gb = empty(out, (k,))
    rows = np.ascontiguousarray(gy).reshape(-1, k)
    parts = aligned((max(1, -(-len(rows) // BIAS_PIXELS)), k))
    _sum_rows(rows, parts)
    _add_up(parts, gb)
    return gb
