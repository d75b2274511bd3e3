"""Pooling on the CPU against the array kernels: the same numbers, bit for bit."""

from typing import Any

import numba
import numpy as np
import pytest

from resnet_np.kernels import NO_PADDING, Array, Padding, Pair, array, output_sizes, reference
from resnet_np.kernels.cpu import pool

# Few and many channels: beside whole vectors of 4, 8 or 16 lanes, and more than four of them.
CHANNELS = (1, 3, 8, 37, 64, 141)
WINDOWS: list[tuple[Pair, Pair, Padding]] = [
    ((3, 3), (2, 2), ((1, 1), (1, 1))),  # ResNet's
    ((2, 2), (2, 2), NO_PADDING),
    ((3, 2), (1, 1), ((0, 1), (1, 0))),
    ((2, 3), (3, 4), ((1, 0), (0, 2))),  # pixels between the windows that nobody reads
    ((5, 4), (2, 3), ((2, 2), (1, 2))),
    ((1, 1), (2, 2), NO_PADDING),
]
windows = pytest.mark.parametrize(("size", "stride", "padding"), WINDOWS)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scattered(x: Array) -> Array:
    """The same numbers, not next to each other."""
    store = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    store[..., ::2] = x
    return store[..., ::2]


def assert_equal(got: Any, expected: Any) -> None:
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def check(name: str, *arguments: Any) -> None:
    """As the array kernel: on arrays as they are, on scattered ones, with `out`, in two threads."""
    kernel, before = getattr(pool, name), [np.copy(a) for a in arguments[:2]]
    expected = getattr(array, name)(*arguments)
    first = expected[0] if isinstance(expected, tuple) else expected
    gaps = [scattered(a) if isinstance(a, np.ndarray) else a for a in arguments]
    out = np.full_like(first, np.nan)
    results = [kernel(*arguments), kernel(*gaps), kernel(*arguments, out=out)]
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    results.append(kernel(*arguments))
    numba.set_num_threads(threads)
    for result in results:
        if isinstance(expected, tuple):
            for a, b in zip(result, expected, strict=True):
                assert_equal(a, b)
        else:
            assert_equal(result, expected)
    assert (results[2][0] if isinstance(expected, tuple) else results[2]) is out
    for a, b in zip(arguments, before, strict=False):
        np.testing.assert_array_equal(a, b)


@windows
@pytest.mark.parametrize("c", CHANNELS)
def test_the_windows(size: Pair, stride: Pair, padding: Padding, c: int) -> None:
    x = numbers(3, 9, 11, c)
    outputs = (3, *output_sizes(x.shape, size, stride, padding), c)
    gy = numbers(*outputs, seed=1)
    _, index = array.max_pool(x, size, stride, padding)
    check("max_pool", x, size, stride, padding)
    check("max_pool_gx", gy, index, x.shape, size, stride, padding)
    check("avg_pool", x, size, stride, padding)
    check("avg_pool_gx", gy, x.shape, size, stride, padding)


@windows
def test_the_definition(size: Pair, stride: Pair, padding: Padding) -> None:
    x = numbers(1, 6, 7, 3)
    y, index = reference.max_pool(x, size, stride, padding)
    got, got_index = pool.max_pool(x, size, stride, padding)
    assert_equal(got, y)
    np.testing.assert_array_equal(got_index, index)
    mean = reference.avg_pool(x, size, stride, padding)
    np.testing.assert_allclose(pool.avg_pool(x, size, stride, padding), mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 64])
def test_many_tasks(n: int) -> None:
    """More rows than one worker takes at a time."""
    window = ((3, 3), (2, 2), ((1, 1), (1, 1)))
    x = numbers(n, 40, 40, 24)
    y, index = array.max_pool(x, *window)
    check("max_pool", x, *window)
    check("max_pool_gx", numbers(*y.shape), index, x.shape, *window)
    check("avg_pool", x, *window)


def test_the_first_of_equals_wins() -> None:
    x = np.ones((1, 4, 4, 10), np.float32)
    window = ((3, 3), (1, 1), ((1, 1), (1, 1)))
    check("max_pool", x, *window)
    _, index = pool.max_pool(x, *window)
    assert index[0, 2, 2, 0] == 0  # whole inside: its first tap
    assert index[0, 0, 0, 0] == 4  # the corner's: the taps before lie in the border


def test_nan_and_infinity() -> None:
    x = numbers(2, 8, 8, 41)
    rng = np.random.default_rng(2)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.1] = value
    x[0, :4, :4] = -np.inf  # whole windows of it
    window = ((3, 3), (2, 2), ((1, 1), (1, 1)))
    y, index = array.max_pool(x, *window)
    check("max_pool", x, *window)
    gy = np.where(np.isinf(y), np.nan, y)
    check("max_pool_gx", gy, index, x.shape, *window)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        check("avg_pool", x, *window)
        assert_equal(np.isnan(pool.global_avg_pool(x)), np.isnan(array.global_avg_pool(x)))


@windows
def test_the_values_alone(size: Pair, stride: Pair, padding: Padding) -> None:
    x = numbers(2, 9, 10, 67)
    x[0, 3, 3] = np.nan
    y, _ = array.max_pool(x, size, stride, padding)
    out = np.empty_like(y)
    assert_equal(pool.max_pool_y(x, size, stride, padding), y)
    assert pool.max_pool_y(scattered(x), size, stride, padding, out=out) is out
    assert_equal(out, y)
    wide = x.astype(np.float64)
    assert_equal(pool.max_pool_y(wide, size, stride, padding), y.astype(np.float64))


@pytest.mark.parametrize("shape", [(1, 7, 7, 141), (5, 3, 8, 10), (2, 1, 1, 64), (64, 4, 4, 3)])
def test_global_mean(shape: tuple[int, ...]) -> None:
    x = numbers(*shape)
    expected = array.global_avg_pool(x)
    out = np.empty_like(expected)
    assert pool.global_avg_pool(x, out=out) is out
    for got in (out, pool.global_avg_pool(x), pool.global_avg_pool(scattered(x))):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(x).max())


def test_the_mean_of_many_pixels() -> None:
    """One running sum over 90,000 pixels would be off by 1e-4 and more."""
    x = numbers(1, 300, 300, 2) + np.float32(1000)
    np.testing.assert_allclose(pool.global_avg_pool(x), x.mean((1, 2), np.float64), rtol=3e-6)


def test_an_image_does_not_depend_on_the_others() -> None:
    window = ((3, 3), (2, 2), ((1, 1), (1, 1)))
    x = numbers(5, 13, 13, 20)
    y, index = pool.max_pool(x, *window)
    gx = pool.max_pool_gx(y, index, x.shape, *window)
    for n in range(5):
        one, one_index = pool.max_pool(x[n : n + 1], *window)
        assert_equal(one[0], y[n])
        alone = pool.max_pool_gx(one, one_index, (1, *x.shape[1:]), *window)
        assert_equal(alone[0], gx[n])
        assert_equal(pool.avg_pool(x[n : n + 1], *window)[0], pool.avg_pool(x, *window)[n])


def test_no_image() -> None:
    window = ((2, 2), (2, 2), NO_PADDING)
    x = numbers(0, 4, 4, 3)
    y, index = pool.max_pool(x, *window)
    assert y.shape == index.shape == pool.avg_pool(x, *window).shape == (0, 2, 2, 3)
    assert pool.max_pool_gx(y, index, x.shape, *window).shape == x.shape


def test_float64_goes_to_the_array_kernels() -> None:
    window = ((3, 3), (2, 2), ((1, 1), (1, 1)))
    x = numbers(2, 7, 7, 5).astype(np.float64) / 3
    y, index = array.max_pool(x, *window)
    check("max_pool", x, *window)
    check("max_pool_gx", y, index, x.shape, *window)
    check("avg_pool", x, *window)
    check("avg_pool_gx", y, x.shape, *window)
    assert_equal(pool.global_avg_pool(x), array.global_avg_pool(x))


def test_out_must_fit() -> None:
    x, window = numbers(1, 4, 4, 2), ((2, 2), (2, 2), NO_PADDING)
    with pytest.raises(ValueError, match="out must be"):
        pool.max_pool(x, *window, out=np.empty((1, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match="out must be"):
        pool.global_avg_pool(x, out=np.empty((1, 2)))
