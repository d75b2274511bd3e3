"""The implicit convolution and its input gradient against the array kernels, in odd sizes."""

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resnet_np.kernels import array, output_sizes
from resnet_np.kernels.cpu import conv, convolution, winograd
from resnet_np.kernels.cpu.compiling import compiled
from resnet_np.kernels.cpu.memory import slow_turn, turn
from resnet_np.kernels.cpu.microkernel import LANES, PANEL
from resnet_np.kernels.cpu.tasks import worker_count

seeds = st.integers(0, 2**32 - 1)
borders = st.tuples(st.integers(0, 3), st.integers(0, 3))


def close(got: Any, expected: Any, tolerance: float = 2e-6) -> None:
    """Within a small part of the largest number."""
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    largest = max(1e-30, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, ...]:
    """(x, w, b, stride, padding), of any size that fits."""
    rng = np.random.default_rng(draw(seeds))
    sizes = draw(st.tuples(st.integers(1, 5), st.integers(1, 19), st.integers(1, 19)))
    c, k = draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 15, 16, 17, 31, 32, 33, 50]))
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(borders), draw(borders)
    assume(min(output_sizes((*sizes, c), size, stride, padding)) >= 1)
    x = rng.standard_normal((*sizes, c), np.float32)
    w = rng.standard_normal((*size, c, k), np.float32)
    b = rng.standard_normal(k, np.float32) if draw(st.booleans()) else None
    return x, w, b, stride, padding


@given(convolutions(), st.sampled_from([1, 8, 96, 512]))
def test_forward_and_input_gradient(case: tuple[Any, ...], pixels: int) -> None:
    x, w, b, stride, padding = case
    with pytest.MonkeyPatch.context() as patch:  # blocks of a part of an image, and of several
        patch.setattr(conv, "LEAST_PIXELS", pixels)
        patch.setattr(conv, "MOST_PIXELS", pixels)
        y = convolution.conv2d(x, w, b, stride, padding)
        close(y, array.conv2d(x, w, b, stride, padding))
        gy = np.random.default_rng(0).standard_normal(y.shape, np.float32)
        gx = convolution.conv2d_gx(gy, w, x.shape, stride, padding)
        close(gx, array.conv2d_gx(gy, w, x.shape, stride, padding))
        gx = convolution.conv2d_gx(gy, w, x.shape, stride, padding, residual=x)
        close(gx, array.conv2d_gx(gy, w, x.shape, stride, padding, x))
        over = x.copy()
        assert convolution.conv2d_gx(gy, w, x.shape, stride, padding, over, out=over) is over
        close(over, gx)


@pytest.mark.parametrize(
    ("batch", "side", "c", "k", "r", "stride"),
    [
        (1, 56, 64, 64, 3, 1), (3, 28, 130, 250, 3, 2), (64, 7, 33, 65, 1, 1), (2, 63, 3, 64, 7, 2),
        (9, 14, 256, 70, 1, 2), (64, 1, 512, 1000, 1, 1),
    ],
)  # fmt: skip
def test_sizes_of_a_network(batch: int, side: int, c: int, k: int, r: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, side, side, c), np.float32)
    w = rng.standard_normal((r, r, c, k), np.float32)
    where: Any = ((stride, stride), ((r // 2, r // 2), (r // 2, r // 2)))
    y = convolution.conv2d(x, w, None, *where)
    tolerance = 2e-5 if winograd.suits(x.shape, w.shape, *where) else 2e-6
    close(y, array.conv2d(x, w, None, *where), tolerance)
    gx = convolution.conv2d_gx(y, w, x.shape, *where)
    close(gx, array.conv2d_gx(y, w, x.shape, *where), tolerance)
    over = x.copy()
    convolution.conv2d_gx(y, w, x.shape, *where, residual=over, out=over)
    close(over - x, gx, tolerance)


def grid_of(x: Any, w: Any) -> conv.Grid:
    _, h, width, _ = x.shape
    k = w.shape[3]
    places = 0, h * width * k, width * k, k
    padding = (w.shape[0] // 2,) * 2, (w.shape[1] // 2,) * 2
    where = w.shape[:2], (1, 1), padding, (h, width), places
    return conv.conv_grid(x.shape, *where, -(-k // PANEL), worker_count())


@pytest.mark.parametrize("k", [2 * PANEL, 2 * PANEL + 3])
@pytest.mark.parametrize("size", [1, 3])
def test_the_epilogue_adds_the_shortcut_and_cuts_below_zero(k: int, size: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 9, 5, 12), np.float32)
    w = rng.standard_normal((size, size, 12, k), np.float32)
    b = rng.standard_normal(k, np.float32)
    r = rng.standard_normal((2, 9, 5, k), np.float32)
    padding: Any = ((size // 2,) * 2, (size // 2,) * 2)
    plain = array.conv2d(x, w, b, (1, 1), padding)
    packed, bias = conv.pack_weights(w), conv.pack_bias(b, k)
    cases = [
        (None, True, np.maximum(plain, 0)),
        (r, False, plain + r),
        (r, True, np.maximum(plain + r, 0)),
    ]
    for shortcut, relu, expected in cases:
        y = np.full_like(r, np.nan)
        conv.ready(grid_of(x, w), x, packed, bias, k, y, shortcut, relu)()
        close(y, expected)
    y = r.copy()  # the shortcut may be written over
    conv.ready(grid_of(x, w), x, packed, bias, k, y, y, True)()
    close(y, np.maximum(plain + r, 0))
    scale = rng.uniform(-1, 1, k).astype(np.float32)
    scale[[0, -1]] = 0
    conv.ready(grid_of(x, w), x, packed, bias, k, y, r, True, conv.pack_bias(scale, k))()
    close(y, np.maximum((plain - b) * scale + b + r, 0))


@pytest.mark.parametrize("k", [1, PANEL, 2 * PANEL, 2 * PANEL + 3])
def test_packed_weights_can_be_unpacked(k: int) -> None:
    w = np.random.default_rng(2).standard_normal((3, 2, 5, k), np.float32)
    w[0, 0, 0, 0] = np.nan
    packed = conv.pack_weights(w)
    unpacked = conv.unpack_weights(packed, w.shape)
    assert unpacked.tobytes() == w.tobytes()
    assert unpacked.base is None and not np.shares_memory(unpacked, packed)
    flat = np.ascontiguousarray(w[0, 0])
    unpacked = conv.unpack_weights(conv.pack_weights(flat[None, None]), flat.shape)
    assert unpacked.tobytes() == flat.tobytes() and unpacked.base is None


def test_nan_passes_the_relu() -> None:
    x = np.full((1, 3, 3, 2), np.nan, np.float32)
    for k in (PANEL, 3):
        w = np.ones((1, 1, 2, k), np.float32)
        y = np.zeros((1, 3, 3, k), np.float32)
        bias = conv.pack_bias(None, k)
        conv.ready(grid_of(x, w), x, conv.pack_weights(w), bias, k, y, None, True)()
        assert np.isnan(y).all()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread only")
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without compilation: one worker")
def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 20, 20, 24), np.float32)
    w = rng.standard_normal((3, 3, 24, 40), np.float32)
    where: Any = ((2, 2), ((1, 1), (1, 1)))
    results = []
    before = numba.get_num_threads()
    for threads in (1, 2):
        numba.set_num_threads(threads)
        y = convolution.conv2d(x, w, None, *where)
        results.append((y, convolution.conv2d_gx(y, w, x.shape, *where)))
    numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("size", [1, 3])
def test_an_image_does_not_depend_on_its_neighbours(size: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 7, 7, 24), np.float32)
    w = rng.standard_normal((size, size, 24, 40), np.float32)
    where: Any = ((1, 1), ((size // 2,) * 2, (size // 2,) * 2))
    together = convolution.conv2d(x, w, None, *where)
    for i in range(len(x)):
        alone = convolution.conv2d(x[i : i + 1], w, None, *where)
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (1, 1, 40, 16), (3, 2, 17, 33), (7, 7, 3, 64), (0, 1, 8, 8)]
)
def test_turned(shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.testing.assert_array_equal(conv.turned(w), w[::-1, ::-1].swapaxes(2, 3))
    np.testing.assert_array_equal(conv.turned(w[1::2]), w[1::2][::-1, ::-1].swapaxes(2, 3))


@pytest.mark.parametrize("shape", [(3, 2, 20, 37), (1, 1, 16, 8), (2, 3, 5, 3), (1, 1, 33, 64)])
def test_packed_and_turned_at_once(shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).standard_normal((shape[0] + 1, *shape[1:]), np.float32)
    for part in (w, w[1::2]):
        np.testing.assert_array_equal(conv.pack_turned(part), conv.pack_weights(conv.turned(part)))


@pytest.mark.parametrize(
    ("batch", "side", "c", "k", "r", "stride", "border"),
    [(32, 4, 1024, 900, 1, 1, 0), (2, 9, 512, 20, 3, 2, 1), (1, 5, 1024, 20, 3, 1, 0)],
)
def test_pixels_that_share_a_place_in_the_cache(
    batch: int, side: int, c: int, k: int, r: int, stride: int, border: int
) -> None:
    """They are read from a copy with gaps; the sums are the same, bit for bit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, side, side, c), np.float32)
    w = rng.standard_normal((r, r, c, k), np.float32)
    where: Any = ((stride, stride), ((border, border), (border, border)))
    p, q = output_sizes(x.shape, (r, r), *where)
    packed, bias = conv.pack_weights(w), conv.pack_bias(None, k)
    results, pitches = [], []
    for period in (conv.CACHE_PERIOD, 2**62):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conv, "CACHE_PERIOD", period)
            conv.conv_grid.cache_clear()
            places = 0, p * q * k, q * k, k
            grid = conv.conv_grid(x.shape, (r, r), *where, (p, q), places, len(packed), 2)
            y = np.empty((batch, p, q, k), np.float32)
            conv.ready(grid, x, packed, bias, k, y)()
            results.append(y)
            pitches.append(grid.pitch)
    conv.conv_grid.cache_clear()
    # The last is read where it lies: few panels would read a copy.
    assert pitches == [c if (r, border) == (3, 0) else c + 16, c]
    np.testing.assert_array_equal(results[0], results[1])
    close(results[0], array.conv2d(x, w, None, *where), 1e-5)


def test_a_turned_square() -> None:
    """The intrinsic's slow twin does the same, and neither touches what lies around."""
    source = np.random.default_rng(0).standard_normal(40 * LANES, np.float32)
    fast, slow = np.zeros((2, 40 * LANES), np.float32)
    turn_square(source, fast)
    slow_turn(source, 3, LANES + 2, slow, 5, LANES + 7)
    np.testing.assert_array_equal(fast, slow)
    assert np.count_nonzero(slow) == LANES * LANES
    assert slow[5 + 2 * (LANES + 7) + 1] == source[3 + 1 * (LANES + 2) + 2]


@compiled
def turn_square(source, target):  # type: ignore[no-untyped-def]
    turn(source, 3, LANES + 2, target, 5, LANES + 7)


@pytest.mark.parametrize("side", [1, 5, 6, 12])
def test_an_empty_batch(side: int) -> None:
    x, w = np.zeros((0, side, side, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    where: Any = ((1, 1), ((1, 1), (1, 1)))
    y = convolution.conv2d(x, w, None, *where)
    assert y.shape == (0, side, side, 4)
    assert convolution.conv2d_gx(y, w, x.shape, *where).shape == x.shape
