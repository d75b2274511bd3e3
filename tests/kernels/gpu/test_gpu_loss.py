"""Softmax and cross-entropy on the GPU against the array kernels in double precision."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import emulator
import ml_dtypes
import numpy as np
import pytest
from agreement import recorded
from guarded import DTYPES, emulated, scattered

from resnet_np.kernels import Array, array
from resnet_np.kernels.gpu import loss as kernels

# Rows of fewer classes than a warp has threads, of as many, of more than a block has.
SHAPES = [(1, 1), (3, 5), (2, 32), (5, 33), (2, 200), (1, 1500)]
shapes = pytest.mark.parametrize("shape", SHAPES)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def on_the_emulator(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if "card" in request.fixturenames else emulated(kernels):
        yield


def numbers(shape: tuple[int, ...], dtype: Any, scale: float = 1, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(dtype)


def weights(shape: tuple[int, ...], dtype: Any) -> Array:
    """Targets that are no probabilities: rows with any sum up to 20, and with zeros."""
    t = np.random.default_rng(1).uniform(0, 2, shape)
    return np.where(t < 1, 0, t * 10 / shape[1]).astype(dtype)


def check(name: str, *arguments: Array) -> Array:
    """Near the array kernel in double precision, and the same each time: in either order of the
    threads, on scattered arrays, with `out`, and for each row alone."""
    kernel, dtype = getattr(kernels, name), arguments[0].dtype
    expected = getattr(array, name)(*(a.astype(np.float64) for a in arguments))
    out = np.full(expected.shape, np.nan, dtype)
    results = [kernel(*arguments), kernel(*map(scattered, arguments)), kernel(*arguments, out=out)]
    assert results[2] is out
    with emulator.backwards():
        results.append(kernel(*arguments))
    rows = [kernel(*(a[n : n + 1] for a in arguments)) for n in range(len(expected))]
    results.append(np.concatenate(rows))
    for result in results:
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, results[0])
    eps = float(ml_dtypes.finfo(dtype).eps)
    largest = np.abs(expected).max(where=np.isfinite(expected), initial=0)
    np.testing.assert_allclose(
        results[0].astype(np.float64), expected, rtol=8 * eps, atol=eps * largest
    )
    return results[0]


@shapes
@dtypes
def test_softmax(shape: tuple[int, int], dtype: Any) -> None:
    p = check("softmax", numbers(shape, dtype, 5))
    np.testing.assert_allclose(p.astype(np.float64).sum(axis=1), 1, rtol=1e-2)


@shapes
@dtypes
def test_cross_entropy(shape: tuple[int, int], dtype: Any) -> None:
    check("softmax_cross_entropy", numbers(shape, dtype, 5), weights(shape, dtype))


@shapes
@dtypes
def test_cross_entropy_back(shape: tuple[int, int], dtype: Any) -> None:
    p = array.softmax(numbers(shape, np.float64, 2)).astype(dtype)
    gy = numbers(shape[:1], dtype, seed=2)
    check("softmax_cross_entropy_gx", gy, p, weights(shape, dtype))


def test_by_hand() -> None:
    x = np.log(np.array([[1.0, 3.0], [6.0, 2.0]]))
    np.testing.assert_allclose(kernels.softmax(x), [[0.25, 0.75], [0.75, 0.25]], rtol=1e-15)
    t = np.array([[1.0, 0.0], [0.0, 2.0]])
    loss = kernels.softmax_cross_entropy(x, t)
    np.testing.assert_allclose(loss, [np.log(4), 2 * np.log(4)], rtol=1e-15)
    gx = kernels.softmax_cross_entropy_gx(np.array([1.0, 10.0]), kernels.softmax(x), t)
    np.testing.assert_allclose(gx, [[-0.75, 0.75], [15, -15]], rtol=1e-14)


def test_large_logits() -> None:
    """exp(1000) is infinite, and exp(-1000) is 0: neither comes into it."""
    x = np.array([[1000.0, 0.0, 999.0], [-1000.0, -2000.0, -1001.0]], np.float32)
    near = np.exp(-1) / (1 + np.exp(-1))
    expected = [[1 - near, 0, near], [1 - near, 0, near]]
    np.testing.assert_allclose(kernels.softmax(x), expected, rtol=1e-6)
    t = np.array([[0, 1, 0], [0, 1, 0]], np.float32)
    np.testing.assert_allclose(kernels.softmax_cross_entropy(x, t), [1000.3132, 1000.3132])


@pytest.mark.parametrize("place", [0, 31, 1023, 1024, 2049])
def test_the_largest_is_found_wherever_it_is(place: int) -> None:
    x = np.zeros((1, 2050), np.float32)
    x[0, place] = 500
    assert kernels.softmax(x)[0, place] == 1


def test_nan_and_infinity_stay_in_their_rows() -> None:
    x, t = numbers((6, 70), np.float32), np.ones((6, 70), np.float32)
    x[1, 3], x[2, 69], x[3, 40], x[4] = np.nan, np.inf, -np.inf, -np.inf
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        p, loss = check("softmax", x), check("softmax_cross_entropy", x, t)
    assert np.isnan(p).all(axis=1).tolist() == [False, True, True, False, True, False]
    assert np.isfinite(p[[0, 3, 5]]).all()
    assert p[3, 40] == 0
    assert np.isnan(loss).tolist() == [False, True, True, False, True, False]
    assert loss[3] == np.inf


def test_as_many_classes_as_a_vocabulary_has() -> None:
    x = numbers((1, 100_000), np.float32, 3)
    expected = array.softmax(x.astype(np.float64))
    np.testing.assert_allclose(kernels.softmax(x), expected, rtol=2e-6)


def test_the_result_may_take_the_place_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else they would work on copies.
    monkeypatch.setattr(kernels, "contiguous", lambda x, dtype=None: x)
    x, t = numbers((2, 40), np.float32), weights((2, 40), np.float32)
    gy = np.ones(2, np.float32)
    p = kernels.softmax(x)
    gx = kernels.softmax_cross_entropy_gx(gy, p, t)
    np.testing.assert_array_equal(kernels.softmax(x, out=x), p)
    np.testing.assert_array_equal(kernels.softmax_cross_entropy_gx(gy, p, t, out=p), gx)


def test_no_image() -> None:
    x, gy = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    assert kernels.softmax(x).shape == (0, 4)
    assert kernels.softmax_cross_entropy(x, x).shape == (0,)
    assert kernels.softmax_cross_entropy_gx(gy, x, x).shape == (0, 4)


def test_out_must_fit() -> None:
    x, gy = np.zeros((2, 4), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="out must be"):
        kernels.softmax(x, out=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="out must be"):
        kernels.softmax_cross_entropy(x, x, out=np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="out must be"):
        kernels.softmax_cross_entropy_gx(gy, x, x, out=np.zeros((4, 2), np.float32))


@dtypes
def test_on_the_card(card: Any, dtype: Any) -> None:
    """Each kernel is one launch, and results are arrays on the card."""
    x, gy = numbers((3, 70), dtype, 2), numbers((3,), dtype, seed=2)
    t = weights((3, 70), dtype)
    p = array.softmax(x.astype(np.float64)).astype(dtype)
    calls = [
        ("softmax", x),
        ("softmax_cross_entropy", x, t),
        ("softmax_cross_entropy_gx", gy, p, t),
    ]
    for name, *arguments in calls:
        expected = getattr(array, name)(*(a.astype(np.float64) for a in arguments))
        out = card.empty(expected.shape, dtype)
        there = [card.asarray(a) for a in arguments]
        record = recorded(card)
        assert getattr(kernels, name)(*there, out=out) is out
        if record:
            assert [launch.name for launch in record.launches] == [name]
            assert record.operations == []
        eps = float(ml_dtypes.finfo(dtype).eps)
        np.testing.assert_allclose(
            out.get().astype(np.float64), expected, rtol=8 * eps, atol=eps * np.abs(expected).max()
        )


def test_what_lies_otherwise_in_memory_on_the_card(card: Any) -> None:
    x = numbers((70, 3), np.float32)
    expected = array.softmax(x.T.astype(np.float64))
    np.testing.assert_allclose(kernels.softmax(card.asarray(x).T).get(), expected, rtol=2e-6)
