"""Each array kernel against its naive twin: shapes, strides and paddings drawn by hypothesis.

Every comparison is made three times: on contiguous inputs, on the same numbers lying otherwise in
memory, and with `out` given. No input may be changed by any of them.
"""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resnet_np.kernels import Padding, Pair, array, get_array_module, output_sizes, reference

DTYPES = (np.float32, np.float64)
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}

dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)
small = st.integers(1, 3)
pairs = st.tuples(small, small)
sides = st.integers(1, 7)
borders = st.tuples(st.integers(0, 2), st.integers(0, 2))


def scattered(value: Any) -> Any:
    """The same array with gaps in memory and its axes laid out in another order."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    store = np.zeros([2 * n for n in reversed(value.shape)], value.dtype)
    view = store[tuple(slice(None, None, 2) for _ in value.shape)].T
    view[...] = value
    return view


def tuple_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same(got: Any, expected: Any) -> None:
    for a, b in zip(tuple_of(got), tuple_of(expected), strict=True):
        if b is None:
            assert a is None
            continue
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        tolerance = TOLERANCE.get(b.dtype, 0.0)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


def compare(name: str, *arguments: Any, **naive: Any) -> None:
    """`naive` may replace the reference's answer where the two are not meant to be equal."""
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    expected = getattr(reference, name)(*arguments)
    kernel = getattr(array, name)
    assert_same(kernel(*arguments), expected)
    assert_same(kernel(*[scattered(a) for a in arguments]), expected)
    for module in (array, reference):
        first = tuple_of(expected)[0]
        out = np.full_like(first, np.nan)
        answer = getattr(module, name)(*arguments, out=out)
        assert tuple_of(answer)[0] is out
        assert_same(answer, expected)
    for a, b in zip(arguments, before, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=f"{name} changed its input")


@st.composite
def windows(draw: st.DrawFn, most_padding: bool = True) -> tuple[Any, Pair, Pair, Padding]:
    """(x, size, stride, padding) of a sliding window that fits."""
    rng = np.random.default_rng(draw(seeds))
    shape = (draw(st.integers(1, 3)), draw(sides), draw(sides), draw(small))
    size, stride = draw(pairs), draw(pairs)
    padding = (draw(borders), draw(borders))
    if not most_padding:  # pooling: at least a pixel of the image in every window
        padding = tuple(  # type: ignore[assignment]
            (min(a, n // 2), min(b, n // 2)) for (a, b), n in zip(padding, size, strict=True)
        )
    assume(min(output_sizes(shape, size, stride, padding)) >= 1)
    return rng.standard_normal(shape).astype(draw(dtypes)), size, stride, padding


@given(windows(), small, st.booleans(), st.sampled_from([1, 200, 2**24]), seeds)
def test_conv2d(
    window: tuple[Any, Pair, Pair, Padding], k: int, bias: bool, workspace: int, seed: int
) -> None:
    x, size, stride, padding = window
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((*size, x.shape[3], k)).astype(x.dtype)
    b = rng.standard_normal(k).astype(x.dtype) if bias else None
    gy_shape = (len(x), *output_sizes(x.shape, size, stride, padding), k)
    gy = rng.standard_normal(gy_shape).astype(x.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array, "WORKSPACE_BYTES", workspace)  # one image at a time, some, all
        compare("conv2d", x, w, b, stride, padding)
        compare("conv2d_gx", gy, w, x.shape, stride, padding)
        residual = rng.standard_normal(x.shape).astype(x.dtype)
        compare("conv2d_gx", gy, w, x.shape, stride, padding, residual)
        compare("conv2d_gw", gy, x, w.shape, stride, padding)
    compare("bias_gb", gy)


def test_chunks_cover_the_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "WORKSPACE_BYTES", 100)
    assert list(array._chunks(5, 40)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(array._chunks(2, 1000)) == [slice(0, 1), slice(1, 2)]


@given(small, small, small, st.booleans(), dtypes, seeds)
def test_linear(n: int, c: int, k: int, bias: bool, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, gy = (rng.standard_normal(s).astype(dtype) for s in ((n, c), (c, k), (n, k)))
    compare("linear", x, w, rng.standard_normal(k).astype(dtype) if bias else None)
    compare("linear_gx", gy, w)
    compare("linear_gw", gy, x)
    compare("bias_gb", gy)


@given(
    st.sampled_from([(4, 3), (2, 3, 2, 2), (1, 5, 5, 1), (3, 1, 2, 4)]),
    st.booleans(),
    st.booleans(),
    dtypes,
    seeds,
)
def test_batch_norms(
    shape: tuple[int, ...], residual: bool, relu: bool, dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, gy, shortcut = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    x = x * 3 + 1
    c = shape[-1]
    gamma, beta, mean = (rng.standard_normal(c).astype(dtype) for _ in range(3))
    var = rng.uniform(0.5, 2, c).astype(dtype)
    r = shortcut if residual else None

    compare("batch_norm", x, gamma, beta, 1e-5, r, relu)
    y, batch_mean, batch_var = reference.batch_norm(x, gamma, beta, 1e-5, r, relu)
    given_ = x, y, gamma, batch_mean, batch_var, 1e-5, residual, relu
    compare("batch_norm_g", gy, *given_)
    if relu or not residual:  # else gy is a result
        expected = reference.batch_norm_g(gy, *given_)
        for module in (array, reference):
            out = gy.copy()
            assert_same(module.batch_norm_g(out, *given_, out=out), expected)

    compare("fixed_batch_norm", x, gamma, beta, mean, var, 1e-3, r, relu)
    y = reference.fixed_batch_norm(x, gamma, beta, mean, var, 1e-3, r, relu)
    compare("fixed_batch_norm_g", gy, x, y, gamma, mean, var, 1e-3, residual, relu)
    compare("fixed_batch_norm_g", gy, None, y, gamma, mean, var, 1e-3, residual, relu)


@given(windows(most_padding=False), st.booleans(), seeds)
def test_pools(window: tuple[Any, Pair, Pair, Padding], ties: bool, seed: int) -> None:
    x, size, stride, padding = window
    if ties:
        x = np.round(x)
    where = (size, stride, padding)
    gy_shape = (len(x), *output_sizes(x.shape, *where), x.shape[3])
    gy = np.random.default_rng(seed).standard_normal(gy_shape).astype(x.dtype)
    compare("max_pool", x, *where)
    compare("max_pool_gx", gy, reference.max_pool(x, *where)[1], x.shape, *where)
    compare("avg_pool", x, *where)
    compare("avg_pool_gx", gy, x.shape, *where)


@given(st.tuples(small, small, small, small), pairs, dtypes, seeds)
def test_relu_global_pool_and_upsampling(
    shape: tuple[int, ...], factor: Pair, dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n, h, w, c = shape
    x, gy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    compare("add", x, gy)
    compare("relu", x)
    compare("relu_gx", gy, reference.relu(x))
    compare("global_avg_pool", x)
    compare("global_avg_pool_gx", rng.standard_normal((n, c)).astype(dtype), shape)
    compare("upsample_nearest", x, factor)
    large = rng.standard_normal((n, h * factor[0], w * factor[1], c)).astype(dtype)
    compare("upsample_nearest_gx", large, factor)


@given(small, st.integers(1, 5), dtypes, seeds)
def test_softmax_and_cross_entropy(n: int, k: int, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, k)) * 10).astype(dtype)
    t = rng.uniform(0, 1, (n, k)).astype(dtype)
    compare("softmax", x)
    compare("softmax_cross_entropy", x, t)
    gy = rng.standard_normal(n).astype(dtype)
    compare("softmax_cross_entropy_gx", gy, reference.softmax(x), t)


@given(
    st.sampled_from(
        [
            ("sgd_step", 0, (0.1, 0.0, False, 0.01)),
            ("sgd_step", 1, (0.1, 0.9, False, 0.0)),
            ("sgd_step", 1, (0.1, 0.9, True, 0.01)),
            ("rmsprop_step", 1, (0.1, 0.9, 1e-8, 0.0, 0.01)),
            ("rmsprop_step", 2, (0.1, 0.9, 1e-8, 0.5, 0.0)),
            ("adam_step", 2, (3, 0.1, (0.9, 0.99), 1e-8, 0.01, False)),
            ("adam_step", 2, (1, 0.1, (0.9, 0.99), 1e-8, 0.01, True)),
        ]
    ),
    dtypes,
    seeds,
)
def test_steps(case: tuple[str, int, tuple[Any, ...]], dtype: Any, seed: int) -> None:
    name, states, numbers = case
    rng = np.random.default_rng(seed)
    shapes = [(3, 2), (), (4,)]  # of the parameters that one call changes
    ws, gs = ([rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(2))
    state = [[rng.uniform(0.1, 1, shape).astype(dtype) for shape in shapes] for _ in range(states)]
    absent = (
        1 if (name == "sgd_step" and not states) or (name, states) == ("rmsprop_step", 1) else 0
    )
    results = []
    for module in (reference, array):
        mine, gradients, *own = ([a.copy() for a in arrays] for arrays in (ws, gs, *state))
        getattr(module, name)(mine, gradients, *own, *[None] * absent, *numbers)
        for after, before in zip(gradients, gs, strict=True):
            np.testing.assert_array_equal(after, before)
        results.append(tuple(chain(mine, *own)))
    assert_same(results[1], results[0])


@pytest.mark.parametrize(
    "out",
    [np.zeros((4, 3)), np.zeros((3, 4), np.float32), np.zeros((3, 8))[:, ::2]],
    ids=["shape", "dtype", "gaps"],
)
def test_an_out_that_cannot_take_the_result_is_refused(out: Any) -> None:
    with pytest.raises(ValueError, match=r"out must be a contiguous array of float64 \(3, 4\)"):
        array.relu(np.ones((3, 4)), out=out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_closed_mask_holds_back_infinity(dtype: Any) -> None:
    gy = np.array([[np.inf, -np.inf, np.nan, 5.0, -2.0]], dtype)
    y = np.array([[0.0, 0.0, 0.0, 0.0, 1.0]], dtype)
    assert_same(array.relu_gx(gy, y), np.array([[0, 0, 0, 0, -2]], dtype))
    where: Any = ((1, 2), (1, 2), ((0, 0), (0, 0)))
    x = np.array([1.0, 2.0, 4.0, 3.0], dtype).reshape(1, 1, 4, 1)
    index = array.max_pool(x, *where)[1]
    gx = array.max_pool_gx(
        np.array([np.inf, 7.0], dtype).reshape(1, 1, 2, 1), index, x.shape, *where
    )
    np.testing.assert_array_equal(gx.ravel(), [0, np.inf, 7, 0])


class Foreign:
    """No array at all."""


@pytest.mark.parametrize("thing", [Foreign(), [1.0], None, memoryview(b"")])
def test_what_is_no_array_is_named(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"NumPy or CuPy is needed, not {type(thing).__name__}"):
        get_array_module(thing)
