"""Batch norm for the card against the array kernels in float64, and what it promises."""

import inspect
from typing import Any

import emulator
import ml_dtypes  # noqa: F401  # with it NumPy knows "bfloat16"
import numpy as np
import pytest
from agreement import recorded

from resnet_np.kernels import array
from resnet_np.kernels.gpu import norm
from resnet_np.kernels.gpu.arrays import sum_dtype

NORMS = ("batch_norm", "batch_norm_g", "fixed_batch_norm", "fixed_batch_norm_g")
NAMES = (*NORMS, "bias_gb")
DTYPES = ("float32", "float64", "float16", "bfloat16")
EPS = 1e-5
# What a result may lose by being written, of itself; and by sums, of the largest number.
ROUNDING = {"float32": 0.0, "float64": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
# Channels that fill no group of four, no block, one block, more; strips that end early.
CASES = [
    *(("float32", shape) for shape in [(2, 5, 3, 3), (130, 64), (3, 7, 7, 68), (1, 6), (257, 2)]),
    *((dtype, shape) for dtype in DTYPES[1:] for shape in [(2, 5, 3, 3), (130, 68)]),
]


def arguments(
    name: str, shape: tuple[int, ...], dtype: str, relu: bool = True, residual: bool = True
) -> list[Any]:
    """What the kernel of this name takes, y as it would be after the forward pass."""
    rng = np.random.default_rng(0)
    x, gy, r = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    sums = sum_dtype(x.dtype)
    gamma, beta, mean = (rng.standard_normal(shape[-1]).astype(sums) for _ in range(3))
    var = rng.uniform(0.5, 2, shape[-1]).astype(sums)
    shortcut = r if residual else None
    y = np.maximum(r, 0) if relu else None
    if name == "bias_gb":
        return [gy]
    if name == "batch_norm":
        return [x, gamma, beta, EPS, shortcut, relu]
    if name == "fixed_batch_norm":
        return [x, gamma, beta, mean, var, EPS, shortcut, relu]
    if name == "batch_norm_g":
        pixels, exact = tuple(range(x.ndim - 1)), x.astype(np.float64)
        mean, var = (s.astype(sums) for s in (exact.mean(axis=pixels), exact.var(axis=pixels)))
    return [gy, x, y, gamma, mean, var, EPS, residual, relu]


def tuple_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def on_card(card: Any, value: Any) -> Any:
    return card.asarray(value) if isinstance(value, np.ndarray) else value


def run(card: Any, name: str, given: list[Any], out: Any = None) -> tuple[Any, ...]:
    """The kernel's results, brought back; no input may be changed but `out`."""
    there = [on_card(card, value) for value in given]
    results = tuple_of(getattr(norm, name)(*there, out=out))
    for before, after in zip(given, there, strict=True):
        if isinstance(before, np.ndarray) and after is not out:
            assert after.get().tobytes() == before.tobytes()  # NaN is not equal to itself
    return tuple(None if a is None else a.get() for a in results)


def in_float64(given: list[Any]) -> list[Any]:
    return [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in given]


def assert_close(got: Any, expected: Any, dtype: str) -> None:
    """The first and the last result are activations of this dtype, the others are sums."""
    sums = sum_dtype(dtype)
    for place, (a, b) in enumerate(zip(got, tuple_of(expected), strict=True)):
        if b is None:
            assert a is None
            continue
        activation = a.ndim > 1 and place in (0, 3)
        assert a.dtype == (dtype if activation else sums)
        assert a.shape == b.shape
        lost = TOLERANCE[sums] * max(1.0, float(np.abs(b).max(initial=0)))
        rounding = ROUNDING[dtype] if activation else 0.0
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=rounding, atol=lost)


def assert_equal(got: Any, expected: Any) -> None:
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def check(card: Any, name: str, given: list[Any]) -> tuple[Any, ...]:
    """Against `array`; and the order of threads must not matter."""
    result = run(card, name, given)
    assert_close(result, getattr(array, name)(*in_float64(given)), str(given[0].dtype))
    with emulator.backwards():
        assert_equal(run(card, name, given), result)
    return result


@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str) -> None:
    fast, slow = getattr(norm, name), getattr(array, name)
    assert str(inspect.signature(fast)) == str(inspect.signature(slow))


@pytest.mark.parametrize(("dtype", "shape"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_against_array(card: Any, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    check(card, name, arguments(name, shape, dtype))


@pytest.mark.parametrize(("relu", "residual"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NORMS)
def test_without_relu_or_residual(
    card: Any, name: str, dtype: str, relu: bool, residual: bool
) -> None:
    check(card, name, arguments(name, (3, 4, 7), dtype, relu, residual))


@pytest.mark.parametrize("name", NAMES)
def test_many_strips(card: Any, name: str) -> None:
    """More than a block adds up at a time; then long ones, when there must not be more."""
    given = arguments(name, (9000, 4), "float32")
    assert norm._cut(given[0].shape).blocks[1] > norm.PARTS
    check(card, name, given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm, "MOST_BLOCKS", 3)
        assert norm._cut(given[0].shape)[2:] == (3008, (1, 3))
        check(card, name, given)


def test_strips_depend_on_the_shape_alone() -> None:
    """By hand, for ResNet-50: its first and its last batch norm, and one pixel."""
    assert norm._cut((64, 112, 112, 64)) == (802816, 64, 400, (1, 2008))
    assert norm._cut((64, 7, 7, 2048)) == (3136, 2048, 128, (32, 25))
    assert norm._cut((1, 1, 1, 3)) == (1, 3, 128, (1, 1))
    assert norm._cut((0, 7, 7, 65))[3] == (2, 0)


@pytest.mark.parametrize(
    ("name", "launches"),
    [
        ("batch_norm", ["moments", "statistics", "normalise"]),
        ("batch_norm_g", ["gradient_sums", "add_parts", "gradient"]),
        ("fixed_batch_norm", ["normalise"]),
        ("fixed_batch_norm_g", ["fixed_gradient", "add_parts"]),
        ("bias_gb", ["gradient_sums", "add_parts"]),
    ],
)
def test_passes(card: Any, name: str, launches: list[str]) -> None:
    """No other work is done on the card, and nothing is copied."""
    there = [on_card(card, value) for value in arguments(name, (2, 3, 4), "float16")]
    card.standin.record.reset()
    getattr(norm, name)(*there)
    record = card.standin.record
    assert [launch.name for launch in record.launches] == launches
    assert record.operations == record.downloads == record.uploads == []


@pytest.mark.parametrize("name", NAMES)
def test_arrays_with_gaps_and_off_their_places(card: Any, name: str) -> None:
    """Numbers are taken one by one where the card cannot take four at a time."""
    given = arguments(name, (3, 5, 8), "float32")
    expected = run(card, name, given)

    def shifted(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        store = card.zeros(value.size + 1, value.dtype)
        store[1:] = card.asarray(value.ravel())
        return store[1:].reshape(value.shape)

    def with_gaps(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        store = card.zeros([2 * n for n in reversed(value.shape)], value.dtype)
        view = store[tuple(slice(None, None, 2) for _ in value.shape)].T
        view[...] = card.asarray(value)
        return view

    for otherwise in (shifted, with_gaps):
        result = tuple_of(getattr(norm, name)(*map(otherwise, given)))
        assert_equal([None if a is None else a.get() for a in result], expected)
    out = shifted(np.full_like(expected[0], np.nan))
    assert tuple_of(getattr(norm, name)(*map(shifted, given), out=out))[0] is out
    np.testing.assert_array_equal(out.get(), expected[0])


# --- by hand -------------------------------------------------------------------------------------


def test_two_numbers_by_hand(card: Any) -> None:
    """Of 1 and 3 the mean is 2 and the variance 1, so xhat is -1 and 1."""
    x, r = np.array([[1], [3]], np.float32), np.array([[0.5], [-9]], np.float32)
    gamma, beta = np.array([2], np.float32), np.array([7], np.float32)
    y, mean, var = run(card, "batch_norm", [x, gamma, beta, 0.0, r, True])
    assert (y.tolist(), mean.tolist(), var.tolist()) == ([[5.5], [0]], [2], [1])
    gy = np.array([[10], [20]], np.float32)
    # Only the first passes the ReLU: g = (10, 0), gbeta = 10, ggamma = -10,
    # gx = 2 * (g - 10 / 2 - xhat * -10 / 2) = 2 * (10 - 5 - 5, 0 - 5 + 5).
    given = [gy, x, y, gamma, mean, var, 0.0, True, True]
    results = [a.tolist() for a in run(card, "batch_norm_g", given)]
    assert results == [[[0], [0]], [-10], [10], [[10], [0]]]
    results = [a.tolist() for a in run(card, "fixed_batch_norm_g", given)]
    assert results == [[[20], [0]], [-10], [10], [[10], [0]]]


def test_bias_gb_by_hand(card: Any) -> None:
    gy = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert run(card, "bias_gb", [gy])[0].tolist() == [18, 22, 26]


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std"), [(1000, 1), (-1e4, 10), (0, 1e-3), (1, 1e4)])
def test_variance_far_from_zero(card: Any, mean: float, std: float) -> None:
    rng = np.random.default_rng(0)
    x = (mean + std * rng.standard_normal((1500, 5))).astype(np.float32)
    one, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    y, got_mean, got_var = run(card, "batch_norm", [x, one, zero, 0.0, None, False])
    exact = x.astype(np.float64)
    np.testing.assert_allclose(got_mean, exact.mean(axis=0), rtol=1e-6, atol=1e-5 * std)
    np.testing.assert_allclose(got_var, exact.var(axis=0), rtol=2e-6)
    rounded = abs(mean / std) * 2.0**-24  # the mean, when it is written
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 + rounded)


@pytest.mark.parametrize("place", [0, 1, 777, -1])
def test_variance_of_one_outlier(card: Any, place: int) -> None:
    """Where it is the number that a strip of n starts from, about n roundings are lost there."""
    x = np.full((3000, 4), 0.3, np.float32)
    x[place] = 5000
    one = np.ones(4, np.float32)
    _, mean, var = run(card, "batch_norm", [x, one, one, EPS, None, False])
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), atol=1e-6 * exact[:, 0].std())
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_of_equal_numbers_has_no_variance(card: Any, dtype: str) -> None:
    values = np.random.default_rng(0).uniform(-3e4, 3e4, 20)
    x = np.broadcast_to(values, (3, 7, 50, 20)).astype(dtype)
    beta = np.arange(20).astype(sum_dtype(x.dtype))
    y, mean, var = run(card, "batch_norm", [x, beta, beta, EPS, None, False])
    assert mean.tolist() == x[0, 0, 0].tolist()
    assert var.tolist() == [0] * 20
    np.testing.assert_array_equal(y, np.broadcast_to(beta, x.shape))


def test_rounding_makes_no_variance_negative(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst case: a strip that starts from the only number that is another, and a long one."""
    monkeypatch.setattr(norm, "MOST_BLOCKS", 1)
    x = np.full((100_000, 4), [0.1, 0.3, 1.1, 1 / 3], np.float32)
    x[0] = 0
    one = np.ones(4, np.float32)
    y, _, var = run(card, "batch_norm", [x, one, one, EPS, None, False])
    assert (var >= 0).all()
    assert np.isfinite(y).all()


# --- NaN, infinity, ReLU -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["batch_norm_g", "fixed_batch_norm_g"])
def test_a_closed_relu_holds_back(card: Any, name: str, bad: float, dtype: str) -> None:
    given = arguments(name, (4, 3, 3, 5), dtype)
    gy, y = given[0], given[2]
    clean = gy.copy()
    y[0, :, 0] = np.array([0, -0.0, np.nan])[:, None]
    gy[0, :, 0] = bad
    clean[0, :, 0] = 0
    result = run(card, name, given)
    assert_equal(result, run(card, name, [clean, *given[1:]]))
    assert all(np.isfinite(a).all() for a in result)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_passes_the_relu(card: Any, dtype: str) -> None:
    given = arguments("fixed_batch_norm", (2, 3, 3, 7), dtype)
    x = given[0]
    x[0, 0, 0] = np.nan
    (y,) = run(card, "fixed_batch_norm", given)
    np.testing.assert_array_equal(np.isnan(y.astype(float)), np.isnan(x.astype(float)))


def test_one_bad_channel_leaves_the_others_alone(card: Any) -> None:
    given = arguments("batch_norm", (3, 4, 4, 20), "float32")
    good = run(card, "batch_norm", given)
    given[0][1, 2, 3, 7] = np.nan
    for a, b in zip(run(card, "batch_norm", given), good, strict=True):
        np.testing.assert_array_equal(np.delete(a, 7, axis=-1), np.delete(b, 7, axis=-1))
        assert np.isnan(a[..., 7]).all()


# --- what is given, and what is returned ---------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("relu", "residual"), [(False, False), (True, False), (True, True)])
def test_gx_over_gy(card: Any, relu: bool, residual: bool, dtype: str) -> None:
    given = arguments("batch_norm_g", (140, 6), dtype, relu, residual)
    expected = run(card, "batch_norm_g", given)
    there = [on_card(card, value) for value in given]
    result = norm.batch_norm_g(*there, out=there[0])
    assert result[0] is there[0]
    assert_equal([None if a is None else a.get() for a in result], expected)


@pytest.mark.parametrize("name", ["batch_norm_g", "fixed_batch_norm_g"])
def test_without_relu_the_gradient_of_the_residual_is_gy_itself(card: Any, name: str) -> None:
    given = arguments(name, (2, 3, 3, 4), "float32", relu=False)
    there = [on_card(card, value) for value in given]
    assert getattr(norm, name)(*there)[3] is there[0]


@pytest.mark.parametrize("relu", [True, False])
def test_frozen_parameters_need_no_x(card: Any, relu: bool) -> None:
    given = arguments("fixed_batch_norm_g", (2, 3, 70), "float32", relu)
    gx, _, _, gresidual = run(card, "fixed_batch_norm_g", given)
    record = recorded(card)
    result = run(card, "fixed_batch_norm_g", [given[0], None, *given[2:]])
    assert_equal(result, (gx, None, None, gresidual))
    assert not record or len(record.launches) == 1


def test_an_image_does_not_know_its_batch_mates(card: Any) -> None:
    for name in ("fixed_batch_norm", "fixed_batch_norm_g"):
        given = arguments(name, (3, 7, 7, 5), "float32")
        alone = [a[1:2] if isinstance(a, np.ndarray) and a.ndim == 4 else a for a in given]
        batch = run(card, name, given)[0]
        np.testing.assert_array_equal(run(card, name, alone)[0], batch[1:2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch(card: Any, dtype: str) -> None:
    shape = (0, 2, 2, 5)
    for name in NAMES:
        like = "fixed_batch_norm_g" if name == "batch_norm_g" else name  # no mean of nothing
        first, *rest = run(card, name, arguments(like, shape, dtype))
        if name == "bias_gb":
            assert first.tolist() == [0] * 5
            continue
        assert first.shape == shape
        if name == "batch_norm":
            assert np.isnan(rest).all()
        if name.endswith("_g"):
            assert [a.tolist() for a in rest[:2]] == [[0] * 5] * 2


def test_wrong_arrays_are_refused(card: Any) -> None:
    given = arguments("fixed_batch_norm", (2, 3), "float16")
    for place, wrong, error, needed in (
        (1, given[1].astype(np.float16), TypeError, "float32 is needed, not float16"),
        (4, given[4][:2], ValueError, r"\(3,\) is needed, not \(2,\)"),
        (6, given[6].astype(np.float32), TypeError, "float16 is needed, not float32"),
        (6, given[6][:1], ValueError, r"\(2, 3\) is needed, not \(1, 3\)"),
    ):
        with pytest.raises(error, match=needed):
            run(card, "fixed_batch_norm", [*given[:place], wrong, *given[place + 1 :]])
    with pytest.raises(ValueError, match="out must be a contiguous array"):
        run(card, "fixed_batch_norm", given, out=card.zeros((2, 3), "float32"))


def test_integers_have_no_kernels(card: Any) -> None:
    with pytest.raises(TypeError, match="not for int32"):
        norm.bias_gb(card.zeros((2, 3), "int32"))
