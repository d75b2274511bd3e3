"""What is emitted for a window does what its twin in Python does."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.kernels.cpu import windows
from resnet_np.kernels.cpu.compiling import compiled

START, AT, PLACES = 500, 7, 1100


@compiled
def run(x, index, taps, count, y, y_alone, winner, total, mean, at, c):  # type: ignore[no-untyped-def]
    windows.largest(x, taps, y, winner, at, c)
    windows.largest(x, taps, y_alone, None, at, c)
    windows.total_where(x, index, taps, total, at, c)
    windows.mean(x, taps, count, mean, at, c)


def run_slowly(
    x: Any, index: Any, taps: windows.Taps, count: np.float32, y: Any, y_alone: Any, winner: Any,
    total: Any, mean: Any, at: int, c: int,
) -> None:  # fmt: skip
    windows.slow_largest(x, taps, y, winner, at, c)
    windows.slow_largest(x, taps, y_alone, None, at, c)
    windows.slow_total_where(x, index, taps, total, at, c)
    windows.slow_mean(x, taps, count, mean, at, c)


steps = st.integers(-100, 100)
numbers = st.integers(0, 9)


@given(
    st.tuples(st.just(START), steps, steps, st.integers(0, 3), st.integers(0, 3)),
    st.tuples(numbers, numbers, numbers),
    st.integers(1, 150),
    st.integers(0, 2**32 - 1),
)
def test_windows_and_their_twins(where: Any, tap: Any, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, PLACES).astype(np.float32)  # small integers: equals in plenty
    x[rng.random(PLACES) < 0.05] = np.nan
    index = rng.integers(0, 10, PLACES).astype(np.int32)
    results = []
    for runner in (run, run_slowly):
        y, alone, total, mean = (np.full(300, 7, np.float32) for _ in range(4))
        winner = np.full(300, 7, np.int32)
        runner(x, index, where + tap, np.float32(3), y, alone, winner, total, mean, AT, c)
        results.append((y, alone, total, mean, winner))
    for fast, slow in zip(*results, strict=True):
        np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(results[0][0], results[0][1])
    assert (results[0][0][AT + c :] == 7).all()  # nothing behind the last channel
