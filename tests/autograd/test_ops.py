"""What single ops compute, and how they refuse what does not fit."""

from typing import Any

import numpy as np
import pytest

from resnet_np import (
    Tensor,
    UserError,
    avg_pool2d,
    batch_norm,
    conv2d,
    cross_entropy,
    dropout,
    fixed_batch_norm,
    flatten,
    global_avg_pool,
    linear,
    max_pool2d,
    relu,
    softmax,
    upsample_nearest,
)

RNG = np.random.default_rng(0)


def test_arithmetic() -> None:
    a = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal((a @ a).data, [[7, 10], [15, 22]])
    np.testing.assert_array_equal((-a).data, -a.data)
    np.testing.assert_array_equal((a**2).data, [[1, 4], [9, 16]])
    np.testing.assert_array_equal(a.sum(axis=0).data, [4, 6])
    np.testing.assert_array_equal(a.mean(axis=-1, keepdims=True).data, [[1.5], [3.5]])
    np.testing.assert_array_equal(a.max(axis=1).data, [2, 4])
    np.testing.assert_array_equal(a.transpose().data, [[1, 3], [2, 4]])
    np.testing.assert_array_equal(a.reshape(-1).data, [1, 2, 3, 4])
    np.testing.assert_allclose(a.exp().log().data, a.data)
    assert flatten(Tensor(np.zeros((2, 3, 4, 5)))).shape == (2, 60)


def test_batch_norm_gives_its_statistics() -> None:
    x = RNG.standard_normal((2, 3, 3, 4))
    one, zero = Tensor(np.ones(4)), Tensor(np.zeros(4))
    y, mean, var = batch_norm(Tensor(x), one, zero, eps=0.0)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(var, x.var(axis=(0, 1, 2)))
    np.testing.assert_allclose(y.data.mean(axis=(0, 1, 2)), 0, atol=1e-15)
    np.testing.assert_allclose(y.data.var(axis=(0, 1, 2)), 1)
    fixed = fixed_batch_norm(Tensor(x), one, zero, mean, var, eps=0.0)
    np.testing.assert_allclose(fixed.data, y.data, atol=1e-14)


def test_batch_norm_in_float32_keeps_a_small_variance_beside_a_large_mean() -> None:
    x = (1000 + RNG.standard_normal((8, 56, 56, 2))).astype(np.float32)
    _, mean, var = batch_norm(Tensor(x), Tensor(np.ones(2, np.float32)), Tensor(np.zeros(2, "f4")))
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(var, x.var(axis=(0, 1, 2), dtype=np.float64), rtol=1e-4)


def test_one_value_per_channel_has_no_variance() -> None:
    c = Tensor(np.ones(3))
    with pytest.raises(UserError, match=r"no value per channel in x of shape \(0, 2, 2, 3\)"):
        batch_norm(Tensor(np.zeros((0, 2, 2, 3))), c, c)
    with pytest.raises(UserError, match=r"one value per channel in x of shape \(1, 1, 1, 3\)"):
        batch_norm(Tensor(np.zeros((1, 1, 1, 3))), c, c)
    fixed_batch_norm(Tensor(np.zeros((1, 1, 1, 3))), c, c, np.zeros(3), np.ones(3))


def test_dropout_keeps_the_mean_and_repeats_with_its_seed() -> None:
    x = Tensor(np.ones((200, 200)))
    a, b = (dropout(x, 0.25, np.random.default_rng(7)).data for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert set(np.unique(a)) == {0.0, 1 / 0.75}
    assert (a == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert dropout(Tensor(np.ones(3, np.float32)), 0.5, RNG).dtype == np.float32


X = Tensor(np.zeros((2, 2, 2, 3)))
C3, C2 = Tensor(np.zeros(3)), Tensor(np.zeros(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_norm(X, C2, C3), "needs gamma, beta, mean and var of shape"),
        (lambda: batch_norm(X, C3, C3, residual=C3), "residual must have x's shape"),
        (lambda: fixed_batch_norm(X, C3, C3, np.zeros(1), np.ones(3)), "gamma, beta, mean and var"),
        (lambda: linear(X, C3), r"linear: x must be \[N, C\]"),
        (lambda: linear(Tensor(np.zeros((2, 3))), Tensor(np.zeros((2, 3)))), "same C"),
        (lambda: linear(Tensor(np.zeros((2, 3))), W2, C3), r"linear: b must be of shape \(4,\)"),
        (lambda: conv2d(X, W1, C3), r"conv2d: b must be of shape \(4,\), not \(3,\)"),
        (lambda: dropout(X, 1.0, RNG), r"p must be in \[0, 1\)"),
        (lambda: global_avg_pool(C3), r"global_avg_pool: x must be \[N, H, W, C\]"),
        (lambda: upsample_nearest(C3, 2), r"upsample_nearest: x must be \[N, H, W, C\]"),
        (lambda: upsample_nearest(X, 0), "factor must be a positive number"),
        (lambda: C3 @ C3, "at least two axes"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


W1, W2 = Tensor(np.zeros((1, 1, 3, 4))), Tensor(np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: conv2d(x, W1), "conv2d"),
        (lambda x: conv2d(X, x), "conv2d"),
        (lambda x: linear(x, W2), "linear"),
        (lambda x: batch_norm(x, C3, C3), "batch_norm"),
        (lambda x: fixed_batch_norm(x, C3, C3, np.zeros(3), np.ones(3)), "fixed_batch_norm"),
        (lambda x: max_pool2d(x, 2), "max_pool2d"),
        (lambda x: avg_pool2d(x, 2), "avg_pool2d"),
        (global_avg_pool, "global_avg_pool"),
        (lambda x: upsample_nearest(x, 2), "upsample_nearest"),
        (flatten, "flatten"),
        (relu, "ReLU"),
        (lambda x: dropout(x, 0.5, RNG), "Dropout"),
        (lambda x: cross_entropy(x, np.zeros(2, int)), "cross_entropy"),
    ],
)
def test_plain_arrays_are_refused_in_so_many_words(call: Any, name: str) -> None:
    for x in (X.data, X.data.tolist()):
        with pytest.raises(
            TypeError, match=rf"^{name}: inputs must be Tensors.* resnet_np\.Tensor"
        ):
            call(x)


def test_softmax_takes_arrays() -> None:
    with pytest.raises(TypeError, match=r"softmax: takes an array .* pass logits\.data"):
        softmax(C3)


def test_numbers_with_a_fraction_do_not_become_integers() -> None:
    whole = Tensor(np.array([1, 2, 3]))
    np.testing.assert_array_equal((whole * 2 + np.int64(1)).data, [3, 5, 7])
    for call in (lambda: whole * 0.5, lambda: np.float32(0.5) + whole, lambda: whole - 0.5):
        with pytest.raises(TypeError, match=r"0\.5\)? would be rounded to int64"):
            call()
    with pytest.raises(TypeError, match="number / x, need floating-point x, not int64"):
        1 / whole


def test_powers() -> None:
    x = Tensor(np.array([0.0, 3.0], np.float32), requires_grad=True)
    y = x ** np.float64(2)
    assert y.dtype == np.float32
    (y + x**0).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 6])


def test_max_of_nan_gives_it_the_gradient() -> None:
    x = Tensor(np.array([[1.0, np.nan, 2.0], [4.0, 4.0, 0.0]]), requires_grad=True)
    x.max(axis=1).backward(np.array([3.0, np.inf]))
    np.testing.assert_array_equal(x.grad, [[0, 3, 0], [np.inf, np.inf, 0]])


def test_shapes_and_axes_as_tuples_and_arrays_on_the_left() -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert x.reshape((3, 2)).shape == x.reshape(3, 2).shape == (3, 2)
    assert x.transpose((1, 0)).shape == x.transpose(1, 0).shape == (3, 2)
    np.testing.assert_array_equal((np.eye(2) @ x).data, x.data)


def test_integers_of_numpy_are_integers() -> None:
    two = np.int64(2)
    assert conv2d(X, W1, stride=two, padding=(two, np.int64(0))).shape == (2, 3, 1, 4)  # type: ignore[arg-type]
    for wrong in (2.0, (1, 2, 3), "2", None):
        with pytest.raises(ValueError, match="stride must be a positive number or a pair"):
            conv2d(X, W1, stride=wrong)  # type: ignore[arg-type]


def test_astype_rounds_there_and_rounds_the_gradient_back() -> None:
    x = Tensor(np.array([1.0, 1 + 2**-20, 3.0]), requires_grad=True)
    y = x.astype("float16")
    assert y.dtype == np.float16
    assert y.numpy().tolist() == [1, 1, 3]
    y.backward(np.array([1, 0.5, 2], np.float16))
    assert x.grad is not None and x.grad.dtype == np.float64
    assert x.grad.tolist() == [1, 0.5, 2]
    assert x.astype(np.float64) is x
    with pytest.raises(TypeError, match="astype: floating-point numbers only, not float64 to int"):
        x.astype(int)
