"""The emitted tile against its twin, and how the tile is chosen."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.microkernel import PANEL, ROWS, slow_tile, tile
from resnet_np.kernels.cpu.target import AVX2, AVX512, OTHER, choose_tile, features
from resnet_np.kernels.cpu.tasks import new_counter, slow_take, take


@compiled
def run_tile(y, y_at, x, x_at, runs, run, w, b, s, has_s, r, has_r, relu):  # type: ignore[no-untyped-def]
    tile(y, 5, y_at, 2, x, 3, x_at, runs, run, w, 4, 0, b, s, has_s, 6, r, has_r, relu)


@given(
    st.integers(0, 9), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 2**32),
)  # fmt: skip
def test_tile_and_its_twin(
    run: int, runs: int, has_s: bool, has_r: bool, relu: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, b, s, r = (rng.standard_normal(n, np.float32) for n in (400, PANEL + 6, PANEL + 6, 2000))
    w = rng.standard_normal(4 + max(1, runs) * 9 * PANEL, np.float32)
    x_at = rng.integers(0, 200, ROWS + 2)
    y_at = np.arange(ROWS + 2) * (PANEL + 3)
    starts = rng.integers(0, 100, runs)
    fast, slow = np.zeros(2000, np.float32), np.zeros(2000, np.float32)
    last = b, s, has_s, r, has_r, relu
    run_tile(fast, y_at, x, x_at, starts, run, w, *last)
    last = b, s, has_s, 6, r, has_r, relu
    slow_tile(slow, 5, y_at, 2, x, 3, x_at, starts, run, w, 4, 0, *last)
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)


def test_tiles_leave_registers_for_weights_and_a_pixel() -> None:
    for shape, registers in ((AVX512, 32), (AVX2, 16), (OTHER, 16)):
        assert shape.rows * shape.vectors + shape.vectors + 1 <= registers


def test_the_target_decides() -> None:
    assert choose_tile({"avx", "avx2", "fma", "avx512f"}) is AVX512
    assert choose_tile({"avx", "avx2", "fma"}) is AVX2
    assert choose_tile({"avx2", "fma"}) is AVX2  # what Numba has of "+avx2,+fma"
    assert choose_tile({"sse2", "sse4.2"}) is OTHER
    assert choose_tile({"neon"}) is OTHER


@compiled
def take_three(counter):  # type: ignore[no-untyped-def]
    return take(counter) * 100 + take(counter) * 10 + take(counter)


def test_tasks_are_taken_in_order() -> None:
    counter = new_counter()
    assert take_three(counter) == 12
    assert slow_take(counter) == 3
    assert counter[0] == 4


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.skipif("fma" not in features(), reason="the target has no multiply-add")
def test_the_tile_stays_in_registers() -> None:
    """The machine code of the loop: multiply-adds, and no sum moved to memory in between."""
    y_at = np.arange(ROWS + 2)
    zeros = np.zeros(4000, np.float32)
    fresh = numba.njit(run_tile.py_func)  # what was loaded from disk shows no machine code
    fresh(zeros, y_at, zeros, y_at, y_at[:1], 8, zeros, zeros, zeros, True, zeros, False, False)
    [assembly] = fresh.inspect_asm().values()
    lines = [line.strip() for line in assembly.splitlines()]
    multiply_adds = [line for line in lines if line.startswith("vfmadd")]
    assert len(multiply_adds) >= 4 * ROWS * 2
    on_stack = [line for line in multiply_adds if "(%rsp)" in line or "(%rbp)" in line]
    assert not on_stack
