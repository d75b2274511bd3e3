"""Winograd's convolution against the plain one: in the small by hand, in the large in float64."""

import os
import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.kernels import Array, Padding, array, output_sizes, reference
from resnet_np.kernels.cpu import winograd
from resnet_np.kernels.cpu.arrays import aligned
from resnet_np.kernels.cpu.conv import pack_bias
from resnet_np.kernels.cpu.microkernel import LANES, PANEL

ONE: Padding = ((1, 1), (1, 1))
TOLERANCE = {2: 2e-6, 4: 5e-5}
FORMS = {
    2: (winograd.A2, winograd.G2, winograd.B2),
    4: (winograd.A4, winograd.G4, winograd.B4),
}
sizes = pytest.mark.parametrize("m", FORMS)


def run(
    x: Array, w: Array, b: Array | None, padding: Padding, m: int, r: Any = None, relu: bool = False
) -> Array:
    k = w.shape[3]
    y = aligned((len(x), *output_sizes(x.shape, (3, 3), (1, 1), padding), k))
    y[...] = np.nan  # what is not written shows
    winograd.ready(x, winograd.pack(w, m), pack_bias(b, k), k, padding, m, y, r, relu)()
    return y


def draw(shape: tuple[int, ...], c: int, k: int, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, c), np.float32)
    w = rng.standard_normal((3, 3, c, k), np.float32)
    return x, w, rng.standard_normal(k, np.float32)


def exact(x: Array, w: Array, b: Array | None, padding: Padding) -> Array:
    b = None if b is None else b.astype(np.float64)
    return array.conv2d(x.astype(np.float64), w.astype(np.float64), b, (1, 1), padding)


def assert_near(y: Array, expected: Array, m: int) -> None:
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE[m] * np.abs(expected).max())


# --- the matrices --------------------------------------------------------------------------------


@sizes
def test_one_dimension_is_the_plain_correlation(m: int) -> None:
    """A^T [(G g) * (B^T d)] is bilinear in g and d: right for all if it is for every pair of units.

    The 24-fold of G is whole numbers, so nothing is rounded here.
    """
    a, g, b = (np.array(matrix) for matrix in FORMS[m])
    whole = np.rint(24 * g)
    np.testing.assert_allclose(whole, 24 * g, rtol=0, atol=1e-14)
    for tap in range(3):
        for place in range(m + 2):
            weights, pixels = np.eye(3)[tap], np.eye(m + 2)[place]
            y = a @ ((whole @ weights) * (b @ pixels))
            expected = [24 * (i + tap == place) for i in range(m)]  # y[i] = sum of d[i + t] g[t]
            np.testing.assert_array_equal(y, expected)


def test_by_hand() -> None:
    """F(2, 3) on d = 1 2 3 4 and g = 5 6 7, with the four products of the module's text."""
    g0, g1, g2 = 5, 6, 7
    products = [
        (1 - 3) * g0,
        (2 + 3) * (g0 + g1 + g2) / 2,
        (3 - 2) * (g0 - g1 + g2) / 2,
        (2 - 4) * g2,
    ]
    assert products == [-10, 45, 3, -14]
    a, g, b = (np.array(matrix) for matrix in FORMS[2])
    np.testing.assert_array_equal((g @ [5, 6, 7]) * (b @ [1, 2, 3, 4]), products)
    np.testing.assert_array_equal(a @ products, [1 * 5 + 2 * 6 + 3 * 7, 2 * 5 + 3 * 6 + 4 * 7])


@sizes
def test_packed_weights(m: int) -> None:
    """U = G g G^T, and zeros for the channels that fill the last panel."""
    c, k = 3, PANEL + LANES
    _, w, _ = draw((1, 1, 1), c, k)
    u = winograd.pack(w, m)
    assert u.shape == ((m + 2) ** 2, 2, c, PANEL) and u.dtype == np.float32
    g = np.array(FORMS[m][1])
    expected = np.einsum("ir,rsck,js->ijck", g, w.astype(np.float64), g).reshape(-1, c, k)
    channels = u.swapaxes(1, 2).reshape(-1, c, 2 * PANEL)  # [a*a, 2, C, PANEL] -> [a*a, C, K]
    np.testing.assert_allclose(channels[:, :, :k], expected, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(channels[:, :, k:], 0)
    assert u.ctypes.data % 64 == 0


# --- the convolution -----------------------------------------------------------------------------


@sizes
def test_reference(m: int) -> None:
    x, w, b = draw((2, 5, 6), LANES, LANES)
    expected = reference.conv2d(x.astype(np.float64), w, b, (1, 1), ONE)
    assert_near(run(x, w, b, ONE, m), expected, m)


borders = st.tuples(st.integers(0, 2), st.integers(0, 2))


@sizes
@given(
    images=st.integers(1, 9),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    padding=st.tuples(borders, borders),
    lanes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**32 - 1),
    extras=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_any_size(m, images, size, padding, lanes, seed, extras) -> None:  # type: ignore[no-untyped-def]
    """Images smaller than a tile, borders wider than the kernel needs, channels beside a panel."""
    size = tuple(max(s, 3 - sum(border)) for s, border in zip(size, padding, strict=True))
    x, w, b = draw((images, *size), lanes[0] * LANES, lanes[1] * LANES, seed)
    has_b, has_r, relu = extras
    expected = exact(x, w, b if has_b else None, padding)
    largest = np.abs(expected).max()
    r = None
    if has_r:
        r = np.random.default_rng(seed).standard_normal(expected.shape, np.float32)
        expected = expected + r
    if relu:
        expected = np.maximum(expected, 0)
    y = run(x, w, b if has_b else None, padding, m, r, relu)
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE[m] * largest)


@sizes
@pytest.mark.parametrize("size, channels", [(56, 64), (28, 128), (14, 256), (7, 512)])
def test_layers_of_resnet(m: int, size: int, channels: int) -> None:
    x, w, b = draw((1, size, size), channels, channels)
    assert_near(run(x, w, b, ONE, m), exact(x, w, b, ONE), m)


@sizes
def test_residual_may_be_the_result(m: int) -> None:
    x, w, b = draw((3, 9, 7), 2 * LANES, 3 * LANES)
    y = np.random.default_rng(1).standard_normal((3, 9, 7, 3 * LANES), np.float32)
    expected = run(x, w, b, ONE, m, y, relu=True)
    winograd.ready(x, winograd.pack(w, m), pack_bias(b, 3 * LANES), 3 * LANES, ONE, m, y, y, True)()
    np.testing.assert_array_equal(y, expected)


@sizes
def test_nan_passes_relu(m: int) -> None:
    x, w, _ = draw((1, 20, 20), LANES, LANES)
    x[0, 0, 0, 0] = np.nan
    y = run(x, w, None, ONE, m, relu=True)
    assert np.isnan(y[0, :2, :2]).all()
    assert not np.isnan(y[0, m:]).any() and not np.isnan(y[0, :, m:]).any()


@sizes
@pytest.mark.parametrize("shape", [(1, 30, 30), (9, 7, 7), (2, 3, 5)])
def test_threads_change_nothing(m: int, shape: tuple[int, ...]) -> None:
    x, w, b = draw(shape, 3 * LANES, 5 * LANES)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in {1, min(2, before)}:
            numba.set_num_threads(threads)
            results.append(run(x, w, b, ONE, m))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[-1])


@sizes
@pytest.mark.parametrize("size", [(7, 7), (14, 13), (29, 30)])
def test_an_image_does_not_depend_on_the_others(m: int, size: tuple[int, int]) -> None:
    x, w, b = draw((9, *size), 2 * LANES, 3 * LANES)
    together = run(x, w, b, ONE, m)
    for n in range(9):
        np.testing.assert_array_equal(run(x[n : n + 1], w, b, ONE, m), together[n : n + 1])


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_suits(n: int) -> None:
    def suits(size: int, c: int, k: int, r: int = 3, s: int = 3, stride: int = 1) -> int:
        return winograd.suits((n, size, size, c), (r, s, c, k), (stride, stride), ONE)

    assert all(suits(size, c, c) in FORMS for size, c in [(56, 64), (28, 128), (14, 256)])
    assert suits(56, 64, 64, 1, 1) == suits(56, 64, 64, 3, 5) == 0
    assert suits(56, 64, 64, stride=2) == 0
    assert suits(56, LANES + 1, 64) == suits(56, 64, LANES + 1) == 0
    assert suits(1, 64, 64) == 0
    assert suits(7, 512, 512) == 4 or n < 8


def test_without_numba() -> None:
    """The slow twins of the intrinsics, as plain Python."""
    program = """
import sys, numpy as np
from resnet_np.kernels.cpu import winograd
rng = np.random.default_rng(0)
c, k = int(sys.argv[1]), int(sys.argv[2])
x = rng.standard_normal((2, 5, 6, c), np.float32)
w = rng.standard_normal((3, 3, c, k), np.float32)
b = rng.standard_normal(k, np.float32)
for m in (2, 4):
    y = np.full((2, 5, 6, k), np.nan, np.float32)
    winograd.ready(x, winograd.pack(w, m), b, k, ((1, 1), (1, 1)), m, y, np.ones_like(y), True)()
    sys.stdout.buffer.write(y.tobytes())
"""
    c, k = LANES, PANEL + LANES
    answer = subprocess.run(
        [sys.executable, "-c", program, str(c), str(k)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, check=True,
    ).stdout  # fmt: skip
    results = np.frombuffer(answer, np.float32).reshape(2, 2, 5, 6, k)
    x, w, b = draw((2, 5, 6), c, k)
    expected = exact(x, w, b, ONE) + 1
    for m, y in zip(FORMS, results, strict=True):
        assert_near(y, np.maximum(expected, 0), m)


@sizes
def test_no_images(m: int) -> None:
    x, w, b = draw((0, 7, 7), LANES, LANES)
    assert run(x, w, b, ONE, m).shape == (0, 7, 7, LANES)
