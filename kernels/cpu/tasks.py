"""How work is shared: a heap of tasks, and workers that take the next one when they are done.

    for worker in prange(workers):
        task = take(counter)
        while task < tasks:
            ...
            task = take(counter)

Splitting the tasks evenly in advance would make everybody wait for the slowest worker, and on a
machine that does other things, too, somebody is always slow. A task's result does not depend on who
does it: sums are split by tasks, never by workers.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from resnet_np.kernels import Array
from resnet_np.kernels.cpu.compiling import COMPILED, compiled


def slow_take(counter: Array) -> int:
    """The next task's number: counter[0], which is then one higher."""
    task = int(counter[0])
    counter[0] += 1
    return task


@intrinsic
def _take(typing: Any, counter: Any) -> Any:
    """`slow_take`, in one step that no other thread can get between."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), emit


take = _take if COMPILED else slow_take


@compiled
def share(count, part, parts):
    """Where the part begins, and where it ends, if range(count) is cut into even parts."""
    return count * part // parts, count * (part + 1) // parts


def new_counter() -> Array:
    return np.zeros(1, np.int64)


def worker_count() -> int:
    """How many threads Numba may use here (NUMBA_NUM_THREADS, `numba.set_num_threads`)."""
    return numba.get_num_threads() if COMPILED else 1
