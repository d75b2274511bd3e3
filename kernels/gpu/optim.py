"""The optimizers' steps: one launch for all parameters of a call. Definitions are in `array.py`.

A kernel finds the arrays by two tables of integers on the card: their addresses, and which part of
which parameter each block changes (see optim.cu). Tables are made once and kept, and need never be
thrown away for being out of date: what a table says is all that it depends on, and what it is
looked up by. Where arrays have moved, as gradients may from one step to the next, another table
serves, and the one that nobody asked for longest is forgotten.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from resnet_np.kernels import Array, array
from resnet_np.kernels.gpu.compiling import THREADS, launch

PART = 16 * 1024  # numbers that a block changes
MOST_TABLES = 64  # of each kind; a network's are some 10 KB

Arrays = tuple[Any, ...]  # of one parameter: itself, its gradient, its states, which may be None


def unscale_step(gs: list[Array], factor: float) -> bool:
    import cupy

    fit, others = _apart(gs)
    found = cupy.zeros(1, "int32")
    _run("unscale", fit, found, float(factor))
    finite = array.unscale_step([g for (g,) in others], factor)
    return finite and not int(found[0])


def sgd_step(
    ws: list[Array],
    gs: list[Array],
    vs: list[Array] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    decay: float,
) -> None:
    fit, others = _apart(ws, gs, vs)
    _run("sgd", fit, float(lr), float(momentum), int(nesterov), float(decay))
    for w, g, v in others:
        array.sgd_step([w], [g], vs and [v], lr, momentum, nesterov, decay)


def rmsprop_step(
    ws: list[Array],
    gs: list[Array],
    squares: list[Array],
    vs: list[Array] | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    decay: float,
) -> None:
    fit, others = _apart(ws, gs, squares, vs)
    _run("rmsprop", fit, float(lr), float(alpha), float(eps), float(momentum), float(decay))
    for w, g, square, v in others:
        array.rmsprop_step([w], [g], [square], vs and [v], lr, alpha, eps, momentum, decay)


def adam_step(
    ws: list[Array],
    gs: list[Array],
    ms: list[Array],
    vs: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    decoupled: bool,
) -> None:
    fit, others = _apart(ws, gs, ms, vs)
    bias_m, bias_v = (1 - beta**step for beta in betas)
    pull, shrink = (0.0, 1 - lr * decay) if decoupled else (decay, 1.0)
    _run(
        "adam", fit, float(lr / bias_m), float(betas[0]), float(betas[1]), float(bias_v),
        float(eps), float(pull), float(shrink),
    )  # fmt: skip
    for w, g, m, v in others:
        array.adam_step([w], [g], [m], [v], step, lr, betas, eps, decay, decoupled)


def _apart(*lists: list[Array] | None) -> tuple[list[Arrays], list[Arrays]]:
    """The arrays of each parameter: those that the kernels can take, and the others.

    The kernels want one dtype for all, and for those of one parameter one shape, without gaps.
    """
    ws = lists[0] or []
    fit: list[Arrays] = []
    others: list[Arrays] = []
    for arrays in zip(*(some or [None] * len(ws) for some in lists), strict=True):
        (fit if _fit(ws[0].dtype, arrays) else others).append(arrays)
    return fit, others


def _fit(dtype: Any, arrays: Arrays) -> bool:
    return all(
        a.dtype == dtype and a.shape == arrays[0].shape and a.flags.c_contiguous
        for a in arrays
        if a is not None
    )


def _run(name: str, parameters: list[Arrays], *arguments: Any) -> None:
    """One launch for all of them."""
    import cupy

    if not parameters:
        return
    # Another stream has its own tables: there, a copy of this one's need not have arrived yet.
    where = cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr
    addresses = (0 if a is None else a.data.ptr for arrays in parameters for a in arrays)
    places = _places(tuple(addresses), *where)
    parts = _parts(tuple(arrays[0].size for arrays in parameters), *where)
    dtype = parameters[0][0].dtype
    launch("optim.cu", name, dtype, (len(parts),), (THREADS,), places, parts, *arguments)


@lru_cache(MOST_TABLES)
def _places(addresses: tuple[int, ...], device: int, stream: int) -> Array:
    """The addresses of each parameter's arrays, one parameter after the other."""
    import cupy

    return cupy.asarray(np.array(addresses, np.int64))


@lru_cache(MOST_TABLES)
def _parts(sizes: tuple[int, ...], device: int, stream: int) -> Array:
    """parts[block] = (parameter, begin, end), for parameters of these sizes."""
    import cupy

    return cupy.asarray(np.array(shared_out(sizes), np.int64).reshape(-1, 3))


def shared_out(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(parameter, begin, end) for each block: parts of PART numbers, the last ones shorter."""
    return [
        (parameter, begin, min(begin + PART, size))
        for parameter, size in enumerate(sizes)
        for begin in range(0, size, PART)
    ]
