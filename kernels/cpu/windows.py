"""What pooling does with one window, for all channels: the largest, or the sum, in registers.

A window is a grid of *taps*: `rows` x `columns` pixels, the first at x[start], the others `down`
and `across` numbers further on, and each tap has a number: `tap`, then `tap_down` and `tap_across`
more. Pooling reads the pixels under a window so. On the way back, an input pixel reads the outputs
whose windows it is part of, and that is a grid of taps, too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resnet_np.kernels import Array
from resnet_np.kernels.cpu.compiling import COMPILED
from resnet_np.kernels.cpu.target import TILE
from resnet_np.kernels.cpu.vectors import F32, I32, Emitter

# start, down, across, rows, columns, tap, tap_down, tap_across
Taps = tuple[int, int, int, int, int, int, int, int]

# Channels at a time: four registers' worth (LLVM cuts the vectors up), one's worth, single ones.
LANES = (4 * TILE.lanes, TILE.lanes, 1)


# --- in Python -----------------------------------------------------------------------------------


def _each(taps: Taps) -> Iterator[tuple[int, int]]:
    """The place and the number of each tap."""
    start, down, across, rows, columns, tap, tap_down, tap_across = taps
    for i in range(rows):
        for j in range(columns):
            yield start + i * down + j * across, tap + i * tap_down + j * tap_across


def slow_largest(x: Array, taps: Taps, y: Array, index: Array | None, at: int, c: int) -> None:
    """y[at:at+c] = the largest of each channel, and in `index` the number of its tap, if wanted.

    The search begins with minus infinity at tap 0.
    """
    largest, winner = np.full(c, -np.inf, np.float32), np.zeros(c, np.int32)
    for place, tap in _each(taps):
        value = x[place : place + c]
        wins = (value > largest) | (value != value)  # the second half is true for NaN alone
        largest, winner = np.where(wins, value, largest), np.where(wins, tap, winner)
    y[at : at + c] = largest
    if index is not None:
        index[at : at + c] = winner


def slow_total_where(x: Array, index: Array, taps: Taps, y: Array, at: int, c: int) -> None:
    """y[at:at+c] = the sum of those whose `index` is the number of their tap."""
    total = np.zeros(c, np.float32)
    for place, tap in _each(taps):
        here = slice(place, place + c)
        total = total + np.where(index[here] == tap, x[here], np.float32(0))
    y[at : at + c] = total


def slow_mean(x: Array, taps: Taps, count: np.float32, y: Array, at: int, c: int) -> None:
    """y[at:at+c] = the sum / count."""
    total = np.zeros(c, np.float32)
    for place, _ in _each(taps):
        total = total + x[place : place + c]
    y[at : at + c] = total / count


# --- emitted -------------------------------------------------------------------------------------


def _blocks(context: Any, builder: Any, c: Any) -> Iterator[tuple[Emitter, Any]]:
    """For each width of vectors: what emits them, inside a loop over the channels they fit into."""
    done: Any = ir.Constant(c.type, 0)
    for lanes in LANES:
        e = Emitter(context, builder, lanes)
        end = builder.and_(c, e.int(-lanes))
        with e.loop(done, end, lanes) as channel:
            yield e, channel
        done = end


def _taps(e: Emitter, taps: Any) -> Iterator[tuple[Any, Any]]:
    """Inside a loop over the taps: the place and the number of each, as `_each` has them."""
    start, down, across, rows, columns, tap, tap_down, tap_across = cgutils.unpack_tuple(
        e.builder, taps
    )
    add, mul = e.builder.add, e.builder.mul
    with e.loop(e.int(0), rows) as i:
        place, number = add(start, mul(i, down)), add(tap, mul(i, tap_down))
        with e.loop(e.int(0), columns) as j:
            yield add(place, mul(j, across)), add(number, mul(j, tap_across))


def _number_bits(e: Emitter, tap: Any) -> Any:
    """The number of a tap in all lanes: an int32's bits, that pass for those of a float32."""
    return e.spread(e.builder.bitcast(e.builder.trunc(tap, I32), F32))


@intrinsic
def _largest(typing: Any, x: Any, taps: Any, y: Any, index: Any, at: Any, c: Any) -> Any:
    signature = types.void(x, taps, y, index, types.intp, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, taps, y, index, at, c = arguments
        kinds = signature.args
        for e, channel in _blocks(context, builder, c):
            largest, winner = e.variable(), e.variable()
            e.set(largest, e.constant(-np.inf))
            e.set(winner, e.constant(0.0))
            for place, tap in _taps(e, taps):
                value, before = e.load(e.at(e.data(kinds[0], x), place), channel), e.get(largest)
                larger = builder.fcmp_ordered(">", value, before)
                wins = builder.or_(larger, builder.fcmp_unordered("uno", value, value))
                e.set(largest, builder.select(wins, value, before))
                e.set(winner, builder.select(wins, _number_bits(e, tap), e.get(winner)))
            e.store(e.get(largest), e.at(e.data(kinds[2], y), at), channel)
            if kinds[3] != types.none:
                e.store(e.get(winner), e.at(e.data(kinds[3], index), at), channel)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _total_where(typing: Any, x: Any, index: Any, taps: Any, y: Any, at: Any, c: Any) -> Any:
    signature = types.void(x, index, taps, y, types.intp, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, index, taps, y, at, c = arguments
        kinds = signature.args
        for e, channel in _blocks(context, builder, c):
            integers = ir.VectorType(I32, e.lanes)
            total = e.variable()
            e.set(total, e.constant(0.0))
            for place, tap in _taps(e, taps):
                value = e.load(e.at(e.data(kinds[0], x), place), channel)
                winner = e.load(e.at(e.data(kinds[1], index), place), channel)
                wins = builder.icmp_signed(
                    "==",
                    builder.bitcast(winner, integers),
                    builder.bitcast(_number_bits(e, tap), integers),
                )
                share = builder.select(wins, value, e.constant(0.0))
                e.set(total, builder.fadd(e.get(total), share))
            e.store(e.get(total), e.at(e.data(kinds[3], y), at), channel)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _mean(typing: Any, x: Any, taps: Any, count: Any, y: Any, at: Any, c: Any) -> Any:
    signature = types.void(x, taps, types.float32, y, types.intp, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, taps, count, y, at, c = arguments
        kinds = signature.args
        for e, channel in _blocks(context, builder, c):
            total = e.variable()
            e.set(total, e.constant(0.0))
            for place, _ in _taps(e, taps):
                value = e.load(e.at(e.data(kinds[0], x), place), channel)
                e.set(total, builder.fadd(e.get(total), value))
            quotient = builder.fdiv(e.get(total), e.spread(count))
            e.store(quotient, e.at(e.data(kinds[3], y), at), channel)
        return context.get_dummy_value()

    return signature, emit


largest = _largest if COMPILED else slow_largest
total_where = _total_where if COMPILED else slow_total_where
mean = _mean if COMPILED else slow_mean
