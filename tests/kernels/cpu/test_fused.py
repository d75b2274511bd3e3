"""A convolution made ready once: the same as one operation after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_np.kernels import output_sizes
from resnet_np.kernels.cpu.fused import PackedConv
from resnet_np.kernels.fused import PlainConv, empty, fused_conv

SHAPES = [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (2, 1, 0)]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 5), st.integers(3, 20), st.integers(3, 9), st.integers(1, 40),
    st.integers(1, 40), st.sampled_from(SHAPES), st.booleans(), st.booleans(),
)  # fmt: skip
def test_packed_is_plain(
    n: int, h: int, w: int, c: int, k: int, shape: tuple[int, int, int], bias: bool, relu: bool
) -> None:
    size, stride, border = shape
    rng = np.random.default_rng(n)
    x, weight, b = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((n, h, w, c), (size, size, c, k), (k,))
    )
    where = (stride, stride), ((border, border), (border, border))
    shortcut = rng.standard_normal((n, *output_sizes(x.shape, (size, size), *where), k), "f4")
    packed = fused_conv(weight, b if bias else None, x.shape, *where)
    assert isinstance(packed, PackedConv)
    plain = PlainConv(weight, b if bias else None, *where)
    for residual in (None, shortcut):
        y, expected = empty(shortcut.shape, x), empty(shortcut.shape, x)
        packed(x, y, residual, relu)
        plain(x, expected, residual, relu)
        assert np.abs(y - expected).max() <= 2e-5 * max(1, np.abs(expected).max())
        one = empty(shortcut[:1].shape, x)
        packed(x[-1:], one, None if residual is None else residual[-1:], relu)
        assert np.array_equal(one[0], y[-1])
    for conv in (packed, plain):  # over the shortcut
        over = shortcut.copy()
        conv(x, over, over, relu)
        np.testing.assert_allclose(over, expected, rtol=2e-4, atol=2e-4)
        if conv is packed:
            assert np.array_equal(over, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_begin_on_a_cache_line(dtype: type) -> None:
    array = empty((3, 5), np.zeros(1, dtype))
    assert (array.shape, array.dtype) == ((3, 5), dtype)
    assert dtype == np.float64 or array.ctypes.data % 64 == 0


def test_other_numbers_take_the_plain_way() -> None:
    where = (1, 1), ((0, 0), (0, 0))
    assert isinstance(fused_conv(np.zeros((1, 1, 2, 2)), None, (1, 3, 3, 2), *where), PlainConv)
