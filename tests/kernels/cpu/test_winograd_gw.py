"""The weight gradient by Winograd's algorithm against the plain one, in float64."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_np.kernels import Array, Padding, array, output_sizes, reference
from resnet_np.kernels.cpu import conv_gw, convolution, winograd, winograd_gw
from resnet_np.kernels.cpu.microkernel import LANES, PANEL

ONE: Padding = ((1, 1), (1, 1))
TOLERANCE = {2: 2e-6, 4: 1e-5}
FORMS = {
    2: (winograd.A2, winograd.G2, winograd.B2),
    4: (winograd.A4, winograd.G4, winograd.B4),
}
sizes = pytest.mark.parametrize("m", FORMS)
compiler = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too much for Python's loops")


def draw(
    shape: tuple[int, int, int], c: int, k: int, padding: Padding = ONE, seed: int = 0
) -> tuple[Array, Array, tuple[int, ...], Padding]:
    """The arguments of `winograd_gw.conv2d_gw` up to m."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, c), np.float32)
    p, q = output_sizes(x.shape, (3, 3), (1, 1), padding)
    gy = rng.standard_normal((len(x), p, q, k), np.float32)
    return gy, x, (3, 3, c, k), padding


def exact(gy: Array, x: Array, shape: tuple[int, ...], padding: Padding) -> Array:
    return array.conv2d_gw(gy.astype(np.float64), x.astype(np.float64), shape, (1, 1), padding)


def assert_near(gw: Array, expected: Array, m: int) -> None:
    assert gw.shape == expected.shape and gw.dtype == np.float32
    np.testing.assert_allclose(gw, expected, rtol=0, atol=TOLERANCE[m] * np.abs(expected).max())


@sizes
def test_one_dimension_is_the_transpose_of_the_plain_correlation(m: int) -> None:
    """G^T [(A gy) * (B^T d)] for every pair of units; the 24-fold of G is whole numbers."""
    a, g, b = (np.array(matrix) for matrix in FORMS[m])
    whole = np.rint(24 * g)
    for output in range(m):
        for place in range(m + 2):
            gy, d = np.eye(m)[output], np.eye(m + 2)[place]
            expected = [24 * (output + tap == place) for tap in range(3)]  # gy[i] d[i + t]
            np.testing.assert_array_equal(whole.T @ ((a.T @ gy) * (b @ d)), expected)


@sizes
def test_by_hand(m: int) -> None:
    """One channel that is not zero: x is 1 at (1, 2), gy 5 at (0, 1) and 7 at (2, 2)."""
    gy, x, shape, padding = draw((1, 3, 4), LANES, LANES)
    gy[...], x[...] = 0, 0
    x[0, 1, 2, 3], gy[0, 0, 1, 2], gy[0, 2, 2, 2] = 1, 5, 7
    expected = np.zeros(shape)
    expected[2, 2, 3, 2] = 5  # x (1, 2) is tap (2, 2) of output (0, 1): 0 + 2 - 1, 1 + 2 - 1
    expected[0, 1, 3, 2] = 7
    assert_near(winograd_gw.conv2d_gw(gy, x, shape, padding, m), expected, m)


@sizes
def test_reference(m: int) -> None:
    arguments = draw((2, 5, 6), LANES, LANES)
    gy, x, shape, padding = arguments
    before = gy.copy(), x.copy()
    expected = reference.conv2d_gw(gy.astype(np.float64), x, shape, (1, 1), padding)
    assert_near(winograd_gw.conv2d_gw(*arguments, m), expected, m)
    for now, earlier in zip((gy, x), before, strict=True):
        np.testing.assert_array_equal(now, earlier)


borders = st.tuples(st.integers(0, 3), st.integers(0, 3))


@sizes
@settings(max_examples=60 if not numba.config.DISABLE_JIT else 3, deadline=None)
@given(
    images=st.integers(1, 64),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    padding=st.tuples(borders, borders),
    lanes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size(m, images, size, padding, lanes, seed) -> None:  # type: ignore[no-untyped-def]
    """Images smaller than a tile, borders wider than the kernel, channels that fill no panel."""
    size = tuple(max(s, 3 - sum(border)) for s, border in zip(size, padding, strict=True))
    arguments = draw((images, *size), lanes[0] * LANES, lanes[1] * LANES, padding, seed)
    assert_near(winograd_gw.conv2d_gw(*arguments, m), exact(*arguments), m)


@compiler
@sizes
@pytest.mark.parametrize("size, channels", [(56, 64), (28, 128), (14, 256), (7, 512)])
def test_layers_of_resnet(m: int, size: int, channels: int) -> None:
    """With inputs as they come from a ReLU, whose sums do not cancel."""
    gy, x, *rest = draw((4, size, size), channels, channels)
    x = np.maximum(x, 0)
    assert_near(winograd_gw.conv2d_gw(gy, x, *rest, m), exact(gy, x, *rest), m)


@sizes
def test_out_and_numbers_that_lie_otherwise_in_memory(m: int) -> None:
    gy, x, shape, padding = draw((2, 9, 7), 3 * LANES, PANEL + LANES)
    expected = winograd_gw.conv2d_gw(gy, x, shape, padding, m)
    out = np.full(shape, np.nan, np.float32)
    scattered = [np.repeat(a, 2, axis=3)[..., ::2] for a in (gy, np.asfortranarray(x))]
    assert winograd_gw.conv2d_gw(*scattered, shape, padding, m, out) is out
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out must be"):
        winograd_gw.conv2d_gw(gy, x, shape, padding, m, np.empty(shape, np.float64))


@compiler
@sizes
@pytest.mark.parametrize(
    "shape, c, k", [((2, 30, 30), 40, 72), ((9, 7, 7), 96, 256), ((1, 2, 3), 64, 64)]
)
def test_the_number_of_threads_does_not_matter(
    m: int, shape: tuple[int, int, int], c: int, k: int
) -> None:
    arguments = draw(shape, c, k)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = winograd_gw.conv2d_gw(*arguments, m)
    finally:
        numba.set_num_threads(most)
    for _ in range(3):
        np.testing.assert_array_equal(winograd_gw.conv2d_gw(*arguments, m), one)


@sizes
def test_what_is_not_finite_reaches_its_own_sums_alone(m: int) -> None:
    gy, x, *rest = draw((2, 6, 6), 2 * LANES, PANEL + LANES)
    x[0, 2, 2, 5], gy[1, 3, 3, PANEL] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        gw = winograd_gw.conv2d_gw(gy, x, *rest, m)
    expected = np.zeros(gw.shape, bool)
    expected[:, :, 5], expected[..., PANEL] = True, True
    np.testing.assert_array_equal(~np.isfinite(gw), expected)


def test_no_images() -> None:
    for m in FORMS:
        gw = winograd_gw.conv2d_gw(*draw((0, 7, 7), LANES, LANES), m)
        np.testing.assert_array_equal(gw, np.zeros((3, 3, LANES, LANES)))


def test_suits() -> None:
    def suits(n: int, size: int, c: int, k: int, r: int = 3, s: int = 3, stride: int = 1) -> int:
        return winograd_gw.suits((n, size, size, k), (r, s, c, k), (stride, stride))

    for size, c in [(56, 64), (28, 128), (14, 256), (7, 512)]:
        assert suits(16, size, c, c) == 4
        assert suits(16, size, c, c, stride=2) == 0
        assert suits(16, size, c, c, 1, 1) == suits(16, size, c, c, 3, 5) == 0
    assert suits(16, 56, LANES + 1, 64) == suits(16, 56, 64, LANES + 1) == 0
    assert suits(64, 2, 256, 256) == 2
    assert suits(1, 1, 512, 512) == suits(0, 7, 512, 512) == 0


@compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_the_faster_way_is_taken(stride: int) -> None:
    gy, x, shape, padding = draw((16, 14, 14), 64, 64)
    gy = np.ascontiguousarray(gy[:, ::stride, ::stride])
    out = np.empty(shape, np.float32)
    got = convolution.conv2d_gw(gy, x, shape, (stride, stride), padding, out)
    assert got is out
    if stride == 1:
        expected = winograd_gw.conv2d_gw(gy, x, shape, padding, 4)
    else:
        expected = conv_gw.conv2d_gw(gy, x, shape, (2, 2), padding)
    np.testing.assert_array_equal(got, expected)


def test_without_numba() -> None:
    """The slow twins of the intrinsics, as plain Python."""
    program = """
import sys, numpy as np
from resnet_np.kernels.cpu import winograd_gw
c, k = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
x = rng.standard_normal((2, 5, 6, c), np.float32)
gy = rng.standard_normal((2, 5, 6, k), np.float32)
for m in (2, 4):
    gw = winograd_gw.conv2d_gw(gy, x, (3, 3, c, k), ((1, 1), (1, 1)), m)
    sys.stdout.buffer.write(gw.tobytes())
"""
    c, k = 2 * LANES, PANEL + LANES
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(c), str(k)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, check=True,
    ).stdout  # fmt: skip
    results = np.frombuffer(answer, np.float32).reshape(2, 3, 3, c, k)
    arguments = draw((2, 5, 6), c, k)
    for m, gw in zip(FORMS, results, strict=True):
        assert_near(gw, exact(*arguments), m)
