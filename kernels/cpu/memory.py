"""Copying and clearing of neighbouring numbers, by the routines that every processor has for that;
and a transposed copy, for which none has one.

Numba has slices for it, but compiles seconds on each assignment to one, for error messages.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resnet_np.kernels import Array
from resnet_np.kernels.cpu.compiling import COMPILED
from resnet_np.kernels.cpu.target import TILE
from resnet_np.kernels.cpu.vectors import Emitter

NUMBER = 4  # bytes
LANES = TILE.lanes


def slow_copy(target: Array, t: int, source: Array, s: int, count: int) -> None:
    """target[t : t + count] = source[s : s + count], of flat float32 arrays."""
    target[t : t + count] = source[s : s + count]


def slow_clear(target: Array, t: int, count: int) -> None:
    """target[t : t + count] = 0."""
    target[t : t + count] = 0


def slow_turn(source: Array, s: int, s_pitch: int, target: Array, t: int, t_pitch: int) -> None:
    """target[t + j * t_pitch + i] = source[s + i * s_pitch + j] for i and j below LANES."""
    for j in range(LANES):
        column = source[s + j : s + j + LANES * s_pitch : s_pitch][:LANES]
        target[t + j * t_pitch : t + j * t_pitch + LANES] = column


def _data(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """The address of a number of an array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


@intrinsic
def _copy(typing, target, t, source, s, count):
    """`slow_copy`, emitted."""
    signature = types.void(target, types.intp, source, types.intp, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, t, source, s, count = arguments
        into = _data(context, builder, signature.args[0], target, t)
        out_of = _data(context, builder, signature.args[2], source, s)
        cgutils.raw_memcpy(builder, into, out_of, count, NUMBER)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _clear(typing, target, t, count):
    """`slow_clear`, emitted."""
    signature = types.void(target, types.intp, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, t, count = arguments
        into = _data(context, builder, signature.args[0], target, t)
        size = builder.mul(count, ir.Constant(count.type, NUMBER))
        cgutils.memset(builder, into, size, 0)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _turn(typing, source, s, s_pitch, target, t, t_pitch):
    """`slow_turn`, emitted: a square of numbers is turned in registers."""
    integer = types.intp
    signature = types.void(source, integer, integer, target, integer, integer)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = Emitter(context, builder, LANES)
        source, s, s_pitch, target, t, t_pitch = arguments
        source = e.at(e.data(signature.args[0], source), s)
        target = e.at(e.data(signature.args[3], target), t)
        rows = [e.load(source, builder.mul(s_pitch, e.int(i))) for i in range(LANES)]
        for j, column in enumerate(e.transpose(rows)):
            e.store(column, target, builder.mul(t_pitch, e.int(j)))
        return context.get_dummy_value()

    return signature, emit


copy = _copy if COMPILED else slow_copy
clear = _clear if COMPILED else slow_clear
turn = _turn if COMPILED else slow_turn
