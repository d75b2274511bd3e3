"""Sums and ReLU on the card, number by number."""

from typing import Any

import emulator
import numpy as np
import pytest
from agreement import DTYPES, numbers

from resnet_np.kernels import array
from resnet_np.kernels.gpu import compiling, elementwise

NAMES = ("add", "relu", "relu_gx")
# One number, fewer than a block has threads, more, none.
SHAPES = [(1,), (3, 5), (2, 7, 7, 9), (0, 4)]


def inputs(name: str, shape: tuple[int, ...], dtype: str) -> list[Any]:
    rng = np.random.default_rng(0)
    return [numbers(rng, shape, dtype) for _ in range(1 if name == "relu" else 2)]


def expected(name: str, given: list[Any]) -> Any:
    """Computed in double precision and rounded: so it is exact."""
    return getattr(array, name)(*(a.astype("f8") for a in given)).astype(given[0].dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_against_array(card: Any, name: str, shape: tuple[int, ...], dtype: str) -> None:
    given = inputs(name, shape, dtype)
    there = [card.asarray(a) for a in given]
    result = getattr(elementwise, name)(*there)
    assert result.dtype == given[0].dtype
    assert result.get().tobytes() == expected(name, given).tobytes()
    with emulator.backwards():
        assert getattr(elementwise, name)(*there).get().tobytes() == result.get().tobytes()
    for before, after in zip(given, there, strict=True):
        assert after.get().tobytes() == before.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_more_numbers_than_threads(card: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MOST_BLOCKS", 2)
    given = inputs(name, (5, 300), "float32")
    result = getattr(elementwise, name)(*(card.asarray(a) for a in given))
    np.testing.assert_array_equal(result.get(), expected(name, given))


@pytest.mark.parametrize("name", NAMES)
def test_one_launch_or_none(card: Any, name: str) -> None:
    record = card.standin.record
    for shape in ((3, 5), (0, 5)):
        there = [card.asarray(a) for a in inputs(name, shape, "float32")]
        record.reset()
        getattr(elementwise, name)(*there)
        assert [launch.name for launch in record.launches] == [name] * (0 not in shape)
        assert record.operations == record.downloads == []


@pytest.mark.parametrize("name", NAMES)
def test_out_and_arrays_with_gaps(card: Any, name: str) -> None:
    given = inputs(name, (4, 6), "float32")
    out = card.full((4, 3), np.nan, "f4")
    result = getattr(elementwise, name)(*(card.asarray(a)[:, ::2] for a in given), out=out)
    assert result is out
    np.testing.assert_array_equal(out.get(), expected(name, [a[:, ::2] for a in given]))
    over = card.asarray(given[0])
    rest = (card.asarray(a) for a in given[1:])
    assert getattr(elementwise, name)(over, *rest, out=over) is over
    np.testing.assert_array_equal(over.get(), expected(name, given))
    with pytest.raises(ValueError, match="out must be a contiguous array"):
        getattr(elementwise, name)(*(card.asarray(a) for a in given), out=card.zeros((4, 6), "f8"))


def test_nan_and_zero(card: Any) -> None:
    """NaN stays what it is, and a slope passes only where y is above zero."""
    x = np.array([np.nan, -np.inf, -1, -0.0, 0, 2, np.inf], "f4")
    y = elementwise.relu(card.asarray(x))
    np.testing.assert_array_equal(y.get(), [np.nan, 0, 0, 0, 0, 2, np.inf])
    gx = elementwise.relu_gx(card.ones(7, "f4"), y)
    np.testing.assert_array_equal(gx.get(), [0, 0, 0, 0, 0, 1, 1])
