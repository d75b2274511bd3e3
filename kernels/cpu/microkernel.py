"""The micro-kernel: a tile of a convolution's output, computed in registers from start to end.

A processor multiplies and adds two vectors of 8 numbers (AVX2) in each cycle, but loads no more
than two. A dot product loads two vectors for each multiplication and so reaches half of the speed;
one that goes through a cache that is slower still, less. A *register tile* loads less: 6 pixels x 2
vectors of output channels are 12 sums, held in 12 registers. For each input channel it loads 2
vectors of weights and 6 single numbers (each spread over a register), and does 12 multiplications:
8 loads for 12. The rest of the convolution is about feeding this loop.

Why 6 x 2, or 12 x 2 where registers are 32 (AVX-512)? The sums take 12 of 16 registers, the weights
2, a pixel 1. Each sum depends on itself, one step earlier, and a multiplication takes 4 cycles: at
two a cycle at least 8 sums have to be under way. More rows than this, and the compiler begins to
move sums to memory and back.

What a tile computes, with i counting its pixels and k its output channels:

    y[i, k] = relu(b[k] + r[i, k] + s[k] * sum over t, c of x[x_at[i] + runs[t] + c] * w[t, c, k])

An output pixel reads, for each row t of the kernel, one *run* of neighbouring numbers: in NHWC the
S pixels under that row are S*C numbers in a row. So a convolution is nothing but tables of where
runs begin, and there is no im2col.

The loop over c that LLVM makes of this for AVX2, one step of four:

    vmovups      (weights), %ymm0              two vectors of weights
    vmovups      32(weights), %ymm1
    vbroadcastss (pixel 0), %ymm2              one number of a pixel, eight times
    vfmadd231ps  %ymm2, %ymm0, %ymm4           two sums
    vfmadd231ps  %ymm2, %ymm1, %ymm5
    vbroadcastss (pixel 1), %ymm2              ... and so on for six pixels

What is not there yet when it is needed stops everything, and most of it is needed for the first
time by some tile: so each asks in advance for the lines that it will write, and for a share of the
next panel of weights. (Of one image at 224 pixels, that saved a tenth of the time.)
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from resnet_np.kernels import Array
from resnet_np.kernels.cpu.compiling import COMPILED
from resnet_np.kernels.cpu.target import LINE, TILE
from resnet_np.kernels.cpu.vectors import Emitter

ROWS, LANES, PANEL = TILE.rows, TILE.lanes, TILE.channels
UNROLL = 4  # steps of the loop over c in one turn
AHEAD = 8  # numbers of weights that are fetched in advance in each step
SHARES = PANEL // AHEAD  # so many tiles fetch a whole panel


def slow_tile(
    y: Array, y0: int, y_at: Array, i: int,
    x: Array, x0: int, x_at: Array, runs: Array, run: int,
    w: Array, w0: int, w1: int, b: Array, s: Array, has_s: bool, k0: int,
    r: Array, has_r: bool, relu: bool,
) -> None:  # fmt: skip
    """The pixels i to i + ROWS of a block, and PANEL output channels. All arrays are flat.

    y, y0, y_at : where results go: pixel i's begin at y[y0 + y_at[i]]
    x, x0, x_at : where pixels are read: pixel i's first run begins at x[x0 + x_at[i] + runs[0]]
    runs, run : offsets of the runs, and how many numbers each has
    w, w0 : weights of these channels from w[w0] on, [len(runs), run, PANEL]
    w1 : from here on, AHEAD numbers for each step, weights will be wanted soon
    b, k0 : biases of these channels from b[k0] on
    s, has_s : what the sums are multiplied by, from s[k0] on; without it, by nothing
    r, has_r : the shortcut, lying as y does
    """
    weights = w[w0 : w0 + len(runs) * run * PANEL].reshape(-1, PANEL)  # [runs * run, PANEL]
    places = [slice(y0 + start, y0 + start + PANEL) for start in y_at[i : i + ROWS]]
    totals = []
    for place, at in zip(places, x_at[i : i + ROWS], strict=True):
        pixel = np.concatenate([x[:0], *(x[x0 + at + t : x0 + at + t + run] for t in runs)])
        total = pixel @ weights
        total = b[k0 : k0 + PANEL] + (s[k0 : k0 + PANEL] * total if has_s else total)
        totals.append(total + r[place] if has_r else total)
    # Written only now: y may be the shortcut, and a pixel may stand in a tile more than once.
    for place, total in zip(places, totals, strict=True):
        y[place] = np.maximum(total, 0) if relu else total


def make_tile(rows: int, vectors: int, lanes: int) -> Any:
    panel = vectors * lanes

    @intrinsic
    def tile(
        typing, y, y0, y_at, i, x, x0, x_at, runs, run, w, w0, w1, b, s, has_s, k0, r, has_r, relu
    ):
        """`slow_tile`, emitted: the same arguments, the same result."""
        integer, boolean = types.intp, types.boolean
        signature = types.void(
            y, integer, y_at, integer, x, integer, x_at, runs, integer,
            w, integer, integer, b, s, boolean, integer, r, boolean, boolean,
        )  # fmt: skip

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            e = Emitter(context, builder, lanes)
            y, y0, y_at, i, x, x0, x_at, runs, run, *arguments = arguments
            w, w0, w1, b, s, has_s, k0, r, has_r, relu = arguments
            kinds = signature.args
            y, x = e.at(e.data(kinds[0], y), y0), e.at(e.data(kinds[4], x), x0)
            y_at, x_at = e.at(e.data(kinds[2], y_at), i), e.at(e.data(kinds[6], x_at), i)
            runs_count, runs = e.count(kinds[7], runs), e.data(kinds[7], runs)
            ahead = e.at(e.data(kinds[9], w), w1)
            w, r = e.at(e.data(kinds[9], w), w0), e.at(e.data(kinds[16], r), y0)
            b, s = e.at(e.data(kinds[12], b), k0), e.at(e.data(kinds[13], s), k0)

            tile = [(row, v) for row in range(rows) for v in range(vectors)]
            sums = {place: e.variable() for place in tile}
            outputs = [e.number(y_at, e.int(row)) for row in range(rows)]
            pixels = [e.at(x, e.number(x_at, e.int(row))) for row in range(rows)]

            for row in range(rows):
                for k in range(0, panel, LINE):
                    e.prefetch(e.at(y, builder.add(outputs[row], e.int(k))), write=True)
            with builder.if_then(has_r):
                for row in range(rows):
                    for k in range(0, panel, LINE):
                        e.prefetch(e.at(r, builder.add(outputs[row], e.int(k))), write=False)
            for row, v in tile:  # what is scaled at the end gets its bias then
                bias = e.load(b, e.int(v * lanes))
                e.set(sums[row, v], builder.select(has_s, e.constant(0.0), bias))

            def step(starts: list[Any], c: Any, w: Any) -> None:
                """One input channel: 2 vectors of weights, 6 numbers, 12 multiplications."""
                weights = [e.load(w, e.int(v * lanes)) for v in range(vectors)]
                for row in range(rows):
                    number = e.spread(e.number(starts[row], c))
                    for v in range(vectors):
                        total = e.multiply_add(number, weights[v], e.get(sums[row, v]))
                        e.set(sums[row, v], total)

            with e.loop(e.int(0), runs_count) as t:
                starts = [e.at(pixel, e.number(runs, t)) for pixel in pixels]
                run_w = e.at(w, builder.mul(builder.mul(t, run), e.int(panel)))
                run_ahead = e.at(ahead, builder.mul(builder.mul(t, run), e.int(AHEAD)))
                most = builder.and_(run, e.int(-UNROLL))
                with e.loop(e.int(0), most, UNROLL) as c:
                    c_w = e.at(run_w, builder.mul(c, e.int(panel)))
                    lines = e.at(run_ahead, builder.mul(c, e.int(AHEAD)))
                    for line in range(0, UNROLL * AHEAD, LINE):
                        e.prefetch(e.at(lines, e.int(line)), write=False)
                    for n in range(UNROLL):
                        step(starts, builder.add(c, e.int(n)), e.at(c_w, e.int(n * panel)))
                with e.loop(most, run) as c:
                    step(starts, c, e.at(run_w, builder.mul(c, e.int(panel))))

            with builder.if_then(has_s):
                for row, v in tile:
                    scale, bias = e.load(s, e.int(v * lanes)), e.load(b, e.int(v * lanes))
                    e.set(sums[row, v], e.multiply_add(e.get(sums[row, v]), scale, bias))
            with builder.if_then(has_r):
                for row, v in tile:
                    shortcut = e.load(e.at(r, outputs[row]), e.int(v * lanes))
                    e.set(sums[row, v], builder.fadd(e.get(sums[row, v]), shortcut))
            with builder.if_then(relu):
                for place in tile:
                    e.set(sums[place], e.relu(e.get(sums[place])))
            for row, v in tile:
                e.store(e.get(sums[row, v]), e.at(y, outputs[row]), e.int(v * lanes))
            return context.get_dummy_value()

        return signature, emit

    return tile


tile = make_tile(ROWS, TILE.vectors, LANES) if COMPILED else slow_tile
