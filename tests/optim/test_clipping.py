"""Gradients made shorter: the same direction, the given length."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np import Tensor, optim
from resnet_np.optim import clip_gradients


def with_gradients(*gradients: np.ndarray | None) -> optim.SGD:
    tensors = []
    for g in gradients:
        shape, dtype = ((2,), "f4") if g is None else (g.shape, g.dtype)
        tensors.append(Tensor(np.zeros(shape, dtype), requires_grad=True))
        tensors[-1].grad = g
    return optim.SGD(tensors, lr=0.1)


def test_by_hand() -> None:
    g, h = np.array([3.0, 0.0], np.float32), np.array([[4.0]], np.float32)
    assert clip_gradients(with_gradients(g, None, h), 1.0) == 5
    np.testing.assert_allclose([g[0], g[1], h[0, 0]], [0.6, 0, 0.8], rtol=1e-6)
    assert g.dtype == h.dtype == np.float32


def test_short_ones_are_left_alone() -> None:
    g = np.array([0.3, 0.4])
    before = g.copy()
    assert clip_gradients(with_gradients(g), 0.5) == pytest.approx(0.5)
    assert g.tobytes() == before.tobytes()


@given(st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_length_and_direction(most: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gradients = [rng.standard_normal(shape) * 10 for shape in ((3, 4), (5,))]
    before = np.concatenate([g.ravel() for g in gradients])
    norm = clip_gradients(with_gradients(*gradients), most)
    after = np.concatenate([g.ravel() for g in gradients])
    assert norm == pytest.approx(np.linalg.norm(before))
    assert np.linalg.norm(after) == pytest.approx(min(norm, most), rel=1e-4)
    np.testing.assert_allclose(after / np.linalg.norm(after), before / norm, atol=1e-12)


def test_the_sum_does_not_overflow_in_16_bits() -> None:
    g = np.full(1000, 100, np.float16)
    assert clip_gradients(with_gradients(g), 1.0) == pytest.approx(100 * math.sqrt(1000))


def test_a_norm_that_is_not_finite_is_told() -> None:
    for number in (math.nan, math.inf):
        g = np.array([number, 5.0])
        assert not math.isfinite(clip_gradients(with_gradients(g), 1.0))
        assert g[1] == 5


@pytest.mark.parametrize("most", [0, -1.0, math.nan])
def test_what_makes_no_sense_is_refused(most: float) -> None:
    with pytest.raises(ValueError, match="most must be more than 0"):
        clip_gradients(with_gradients(np.ones(2)), most)
