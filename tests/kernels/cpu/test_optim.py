"""The optimizers' steps on the CPU against the array kernels: the same numbers, bit for bit."""

from typing import Any

import numba
import numpy as np
import pytest

from resnet_np.kernels import Array, array
from resnet_np.kernels.cpu import optim

# Nothing, less than a vector, odd, and more than a worker takes at a time.
SIZES = [(), (0,), (3,), (3, 3, 5, 7), (2 * optim.LEAST_PARALLEL + 1001,)]
sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def numbers(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def after(kernel: Any, arguments: tuple[Any, ...], dtype: Any = np.float32) -> list[Array]:
    """What three steps leave in the arrays; the same call changes a second parameter, too."""
    copies = [
        [np.array(a, dtype), np.array(a.ravel()[:3], dtype)] if hasattr(a, "ravel") else a
        for a in arguments
    ]
    for _ in range(3):
        assert kernel(*copies) is None
    return [a for arrays in copies if isinstance(arrays, list) for a in arrays]


def check(name: str, *arguments: Any) -> None:
    expected = after(getattr(array, name), arguments)
    results = [after(getattr(optim, name), arguments)]
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    results.append(after(getattr(optim, name), arguments))
    numba.set_num_threads(threads)
    for result in results:
        for got, want in zip(result, expected, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, want)
    wide = after(getattr(optim, name), arguments, np.float64)
    for got, want in zip(wide, after(getattr(array, name), arguments, np.float64), strict=True):
        np.testing.assert_array_equal(got, want)


@sizes
@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_sgd(shape: tuple[int, ...], decay: float) -> None:
    w, g, v = (numbers(shape, seed) for seed in range(3))
    check("sgd_step", w, g, None, 0.1, 0.0, False, decay)
    check("sgd_step", w, g, v, 0.1, 0.9, False, decay)
    check("sgd_step", w, g, v, 0.1, 0.9, True, decay)


@sizes
@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_rmsprop(shape: tuple[int, ...], decay: float) -> None:
    w, g, v = (numbers(shape, seed) for seed in range(3))
    square = numbers(shape, 3) ** 2
    check("rmsprop_step", w, g, square, None, 0.01, 0.99, 1e-8, 0.0, decay)
    check("rmsprop_step", w, g, square, v, 0.01, 0.99, 1e-8, 0.9, decay)


@sizes
@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("step", [1, 1000])
def test_adam(shape: tuple[int, ...], decay: float, decoupled: bool, step: int) -> None:
    w, g, m = (numbers(shape, seed) for seed in range(3))
    v = numbers(shape, 3) ** 2
    check("adam_step", w, g, m, v, step, 1e-3, (0.9, 0.999), 1e-8, decay, decoupled)


def test_the_gradient_stays_as_it_is() -> None:
    g = numbers((50,), 0)
    w, v, square = numbers((50,), 1), np.zeros(50, np.float32), np.zeros(50, np.float32)
    before = g.copy()
    optim.sgd_step([w], [g], [v], 0.1, 0.9, True, 1e-2)
    optim.rmsprop_step([w], [g], [square], [v], 0.01, 0.99, 1e-8, 0.9, 1e-2)
    optim.adam_step([w], [g], [v], [square], 1, 1e-3, (0.9, 0.999), 1e-8, 1e-2, False)
    np.testing.assert_array_equal(g, before)


def test_nan_stays_where_it_is() -> None:
    w, g, v = numbers((40,), 0), numbers((40,), 1), np.zeros(40, np.float32)
    g[17], g[20] = np.nan, np.inf
    optim.sgd_step([w], [g], [v], 0.1, 0.9, False, 0.0)
    assert np.isnan(w[17]) and np.isneginf(w[20])
    assert np.isfinite(np.delete(w, [17, 20])).all()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_arrays_with_gaps(which: int) -> None:
    """They are changed where they lie, whichever of them it is, and so is the next parameter."""
    kept = [numbers((30, 4), seed) for seed in range(3)]
    expected = [a.copy() for a in kept]
    array.sgd_step(*([a] for a in expected), 0.1, 0.9, False, 1e-2)
    nexts = [numbers((5,), seed) for seed in range(3, 6)]
    expected_next = [a.copy() for a in nexts]
    array.sgd_step(*([a] for a in expected_next), 0.1, 0.9, False, 1e-2)
    wide = np.zeros((30, 8), np.float32)
    wide[:, ::2] = kept[which]
    kept[which] = wide[:, ::2]
    optim.sgd_step(*map(list, zip(kept, nexts, strict=True)), 0.1, 0.9, False, 1e-2)
    for got, want in zip(kept + nexts, expected + expected_next, strict=True):
        np.testing.assert_array_equal(got, want)
    assert not wide[:, 1::2].any()


def test_a_gradient_of_another_shape_is_spread_as_numpy_does() -> None:
    w, expected = numbers((6, 5), 0), numbers((6, 5), 0)
    g = numbers((5,), 1)
    array.sgd_step([expected], [g], None, 0.1, 0.0, False, 0.0)
    optim.sgd_step([w], [g], None, 0.1, 0.0, False, 0.0)
    np.testing.assert_array_equal(w, expected)
