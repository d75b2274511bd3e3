"""A convolution made ready once: the same as one operation after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_np.kernels import is_compiled, output_sizes
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
    bias_of = (lambda kind: b.astype(kind)) if bias else (lambda kind: None)
    scale = rng.uniform(-1, 1, k) if n % 2 else None
    packed = PackedConv(weight, scale, bias_of("f4"), x.shape, *where)
    plain = PlainConv(weight.astype("f8"), scale, bias_of("f8"), *where)
    if packed.unpack is not None:
        assert np.array_equal(packed.unpack(weight.shape), weight)
    for residual in (None, shortcut):
        y, expected = empty(shortcut.shape, x), np.empty(shortcut.shape)
        packed.ready(x, y, residual, relu)()
        plain.ready(x.astype("f8"), expected, residual, relu)()
        assert np.abs(y - expected).max() <= 2e-5 * max(1, np.abs(expected).max())
        alone = empty(shortcut[:1].shape, x)
        packed.ready(x[-1:], alone, None if residual is None else residual[-1:], relu)()
        assert np.array_equal(alone[0], y[-1])
    over, plain_over = shortcut.copy(), shortcut.astype("f8")  # written over the shortcut
    packed.ready(x, over, over, relu)()
    plain.ready(x.astype("f8"), plain_over, plain_over, relu)()
    assert np.array_equal(over, y)
    assert np.array_equal(plain_over, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_begin_on_a_cache_line(dtype: type) -> None:
    array = empty((3, 5), np.zeros(1, dtype))
    assert (array.shape, array.dtype) == ((3, 5), dtype)
    assert not is_compiled(array) or array.ctypes.data % 64 == 0


def test_who_gets_what() -> None:
    where = (1, 3, 3, 2), (1, 1), ((0, 0), (0, 0))
    w = np.zeros((1, 1, 2, 2), np.float32)
    assert isinstance(
        fused_conv(w, None, None, *where), PackedConv if is_compiled(w) else PlainConv
    )
    assert isinstance(fused_conv(w.astype("f8"), None, None, *where), PlainConv)
