"""What the tests of several kernels share: numbers of every dtype, and how far they may be off."""

from typing import Any

import ml_dtypes
import numpy as np

DTYPES = ("float32", "float64", "float16", "bfloat16")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 3e-3, "bfloat16": 2.5e-2}


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return rng.standard_normal(shape).astype(kind)


def recorded(card: Any) -> Any:
    """The stand-in's record of what was done, from now on; None of a real card, which has none."""
    if not hasattr(card, "standin"):
        return None
    card.standin.record.reset()
    return card.standin.record


def in_double(*arrays: Any) -> list[Any]:
    """The same numbers, for a twin that computes in double precision."""
    return [a.astype("f8") if isinstance(a, np.ndarray) else a for a in arrays]


def assert_close(got: Any, expected: Any, dtype: str) -> None:
    """`got`, of the card or of NumPy, is `expected` but for the rounding of this dtype."""
    got = got if isinstance(got, np.ndarray) else got.get()
    assert got.shape == expected.shape
    most = TOLERANCE[dtype] * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got.astype("f8"), expected, rtol=0, atol=most)
