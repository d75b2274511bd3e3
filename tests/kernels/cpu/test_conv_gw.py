"""The weight gradient in Numba against its twins: array.py, reference.py, and sums in float64."""

from typing import Any

import numba
import numpy as np
import pytest

from resnet_np.kernels import Array, Padding, Pair, array, output_sizes, reference
from resnet_np.kernels.cpu import conv_gw
from resnet_np.kernels.cpu.microkernel import PANEL, ROWS

NONE: Padding = ((0, 0), (0, 0))
Case = tuple[tuple[int, int, int, int], int, Pair, Pair, Padding]

# x's shape, K, size, stride, padding: a ResNet's convolutions, smaller
RESNET: list[Case] = [
    ((2, 19, 18, 3), 32, (7, 7), (2, 2), ((3, 3), (3, 3))),
    ((3, 14, 14, 64), 48, (1, 1), (1, 1), NONE),
    ((3, 14, 14, 32), 48, (1, 1), (2, 2), NONE),
    ((3, 15, 15, 32), 48, (1, 1), (2, 2), NONE),
    ((3, 20, 20, 12), 32, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((3, 20, 20, 12), 32, (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((3, 20, 20, 12), 32, (3, 3), (2, 2), ((0, 1), (0, 1))),
    ((9, 7, 7, 24), 64, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((64, 1, 1, 40), 21, (1, 1), (1, 1), NONE),
    ((1, 95, 90, 7), 17, (1, 1), (1, 1), NONE),  # more blocks than tasks
]
ODD: list[Case] = [
    ((1, 1, 1, 1), 1, (1, 1), (1, 1), NONE),
    ((2, 5, 4, 1), 3, (2, 3), (3, 2), ((2, 1), (0, 2))),
    ((2, 6, 5, 5), 17, (3, 5), (1, 1), ((1, 1), (2, 2))),
    ((2, 6, 5, 7), 1, (1, 3), (2, 1), ((1, 2), (1, 0))),
    ((2, 6, 5, 9), 33, (3, 1), (1, 3), ((0, 2), (1, 3))),
    ((2, 5, 5, 8), 5, (1, 1), (2, 3), ((1, 1), (4, 5))),
    ((1, 3, 3, 6), 16, (3, 3), (3, 3), ((3, 3), (3, 3))),
]


def operands(case: Case, seed: int = 0) -> tuple[Array, Array, tuple[int, ...], Pair, Padding]:
    """The arguments of conv2d_gw."""
    shape, k, size, stride, padding = case
    rng = np.random.default_rng(seed)
    gy_shape = (shape[0], *output_sizes(shape, size, stride, padding), k)
    gy = rng.standard_normal(gy_shape).astype(np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    return gy, x, (*size, shape[3], k), stride, padding


def scattered(value: Array) -> Array:
    """The same numbers with gaps in memory and the axes in another order."""
    store = np.zeros([2 * n for n in reversed(value.shape)], value.dtype)
    view = store[tuple(slice(None, None, 2) for _ in value.shape)].T
    view[...] = value
    return view


def assert_near(got: Array, expected: Array, tolerance: float = 2e-6) -> None:
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def exact(gy: Array, x: Array, *rest: Any) -> Array:
    return array.conv2d_gw(gy.astype(np.float64), x.astype(np.float64), *rest)


@pytest.mark.parametrize("case", RESNET + ODD)
def test_sums_are_right(case: Case) -> None:
    arguments = operands(case)
    before = [a.copy() for a in arguments[:2]]
    assert_near(conv_gw.conv2d_gw(*arguments), exact(*arguments))
    for a, b in zip(arguments, before, strict=False):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", ODD)
def test_as_the_definition(case: Case) -> None:
    arguments = operands(case)
    assert_near(conv_gw.conv2d_gw(*arguments), reference.conv2d_gw(*arguments))


@pytest.mark.parametrize("c", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3])
@pytest.mark.parametrize("k", [1, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 5])
def test_channels_that_fill_no_tile(c: int, k: int) -> None:
    for size in (1, 3):
        arguments = operands(((2, 6, 7, c), k, (size, size), (1, 1), NONE))
        assert_near(conv_gw.conv2d_gw(*arguments), exact(*arguments))


@pytest.mark.parametrize("case", [RESNET[0], RESNET[1], RESNET[5]])
def test_out_and_numbers_that_lie_otherwise_in_memory(case: Case) -> None:
    gy, x, shape, stride, padding = operands(case)
    expected = conv_gw.conv2d_gw(gy, x, shape, stride, padding)
    out = np.full(shape, np.nan, np.float32)
    assert conv_gw.conv2d_gw(scattered(gy), scattered(x), shape, stride, padding, out) is out
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out must be"):
        conv_gw.conv2d_gw(gy, x, shape, stride, padding, np.empty(shape, np.float64))


# Large enough for several blocks of pixels and several ranges of channels.
LARGE: list[Case] = [
    ((3, 56, 56, 64), 64, (1, 1), (1, 1), NONE),
    ((1, 56, 56, 64), 64, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 28, 28, 384), 320, (1, 1), (2, 2), NONE),
    ((16, 7, 7, 256), 272, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 64, 64, 3), 64, (7, 7), (2, 2), ((3, 3), (3, 3))),
    ((9, 14, 14, 512), 512, (1, 1), (1, 1), NONE),
]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too many sums for Python's loops")
@pytest.mark.parametrize("case", LARGE)
def test_large_sums_are_as_exact_as_those_of_array(case: Case) -> None:
    """Compared to float64, the mean error is no larger than twice that of a matrix product."""
    arguments = operands(case)
    expected = exact(*arguments)
    error, usual = (
        np.abs(module.conv2d_gw(*arguments) - expected).mean() for module in (conv_gw, array)
    )
    assert error <= 2 * usual
    assert error < 2e-6 * np.abs(expected).max()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there are no threads without the compiler")
@pytest.mark.parametrize("case", LARGE + RESNET[:2])
def test_the_number_of_threads_does_not_matter(case: Case) -> None:
    arguments = operands(case)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = conv_gw.conv2d_gw(*arguments)
    finally:
        numba.set_num_threads(most)
    for _ in range(3):
        np.testing.assert_array_equal(conv_gw.conv2d_gw(*arguments), one)


def test_large_sums_are_cut_in_every_way() -> None:
    """Into ranges of pixels, of C and of K: else the tests above would not see them added up."""
    shape, k, size, stride, padding = LARGE[-1]
    work = conv_gw.cut(shape, (*shape[:3], k), size, stride, padding)
    assert min(work.across * work.down, work.pixel_ranges, work.c_ranges, work.k_ranges) > 1


@pytest.mark.parametrize("wide", [ROWS, PANEL])
def test_groups_of_channels_are_dealt_to_their_places(wide: int) -> None:
    """Group j of pixel i; what a vector has too much is overwritten by the next pixel."""
    pixels, groups, step, pitch = 5, 3, 3 * wide + 4, 7 * wide
    source = np.random.default_rng(3).standard_normal(300).astype(np.float32)
    target = np.zeros(groups * pitch, np.float32)
    deal = conv_gw.deal_rows if wide == ROWS else conv_gw.deal_panels

    @numba.njit
    def run(source: Array, target: Array) -> None:
        deal(source, 2, step, pixels, groups, target, 0, wide, pitch)

    run(source, target)
    for i in range(pixels):
        for j in range(groups):
            start, place = 2 + i * step + j * wide, i * wide + j * pitch
            expected = source[start : start + wide]
            np.testing.assert_array_equal(target[place : place + wide], expected)


def test_partial_sums_take_bounded_memory() -> None:
    for side, c, k, size in ((56, 64, 64, 1), (56, 64, 64, 3), (28, 128, 128, 3), (7, 512, 512, 3)):
        shape, margin = (16, side, side, c), (size // 2, size // 2)
        work = conv_gw.cut(shape, (*shape[:3], k), (size, size), (1, 1), (margin, margin))
        parts = work.pixel_ranges * size * size * c * k
        assert work.pixel_ranges == 1 or parts <= conv_gw.PARTIAL_NUMBERS


def test_what_is_not_finite_reaches_its_own_sums_alone() -> None:
    gy, x, *rest = operands(((2, 6, 6, 8), 20, (3, 3), (1, 1), ((1, 1), (1, 1))))
    x[0, 2, 2, 5], gy[1, 3, 3, 17] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        gw = conv_gw.conv2d_gw(gy, x, *rest)
    expected = np.zeros(gw.shape, bool)
    expected[:, :, 5], expected[..., 17] = True, True
    np.testing.assert_array_equal(~np.isfinite(gw), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (64, 100, 37), (16, 300, 1000)])
def test_linear(shape: tuple[int, int, int]) -> None:
    n, c, k = shape
    rng = np.random.default_rng(1)
    gy = rng.standard_normal((n, k)).astype(np.float32)
    x = rng.standard_normal((n, c)).astype(np.float32)
    expected = array.linear_gw(gy.astype(np.float64), x.astype(np.float64))
    assert_near(conv_gw.linear_gw(gy, x), expected)
    out = np.full((c, k), np.nan, np.float32)
    assert conv_gw.linear_gw(scattered(gy), scattered(x), out) is out
    assert_near(out, expected)


@pytest.mark.parametrize("shape", [(1, 1), (16, 1000), (2, 3, 5, 7), (4, 40, 40, 67)])
def test_bias(shape: tuple[int, ...]) -> None:
    gy = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    expected = gy.astype(np.float64).reshape(-1, shape[-1]).sum(0)
    assert_near(conv_gw.bias_gb(gy), expected)
    out = np.full(shape[-1], np.nan, np.float32)
    assert conv_gw.bias_gb(scattered(gy), out) is out
    assert_near(out, expected)
