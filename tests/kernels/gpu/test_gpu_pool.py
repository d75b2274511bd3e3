"""Pooling and up-sampling on the GPU against the array kernels.

What is added up is added in the array kernels' order: but for the means over whole images, results
are theirs bit for bit, rounded once where numbers are halves.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import emulator
import numpy as np
import pytest
from agreement import recorded
from guarded import DTYPES, emulated, scattered, widened

from resnet_np.kernels import NO_PADDING, Array, Padding, Pair, array, output_sizes, reference
from resnet_np.kernels.gpu import pool

# Of a power of two and of none; 300 are more than a block has threads.
CHANNELS = (1, 3, 32, 37, 300)
RESNET: tuple[Pair, Pair, Padding] = ((3, 3), (2, 2), ((1, 1), (1, 1)))
WINDOWS = [
    RESNET,
    ((2, 2), (2, 2), NO_PADDING),
    ((3, 2), (1, 1), ((0, 1), (1, 0))),
    ((2, 3), (3, 4), ((1, 0), (0, 2))),  # pixels between the windows that nobody reads
    ((5, 4), (2, 3), ((2, 2), (1, 2))),
    ((1, 1), (2, 2), NO_PADDING),
    ((7, 8), (1, 1), NO_PADDING),  # one window, as large as the image
]
windows = pytest.mark.parametrize(("size", "stride", "padding"), WINDOWS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def on_the_emulator(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if "card" in request.fixturenames else emulated(pool):
        yield


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def tuple_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_equal(got: Any, expected: Any) -> None:
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(widened(got), widened(expected))  # NumPy knows its own NaN only


def check(name: str, *arguments: Any) -> None:
    """As the array kernel: with threads in both orders, on scattered arrays, and with `out`."""
    kernel, dtype = getattr(pool, name), arguments[0].dtype
    expected = [
        x if x.dtype == np.int32 else x.astype(dtype)
        for x in tuple_of(getattr(array, name)(*map(widened, arguments)))
    ]
    out = np.full(expected[0].shape, np.nan, dtype)
    results = [kernel(*arguments), kernel(*map(scattered, arguments)), kernel(*arguments, out=out)]
    with emulator.backwards():
        results.append(kernel(*arguments))
    assert tuple_of(results[2])[0] is out
    for result in results:
        for a, b in zip(tuple_of(result), expected, strict=True):
            assert_equal(a, b)


# --- windows -------------------------------------------------------------------------------------


@windows
@dtypes
def test_the_windows(size: Pair, stride: Pair, padding: Padding, dtype: Any) -> None:
    x = numbers((2, 7, 8, 5), dtype)
    y, index = array.max_pool(x, size, stride, padding)
    gy = numbers(y.shape, dtype, seed=1)
    check("max_pool", x, size, stride, padding)
    check("max_pool_gx", gy, index, x.shape, size, stride, padding)
    check("avg_pool", x, size, stride, padding)
    check("avg_pool_gx", gy, x.shape, size, stride, padding)


@windows
def test_the_definition(size: Pair, stride: Pair, padding: Padding) -> None:
    x = numbers((1, 7, 9, 3), np.float64)
    y, index = reference.max_pool(x, size, stride, padding)
    got, got_index = pool.max_pool(x, size, stride, padding)
    assert_equal(got, y)
    assert_equal(got_index, index)
    gy = numbers(y.shape, np.float64)
    for kernels in (reference, pool):
        sums = kernels.max_pool_gx(gy, index, x.shape, size, stride, padding)
        shares = kernels.avg_pool_gx(gy, x.shape, size, stride, padding)
        means = kernels.avg_pool(x, size, stride, padding)
        if kernels is reference:
            expected = sums, shares, means
    for a, b in zip((sums, shares, means), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("c", CHANNELS)
def test_channels(c: int) -> None:
    x = numbers((2, 6, 5, c))
    y, index = array.max_pool(x, *RESNET)
    check("max_pool", x, *RESNET)
    check("max_pool_gx", y, index, x.shape, *RESNET)
    check("avg_pool", x, *RESNET)
    check("avg_pool_gx", y, x.shape, *RESNET)
    check("global_avg_pool_gx", numbers((2, c)), x.shape)
    check("upsample_nearest", x, (2, 3))


@pytest.mark.parametrize("most", [1, 2])
def test_a_row_of_more_pixels_than_threads(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MOST_BLOCKS", most)
    x = numbers((1, 3, 43, 33))  # 4 pixels to a block
    y, index = array.max_pool(x, *RESNET)
    check("max_pool", x, *RESNET)
    check("max_pool_gx", y, index, x.shape, *RESNET)
    check("avg_pool", x, *RESNET)
    check("avg_pool_gx", y, x.shape, *RESNET)
    check("global_avg_pool_gx", numbers((1, 33)), x.shape)
    check("upsample_nearest", x, (1, 2))
    check("upsample_nearest_gx", x[:, :2, :42], (2, 1))


def test_the_first_of_equals_wins() -> None:
    x = np.ones((1, 4, 4, 10), np.float32)
    window: Any = ((3, 3), (1, 1), ((1, 1), (1, 1)))
    _, index = pool.max_pool(x, *window)
    assert index[0, 2, 2, 0] == 0  # whole inside: its first tap
    assert index[0, 0, 0, 0] == 4  # the corner's: the taps before lie in the border
    check("max_pool", x, *window)


@dtypes
def test_nan_and_infinity(dtype: Any) -> None:
    x = numbers((2, 8, 8, 41), dtype)
    rng = np.random.default_rng(2)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.1] = value
    x[0, :4, :4] = -np.inf  # whole windows of it
    y, index = array.max_pool(widened(x), *RESNET)
    assert np.isnan(y).any()
    assert (y == -np.inf).any()
    check("max_pool", x, *RESNET)
    gy = np.where(np.isinf(y), np.nan, y).astype(dtype)
    check("max_pool_gx", gy, index, x.shape, *RESNET)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        check("avg_pool", x, *RESNET)


@windows
def test_the_values_alone(size: Pair, stride: Pair, padding: Padding) -> None:
    x = numbers((2, 7, 9, 17))
    y, _ = array.max_pool(x, size, stride, padding)
    out = np.full_like(y, np.nan)
    assert_equal(pool.max_pool_y(x, size, stride, padding), y)
    assert pool.max_pool_y(x, size, stride, padding, out) is out
    assert_equal(out, y)


def test_an_image_does_not_depend_on_the_others() -> None:
    x = numbers((3, 9, 9, 20))
    y, index = pool.max_pool(x, *RESNET)
    means, global_means = pool.avg_pool(x, *RESNET), pool.global_avg_pool(x)
    for n in range(3):
        one, one_index = pool.max_pool(x[n : n + 1], *RESNET)
        assert_equal(one[0], y[n])
        assert_equal(one_index[0], index[n])
        assert_equal(pool.avg_pool(x[n : n + 1], *RESNET)[0], means[n])
        assert_equal(pool.global_avg_pool(x[n : n + 1])[0], global_means[n])


# --- whole images --------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 1, 70), (2, 7, 7, 65), (1, 56, 56, 33), (2, 1, 3, 32)]
)
def test_global_mean(shape: tuple[int, ...], dtype: Any) -> None:
    x = numbers(shape, dtype)
    expected = x.astype(np.float64).mean((1, 2))
    out = np.full(expected.shape, np.nan, dtype)
    results = [
        pool.global_avg_pool(x),
        pool.global_avg_pool(scattered(x)),
        pool.global_avg_pool(x, out=out),
    ]
    with emulator.backwards():
        results.append(pool.global_avg_pool(x))
    assert results[2] is out
    for result in results:
        assert_equal(result, results[0])
    near = {"float64": 1e-15, "float32": 5e-7, "float16": 5e-4, "bfloat16": 4e-3}[str(dtype)]
    np.testing.assert_allclose(results[0].astype(float), expected, rtol=near, atol=near)


def test_the_mean_of_many_pixels() -> None:
    """One running sum over 40,000 pixels would be off by 1e-4 and more."""
    x = numbers((1, 200, 200, 2)) + np.float32(1000)
    np.testing.assert_allclose(pool.global_avg_pool(x), x.mean((1, 2), np.float64), rtol=1e-6)


@dtypes
def test_global_mean_back(dtype: Any) -> None:
    check("global_avg_pool_gx", numbers((2, 6), dtype), (2, 3, 5, 6))


# --- up-sampling ---------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 2), (1, 5)])
def test_upsampling(factor: Pair, dtype: Any) -> None:
    x = numbers((2, 3, 4, 7), dtype)
    check("upsample_nearest", x, factor)
    gy = np.round(numbers((2, 3 * factor[0], 4 * factor[1], 7), seed=1) * 4).astype(dtype)
    check("upsample_nearest_gx", gy, factor)  # of whole numbers: sums are exact in any order


def test_upsampling_of_any_number() -> None:
    gy = numbers((1, 4, 6, 3), np.float64)
    expected = reference.upsample_nearest_gx(gy, (2, 3))
    np.testing.assert_allclose(pool.upsample_nearest_gx(gy, (2, 3)), expected, rtol=1e-14)


# --- what is refused, what is not there ----------------------------------------------------------


def test_no_image() -> None:
    x = numbers((0, 4, 4, 3))
    y, index = pool.max_pool(x, *RESNET)
    assert y.shape == index.shape == pool.avg_pool(x, *RESNET).shape == (0, 2, 2, 3)
    assert pool.max_pool_gx(y, index, x.shape, *RESNET).shape == x.shape
    assert pool.avg_pool_gx(y, x.shape, *RESNET).shape == x.shape
    assert pool.global_avg_pool(x).shape == (0, 3)
    assert pool.global_avg_pool_gx(numbers((0, 3)), x.shape).shape == x.shape
    assert pool.upsample_nearest(x, (2, 2)).shape == (0, 8, 8, 3)
    assert pool.upsample_nearest_gx(x, (2, 2)).shape == (0, 2, 2, 3)


def test_out_must_fit() -> None:
    x = numbers((1, 4, 4, 2))
    for out in (np.empty((1, 2, 2, 3), np.float32), np.empty((1, 2, 2, 2))):
        for kernel in (pool.max_pool, pool.max_pool_y, pool.avg_pool):
            with pytest.raises(ValueError, match="out must be"):
                kernel(x, *RESNET, out=out)


def test_shapes_are_those_of_output_sizes() -> None:
    for size, stride, padding in WINDOWS:
        y = pool.avg_pool(numbers((1, 7, 8, 1)), size, stride, padding)
        assert y.shape[1:3] == output_sizes((1, 7, 8, 1), size, stride, padding)


# --- through CuPy --------------------------------------------------------------------------------


@dtypes
def test_on_the_card(card: Any, dtype: Any) -> None:
    """Each kernel is one launch, and results are arrays on the card."""
    x = numbers((2, 7, 8, 5), dtype)
    y, index = array.max_pool(widened(x), *RESNET)
    gy, row = y.astype(dtype), numbers((2, 5), dtype, seed=1)
    calls: list[tuple[Any, ...]] = [
        ("max_pool", x, *RESNET),
        ("max_pool_gx", gy, index, x.shape, *RESNET),
        ("avg_pool", x, *RESNET),
        ("avg_pool_gx", gy, x.shape, *RESNET),
        ("global_avg_pool_gx", row, x.shape),
        ("upsample_nearest", x, (2, 3)),
    ]
    for name, *arguments in calls:
        expected = tuple_of(getattr(array, name)(*map(widened, arguments)))
        there = [card.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        out = card.empty(expected[0].shape, dtype)
        record = recorded(card)
        result = tuple_of(getattr(pool, name)(*there, out=out))
        if record:
            assert [launch.name for launch in record.launches] == [name]
            assert record.operations == []
        assert result[0] is out
        for a, b in zip(result, expected, strict=True):
            assert_equal(a.get(), b if b.dtype == np.int32 else b.astype(dtype))


@dtypes
def test_sums_on_the_card(card: Any, dtype: Any) -> None:
    x = np.round(numbers((2, 4, 6, 5), dtype) * 4)  # whole numbers: exact in any order
    there, record = card.asarray(x), recorded(card)
    expected = reference.global_avg_pool(x.astype(np.float64))
    near = 1e-6 if dtype.itemsize > 2 else 1e-2
    np.testing.assert_allclose(pool.global_avg_pool(there).get().astype(float), expected, near)
    expected = reference.upsample_nearest_gx(x.astype(np.float64), (2, 2))
    assert_equal(pool.upsample_nearest_gx(there, (2, 2)).get(), expected.astype(dtype))
    if record:
        names = [launch.name for launch in record.launches]
        assert names == ["global_avg_pool", "upsample_nearest_gx"]


def test_what_lies_otherwise_in_memory_on_the_card(card: Any) -> None:
    x = numbers((2, 8, 9, 5))
    turned = card.asarray(x).transpose(0, 2, 1, 3)
    y, index = array.max_pool(x.transpose(0, 2, 1, 3), *RESNET)
    got, got_index = pool.max_pool(turned, *RESNET)
    assert_equal(got.get(), y)
    assert_equal(got_index.get(), index)
    assert_equal(pool.max_pool_y(turned, *RESNET).get(), y)


def test_nothing_is_launched_for_no_image_on_the_card(card: Any) -> None:
    assert pool.avg_pool(card.zeros((0, 4, 4, 3), "float32"), *RESNET).shape == (0, 2, 2, 3)
    assert card.standin.record.launches == []
