"""Batch norm and ReLU for the CPU against the array kernels in float64, and what they promise."""

import inspect
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.kernels import array
from resnet_np.kernels.cpu import norm

NAMES = (
    "batch_norm", "batch_norm_g", "fixed_batch_norm", "fixed_batch_norm_g", "relu", "relu_gx",
)  # fmt: skip
EPS = 1e-5

# Below and above the width up to which pixels are taken together, and no multiples of 8 as well.
channel_counts = st.sampled_from([1, 2, 3, 8, 10, 24, 64, 100, 256, 263, 300])
leading = st.sampled_from([(2,), (64,), (3, 5, 7), (1, 9, 4), (700,), (5, 20, 20)])
shapes = st.builds(lambda n, c: (*n, c), leading, channel_counts)
seeds = st.integers(0, 2**32 - 1)
choice = st.booleans()


def arguments(
    name: str, shape: tuple[int, ...], relu: bool, residual: bool, seed: int
) -> list[Any]:
    """What the kernel of this name takes: float32, y as it would be after the forward pass."""
    rng = np.random.default_rng(seed)
    x, gy, r = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    c = shape[-1]
    gamma, beta, mean = (rng.standard_normal(c).astype(np.float32) for _ in range(3))
    var = rng.uniform(0.5, 2, c).astype(np.float32)
    shortcut = r if residual else None
    if name == "batch_norm":
        return [x, gamma, beta, EPS, shortcut, relu]
    if name == "fixed_batch_norm":
        return [x, gamma, beta, mean, var, EPS, shortcut, relu]
    if name == "relu":
        return [x]
    if name == "relu_gx":
        return [gy, np.maximum(r, 0)]
    y = np.maximum(r, 0) if relu else None
    if name == "batch_norm_g":
        pixels = tuple(range(x.ndim - 1))
        return [gy, x, y, gamma, x.mean(axis=pixels), x.var(axis=pixels), EPS, residual, relu]
    return [gy, x if seed % 2 else None, y, gamma, mean, var, EPS, residual, relu]


def in_float64(arguments: list[Any]) -> list[Any]:
    return [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arguments]


def scattered(value: Any) -> Any:
    """The same array with gaps in memory and its axes laid out in another order."""
    if not isinstance(value, np.ndarray):
        return value
    store = np.zeros([2 * n for n in reversed(value.shape)], value.dtype)
    view = store[tuple(slice(None, None, 2) for _ in value.shape)].T
    view[...] = value
    return view


def tuple_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_close(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(tuple_of(got), tuple_of(expected), strict=True):
        if b is None:
            assert a is None
            continue
        assert a.dtype == np.float32
        assert a.shape == b.shape
        largest = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)


def assert_equal(got: Any, expected: Any) -> None:
    for a, b in zip(tuple_of(got), tuple_of(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str) -> None:
    fast, slow = getattr(norm, name), getattr(array, name)
    assert str(inspect.signature(fast)) == str(inspect.signature(slow))


@pytest.mark.parametrize("name", NAMES)
@given(shapes, choice, choice, seeds)
def test_against_array(
    name: str, shape: tuple[int, ...], relu: bool, residual: bool, seed: int
) -> None:
    kernel, given_ = getattr(norm, name), arguments(name, shape, relu, residual, seed)
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in given_]
    result = kernel(*given_)
    assert_close(result, getattr(array, name)(*in_float64(given_)))
    assert tuple_of(result)[0].ctypes.data % 64 == 0
    assert_equal(kernel(*[scattered(a) for a in given_]), result)
    out = np.full(shape, np.nan, np.float32)
    written = kernel(*given_, out=out)
    assert tuple_of(written)[0] is out
    assert_equal(written, result)
    for a, b in zip(given_, before, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"{name} changed its input")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(16, 30, 30, 64), (40, 30, 30, 3), (11, 11, 9, 517)])
def test_many_blocks(name: str, shape: tuple[int, ...]) -> None:
    given_ = arguments(name, shape, relu=True, residual=True, seed=0)
    assert norm._cut(given_[0]).tasks > 1
    assert_close(getattr(norm, name)(*given_), getattr(array, name)(*in_float64(given_)))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_change_a_bit(name: str) -> None:
    given_ = arguments(name, (16, 30, 30, 72), relu=True, residual=True, seed=1)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = getattr(norm, name)(*given_)
        numba.set_num_threads(2)
        assert_equal(getattr(norm, name)(*given_), alone)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("channels", [3, 64, 300])
@pytest.mark.parametrize(("mean", "std"), [(100, 1), (-1e4, 10), (0, 1e-3), (1, 1e4)])
def test_variance_far_from_zero(channels: int, mean: float, std: float) -> None:
    rng = np.random.default_rng(0)
    x = (mean + std * rng.standard_normal((12, 30, 30, channels))).astype(np.float32)
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    y, got_mean, got_var = norm.batch_norm(x, one, zero, 0.0, None, False)
    exact = x.astype(np.float64)
    pixels = (0, 1, 2)
    np.testing.assert_allclose(got_mean, exact.mean(axis=pixels), rtol=1e-6, atol=1e-5 * std)
    np.testing.assert_allclose(got_var, exact.var(axis=pixels), rtol=2e-6)
    expected = (exact - exact.mean(axis=pixels)) / exact.std(axis=pixels)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1, 777, -1])
def test_variance_of_one_outlier(place: int) -> None:
    """The rough mean that the sums start from may be bad, but not so bad that it matters."""
    x = np.full((3000, 64), 0.3, np.float32)
    x[place] = 5000
    one = np.ones(64, np.float32)
    _, mean, var = norm.batch_norm(x, one, one, EPS, None, False)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), atol=1e-6 * exact[:, 0].std())
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-5)


def test_a_channel_of_equal_numbers_has_no_variance() -> None:
    x = np.full((50, 30, 40, 5), 0.1, np.float32)
    beta = np.arange(5, dtype=np.float32)
    y, mean, var = norm.batch_norm(x, beta, beta, EPS, None, False)
    np.testing.assert_allclose(mean, x[0, 0, 0], rtol=1e-7)
    np.testing.assert_array_less(var, 1e-14)
    np.testing.assert_allclose(y, np.broadcast_to(beta, x.shape), atol=1e-4)


@pytest.mark.parametrize("name", ["batch_norm_g", "fixed_batch_norm_g", "relu_gx"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [5, 300])
def test_a_closed_relu_holds_back(name: str, bad: float, channels: int) -> None:
    shape = (4, 3, 3, channels)
    given_ = arguments(name, shape, relu=True, residual=True, seed=2)
    gy, y = given_[0], given_[1 if name == "relu_gx" else 2]
    clean = gy.copy()
    y[0, :, 0] = np.array([0, -0.0, np.nan], np.float32)[:, None]
    gy[0, :, 0] = bad
    clean[0, :, 0] = 0
    result = getattr(norm, name)(*given_)
    assert_equal(result, getattr(norm, name)(clean, *given_[1:]))
    assert all(a is None or np.isfinite(a).all() for a in tuple_of(result))


@pytest.mark.filterwarnings("ignore:invalid value")  # from NumPy, where nothing is compiled
@pytest.mark.parametrize("residual", [True, False])
def test_nan_passes_the_relu(residual: bool) -> None:
    x, gamma, beta, mean, var, eps, r, _ = arguments(
        "fixed_batch_norm", (2, 3, 3, 13), True, residual, 3
    )
    x[0, 0, 0], x[1, 1, 1] = np.nan, np.inf
    y = norm.fixed_batch_norm(x, gamma, beta, mean, var, eps, r, True)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    assert np.isnan(norm.relu(x)[0, 0, 0]).all()
    assert np.isinf(norm.relu(x)[1, 1, 1]).all()
    y, mean, _ = norm.batch_norm(x[..., :5], gamma[:5], beta[:5], eps, None, True)
    assert np.isnan(y).all()
    assert np.isnan(mean).all()


def test_one_bad_channel_leaves_the_others_alone() -> None:
    given_ = arguments("batch_norm", (3, 4, 4, 20), True, True, 4)
    good = norm.batch_norm(*given_)
    given_[0][1, 2, 3, 7] = np.nan
    for a, b in zip(norm.batch_norm(*given_), good, strict=True):
        np.testing.assert_array_equal(np.delete(a, 7, axis=-1), np.delete(b, 7, axis=-1))
        assert np.isnan(a[..., 7]).all()


@pytest.mark.parametrize("channels", [3, 64, 300])
def test_an_image_does_not_know_its_batch_mates(channels: int) -> None:
    for name in ("fixed_batch_norm", "fixed_batch_norm_g"):
        given_ = arguments(name, (6, 7, 7, channels), True, False, 5)
        batch = tuple_of(getattr(norm, name)(*given_))
        alone = [a[4:5] if isinstance(a, np.ndarray) and a.ndim == 4 else a for a in given_]
        np.testing.assert_array_equal(tuple_of(getattr(norm, name)(*alone))[0], batch[0][4:5])


def test_without_relu_the_gradient_of_the_residual_is_gy_itself() -> None:
    for name in ("batch_norm_g", "fixed_batch_norm_g"):
        given_ = arguments(name, (2, 3, 3, 4), relu=False, residual=True, seed=6)
        assert getattr(norm, name)(*given_)[3] is given_[0]


@pytest.mark.parametrize("channels", [3, 64, 300])
@pytest.mark.parametrize(("residual", "relu"), [(False, False), (False, True), (True, True)])
def test_gx_over_gy(channels: int, residual: bool, relu: bool) -> None:
    given_ = arguments("batch_norm_g", (16, 20, 20, channels), relu, residual, seed=9)
    expected = norm.batch_norm_g(*given_)
    result = norm.batch_norm_g(*given_, out=given_[0])
    assert result[0] is given_[0]
    assert_equal(result[:3], expected[:3])
    if residual:
        assert_equal(result[3], expected[3])


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", ["batch_norm_g", "fixed_batch_norm_g"])
def test_without_a_residual_there_is_no_gradient_of_it(name: str, relu: bool) -> None:
    given_ = arguments(name, (2, 3, 3, 4), relu, residual=False, seed=6)
    result = getattr(norm, name)(*given_)
    assert result[3] is None
    given_[-2] = True
    assert_equal(result[:3], getattr(norm, name)(*given_)[:3])


@pytest.mark.parametrize("name", ["batch_norm_g", "fixed_batch_norm_g"])
def test_inputs_may_be_read_only(name: str) -> None:
    given_ = arguments(name, (2, 3, 3, 4), relu=False, residual=True, seed=8)
    result = getattr(norm, name)(*given_)
    for a in given_:
        if isinstance(a, np.ndarray):
            a.flags.writeable = False
    assert_equal(getattr(norm, name)(*given_), result)


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_the_array_kernels_work(name: str) -> None:
    given_ = in_float64(arguments(name, (2, 3, 3, 4), relu=True, residual=True, seed=7))
    result, expected = getattr(norm, name)(*given_), getattr(array, name)(*given_)
    assert tuple_of(result)[0].dtype == np.float64
    assert_equal(result, expected)


def test_a_wrong_out_is_refused() -> None:
    x = np.zeros((2, 3), np.float32)
    for out in (np.zeros((3, 2), np.float32), np.zeros((2, 3)), np.zeros((3, 2), np.float32).T):
        with pytest.raises(ValueError, match="out must be a contiguous array"):
            norm.relu(x, out=out)


def test_add_large_arrays_in_place_and_with_gaps() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((40, 30, 97), np.float32) for _ in range(2))
    assert a.size > norm.BLOCK_NUMBERS
    np.testing.assert_array_equal(norm.add(a, b), a + b)
    np.testing.assert_array_equal(norm.add(a[:, ::-1], b), a[:, ::-1] + b)
    total = a.copy()
    assert norm.add(total, b, out=total) is total
    np.testing.assert_array_equal(total, a + b)
