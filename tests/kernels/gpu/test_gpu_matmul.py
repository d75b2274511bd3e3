"""Matrix products by cuBLAS: what is multiplied with what, and how exactly."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from agreement import DTYPES, assert_close, in_double, numbers, recorded

from resnet_np.kernels import array, precision, using_precision
from resnet_np.kernels.gpu import matmul
from resnet_np.kernels.gpu.matmul import finish, gemm, linear, linear_gw, linear_gx


def with_gaps(cupy: Any, x: Any, gap: int) -> Any:
    """`x` on the card, each row followed by `gap` numbers that are NaN."""
    store = cupy.full((x.shape[0], x.shape[1] + gap), np.nan, x.dtype)
    view = store[:, : x.shape[1]]
    view[...] = cupy.asarray(x)
    return view


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_gemm(card: Any, dtype: str, transpose_a: bool, transpose_b: bool) -> None:
    rng = np.random.default_rng(1)
    for (m, k, n), gap, accumulate in product(
        [(3, 5, 4), (1, 1, 1), (1, 4, 3), (4, 1, 3), (4, 3, 1)], (0, 3), (False, True)
    ):
        a, b, c = (numbers(rng, shape, dtype) for shape in ((m, k), (k, n), (m, n)))
        out = with_gaps(card, c, gap)
        gemm(
            with_gaps(card, a.T.copy() if transpose_a else a, gap),
            with_gaps(card, b.T.copy() if transpose_b else b, gap),
            out, transpose_a, transpose_b, accumulate,
        )  # fmt: skip
        a, b, c = in_double(a, b, c)
        assert_close(out, a @ b + c * accumulate, dtype)


def test_gemm_writes_no_gap(card: Any) -> None:
    store = card.full((3, 7), 5.0, "f4")
    gemm(card.ones((3, 2), "f4"), card.ones((2, 4), "f4"), store[:, :4])
    assert (store.get() == [[2, 2, 2, 2, 5, 5, 5]] * 3).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_added_up_in_float32(card: Any, dtype: str) -> None:
    many = card.ones((1, 5000), numbers(np.random.default_rng(0), (1,), dtype).dtype)
    for kind in (many.dtype, np.dtype("f4")):  # in halves, the sum would stop at 256 or at 2048
        out = card.zeros((1, 1), kind)
        gemm(many, many, out, transpose_b=True)
        assert float(out.get()[0, 0]) == np.float64(5000).astype(kind)


def test_float32_is_multiplied_in_full_unless_told_otherwise(card: Any) -> None:
    x = card.full((1, 1), 1 + 2**-12, "f4")  # in TF32: 1
    out = card.zeros((1, 1), "f4")
    gemm(x, x, out)
    assert out.get() == np.float32((1 + 2**-12) ** 2)
    with using_precision("tf32"):
        gemm(x, x, out)
        assert out.get() == 1
        with using_precision("fp32"):
            gemm(x, x, out)
        gemm(x.astype("f8"), x.astype("f8"), card.zeros((1, 1), "f8"))
        gemm(x.astype("f2"), x.astype("f2"), card.zeros((1, 1), "f2"))
    assert precision.get() == "fp32"
    kinds = [done.compute for done in card.standin.record.gemms]
    assert kinds == ["32F", "TF32", "32F", "64F", "32F"]


def test_a_precision_that_does_not_exist() -> None:
    with (
        pytest.raises(ValueError, match="precision must be one of fp32, tf32, not 'fp8'"),
        using_precision("fp8"),
    ):
        pass


@pytest.mark.parametrize("accumulate", [False, True])
def test_products_of_nothing(card: Any, accumulate: bool) -> None:
    out, record = card.full((2, 3), 7.0, "f4"), recorded(card)
    gemm(card.empty((2, 0), "f4"), card.empty((0, 3), "f4"), out, accumulate=accumulate)
    assert (out.get() == 7 * accumulate).all()
    gemm(card.empty((0, 2), "f4"), card.empty((2, 3), "f4"), card.empty((0, 3), "f4"))
    assert not record or record.gemms == []


def test_what_does_not_go_together(card: Any) -> None:
    a, b = card.zeros((2, 3), "f4"), card.zeros((3, 4), "f4")
    with pytest.raises(ValueError, match=r"gemm: \(3, 2\) @ \(3, 4\) does not make \(2, 4\)"):
        gemm(a, b, card.zeros((2, 4), "f4"), transpose_a=True)
    with pytest.raises(ValueError, match=r"gemm: \(2, 3\) @ \(3, 4\) does not make \(4, 2\)"):
        gemm(a, b, card.zeros((4, 2), "f4"))
    with pytest.raises(TypeError, match="gemm: float32 @ float64 does not make float32"):
        gemm(a, b.astype("f8"), card.zeros((2, 4), "f4"))
    with pytest.raises(TypeError, match="gemm: float32 @ float32 does not make float16"):
        gemm(a, b, card.zeros((2, 4), "f2"))
    with pytest.raises(ValueError, match=r"rows must be contiguous, not of strides \(4, 8\)"):
        gemm(card.zeros((3, 2), "f4").T, b, card.zeros((2, 4), "f4"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("master", [False, True])
def test_linear(card: Any, dtype: str, master: bool) -> None:
    rng = np.random.default_rng(2)
    of_sums = "float64" if dtype == "float64" else "float32"
    for n, c, k in ((1, 1, 1), (5, 3, 7), (300, 2, 8), (2, 16, 300)):
        x, w, gy, b = (numbers(rng, s, dtype) for s in ((n, c), (c, k), (n, k), (k,)))
        on_card = [card.asarray(value) for value in (x, w, gy, b)]
        if master:
            on_card[1], on_card[3] = on_card[1].astype(of_sums), on_card[3].astype(of_sums)
        cx, cw, cgy, cb = on_card
        x, w, gy, b = in_double(x, w, gy, b)
        for bias, on_card_bias in ((b, cb), (None, None)):
            y = card.full((n, k), np.nan, cx.dtype)
            assert linear(cx, cw, on_card_bias, out=y) is y
            assert_close(y, array.linear(x, w, bias), dtype)
        assert_close(linear_gx(cgy, cw), array.linear_gx(gy, w), dtype)
        gw = linear_gw(cgy, cx)
        assert gw.dtype == of_sums
        assert_close(gw, array.linear_gw(gy, x), dtype)


def test_linear_on_arrays_with_gaps(card: Any) -> None:
    rng = np.random.default_rng(3)
    x, w, b = (numbers(rng, shape, "float32") for shape in ((4, 6), (6, 8), (10,)))
    cx, cw, cb = (card.asarray(value) for value in (x, w, b))
    y = linear(cx[:, ::2], cw[::2].T[::2].T, cb[1:9:2])
    expected = array.linear(*in_double(x[:, ::2], w[::2, ::2], b[1:9:2]))
    assert_close(y, expected, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_finish(card: Any, dtype: str) -> None:
    rng = np.random.default_rng(4)
    of_sums = "float64" if dtype == "float64" else "float32"
    for (pixels, k), shifted, added, relu in product(
        [(1, 1), (9, 3), (40, 8), (3, 515), (2, 2064)], (False, True), (False, True), (False, True)
    ):
        y, residual = (numbers(rng, (pixels, k), dtype) for _ in range(2))
        shift = rng.standard_normal(k).astype(of_sums)
        expected = y.astype("f8") + shift * shifted + residual.astype("f8") * added
        got = card.asarray(y)
        finish(
            got, card.asarray(shift) if shifted else None,
            card.asarray(residual) if added else None, relu,
        )  # fmt: skip
        assert_close(got, np.maximum(expected, 0) if relu else expected, dtype)


@pytest.mark.parametrize("k", [3, 8])
def test_finish_of_more_pixels_than_threads(
    card: Any, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "MOST_BLOCKS", 2)
    y = numbers(np.random.default_rng(5), (700, k), "float32")
    got = card.asarray(y)
    finish(got, None, None, True)
    np.testing.assert_array_equal(got.get(), np.maximum(y, 0))


def test_finish_moves_packs_where_it_can(card: Any) -> None:
    def ran(y: Any, residual: Any = None) -> str:
        finish(y, None, residual, True)
        return card.standin.record.launches[-1].name

    assert ran(card.zeros((5, 8), "f4")) == "finish_wide"
    assert ran(card.zeros((5, 8), "f2")) == "finish_wide"
    assert ran(card.zeros((5, 4), "f2")) == "finish"
    assert ran(card.zeros((5, 6), "f4")) == "finish"
    assert ran(card.zeros((6, 8), "f4")[1:]) == "finish_wide"
    shifted = card.zeros(41, "f4")[1:].reshape(5, 8)  # begins in the middle of a pack
    assert ran(shifted) == "finish"
    assert ran(card.zeros((5, 8), "f4"), shifted) == "finish"


def test_finish_lets_nan_through(card: Any) -> None:
    y = card.asarray(np.array([[np.nan, -1, 2, -np.inf]], "f4"))
    finish(y, None, None, True)
    np.testing.assert_array_equal(y.get(), [[np.nan, 0, 2, 0]])


def test_nothing_to_do_is_not_done(card: Any) -> None:
    finish(card.zeros((2, 3), "f4"), None, None, False)
    finish(card.zeros((0, 3), "f4"), None, None, True)
    assert card.standin.record.launches == []


def test_sums_in_16_bits_are_forbidden(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cupy_backends.cuda.libs import cublas

    modes = []
    monkeypatch.setattr(cublas, "setMathMode", lambda handle, mode: modes.append(mode))
    a = card.ones((2, 2), "f2")
    gemm(a, a, card.empty((2, 2), "f2"))
    assert modes == [matmul.WHOLE_SUMS]
