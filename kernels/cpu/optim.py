"""The optimizers' steps in one pass: every number is read and written once, however many formulas.

The operations and their order are the array kernels', so the results are equal. All factors arrive
as float32: with one of Python's among them, the arithmetic would be in float64.
"""

import math
from typing import Any

import numpy as np
from numba import prange

from resnet_np.kernels import Array, array
from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.tasks import new_counter, take, worker_count

BLOCK = 32 * 1024  # numbers of a task
LEAST_PARALLEL = 2 * BLOCK  # below, waking the other workers takes longer than the work

_NOTHING = np.empty(0, np.float32)  # stands for a velocity that there is none of


def _fit(*arrays: Array | None) -> bool:
    """Whether the kernels can take these: float32, of one shape, without gaps."""
    present = [a for a in arrays if a is not None]
    return all(
        a.dtype == np.float32 and a.flags.c_contiguous and a.shape == present[0].shape
        for a in present
    )


def _flat(a: Array | None) -> Array:
    return _NOTHING if a is None else a.reshape(-1)


def _run(one: Any, shared: Any, w: Array, *arguments: Any) -> None:
    """By one worker, or shared among all."""
    if w.size < LEAST_PARALLEL:
        one(_flat(w), *arguments)
    else:
        shared(_flat(w), *arguments, worker_count(), new_counter())


# --- stochastic gradient descent -----------------------------------------------------------------


@compiled
def _sgd(w, g, v, lr, momentum, nesterov, decay, has_v):
    for i in range(len(w)):
        step = g[i] + decay * w[i] if decay else g[i]
        if has_v:
            v[i] = momentum * v[i] + step
            step = step + momentum * v[i] if nesterov else v[i]
        w[i] -= lr * step


@compiled(parallel=True)
def _shared_sgd(w, g, v, lr, momentum, nesterov, decay, has_v, workers, counter):
    for _ in prange(workers):
        start = take(counter) * BLOCK
        while start < len(w):
            part = slice(start, start + BLOCK)
            _sgd(w[part], g[part], v[part], lr, momentum, nesterov, decay, has_v)
            start = take(counter) * BLOCK


def sgd_step(
    ws: list[Array],
    gs: list[Array],
    vs: list[Array] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    decay: float,
) -> None:
    f = np.float32
    factors = f(lr), f(momentum), nesterov, f(decay), vs is not None
    for w, g, v in zip(ws, gs, vs or [None] * len(ws), strict=True):
        if _fit(w, g, v):
            _run(_sgd, _shared_sgd, w, _flat(g), _flat(v), *factors)
        else:
            array.sgd_step([w], [g], vs and [v], lr, momentum, nesterov, decay)


# --- RMSprop -------------------------------------------------------------------------------------


@compiled
def _rmsprop(w, g, square, v, lr, alpha, rest, eps, momentum, decay, has_v):
    for i in range(len(w)):
        slope = g[i] + decay * w[i] if decay else g[i]
        square[i] = alpha * square[i] + rest * slope * slope
        step = slope / (math.sqrt(square[i]) + eps)
        if has_v:
            step = momentum * v[i] + step
            v[i] = step
        w[i] -= lr * step


@compiled(parallel=True)
def _shared_rmsprop(
    w, g, square, v, lr, alpha, rest, eps, momentum, decay, has_v, workers, counter
):
    for _ in prange(workers):
        start = take(counter) * BLOCK
        while start < len(w):
            part = slice(start, start + BLOCK)
            _rmsprop(
                w[part], g[part], square[part], v[part],
                lr, alpha, rest, eps, momentum, decay, has_v,
            )  # fmt: skip
            start = take(counter) * BLOCK


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
    f = np.float32
    factors = f(lr), f(alpha), f(1 - alpha), f(eps), f(momentum), f(decay), vs is not None
    for w, g, square, v in zip(ws, gs, squares, vs or [None] * len(ws), strict=True):
        if _fit(w, g, square, v):
            _run(_rmsprop, _shared_rmsprop, w, _flat(g), _flat(square), _flat(v), *factors)
        else:
            array.rmsprop_step([w], [g], [square], vs and [v], lr, alpha, eps, momentum, decay)


# --- Adam ----------------------------------------------------------------------------------------


@compiled
def _adam(w, g, m, v, lr, beta_m, rest_m, beta_v, rest_v, bias_v, eps, decay, shrink):
    """shrink : what AdamW multiplies the weights by. `lr` has Adam's bias of m in it already."""
    for i in range(len(w)):
        weight = w[i] * shrink
        slope = g[i] + decay * weight if decay else g[i]
        m[i] = beta_m * m[i] + rest_m * slope
        v[i] = beta_v * v[i] + rest_v * slope * slope
        w[i] = weight - lr * m[i] / (math.sqrt(v[i] / bias_v) + eps)


@compiled(parallel=True)
def _shared_adam(
    w, g, m, v, lr, beta_m, rest_m, beta_v, rest_v, bias_v, eps, decay, shrink, workers, counter
):
    for _ in prange(workers):
        start = take(counter) * BLOCK
        while start < len(w):
            part = slice(start, start + BLOCK)
            _adam(
                w[part], g[part], m[part], v[part],
                lr, beta_m, rest_m, beta_v, rest_v, bias_v, eps, decay, shrink,
            )  # fmt: skip
            start = take(counter) * BLOCK


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
    f = np.float32
    factors = (
        f(lr / (1 - betas[0] ** step)), f(betas[0]), f(1 - betas[0]), f(betas[1]), f(1 - betas[1]),
        f(1 - betas[1] ** step), f(eps), f(0 if decoupled else decay),
        f(1 - lr * decay if decoupled else 1),
    )  # fmt: skip
    for w, g, m, v in zip(ws, gs, ms, vs, strict=True):
        if _fit(w, g, m, v):
            _run(_adam, _shared_adam, w, _flat(g), _flat(m), _flat(v), *factors)
        else:
            array.adam_step([w], [g], [m], [v], step, lr, betas, eps, decay, decoupled)
