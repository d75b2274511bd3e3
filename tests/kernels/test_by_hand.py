"""Numbers worked out on paper, for both twins of each kernel."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from resnet_np import kernels
from resnet_np.kernels import array, reference

both = pytest.mark.parametrize("k", [reference, array], ids=["reference", "array"])
NONE = ((0, 0), (0, 0))


def image(rows: list[list[float]]) -> Any:
    """One image with one channel, as people make it: the new axes have stride 0 in memory."""
    return np.array(rows, np.float64)[None, :, :, None]


def test_output_sizes_floor() -> None:
    assert kernels.output_sizes((1, 224, 224, 3), (7, 7), (2, 2), ((3, 3), (3, 3))) == (112, 112)
    assert kernels.output_sizes((1, 112, 112, 64), (3, 3), (2, 2), ((1, 1), (1, 1))) == (56, 56)
    assert kernels.output_sizes((1, 5, 6, 1), (2, 3), (2, 1), ((0, 1), (2, 0))) == (3, 6)


@both
def test_conv2d(k: ModuleType) -> None:
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    # 1*1 + 2*2 + 3*4 + 4*5 = 37; no flipping of w
    y = k.conv2d(x, w, np.array([0.5]), (1, 1), NONE)
    np.testing.assert_array_equal(y, image([[37.5, 47.5], [67.5, 77.5]]))
    # One row of zeros above, one column to the right, stride 2: windows at rows -1, 1; columns 0, 2
    y = k.conv2d(x, w, None, (2, 2), ((1, 0), (0, 1)))
    np.testing.assert_array_equal(y, image([[3 + 8, 9], [4 + 10 + 21 + 32, 6 + 27]]))


@both
def test_conv2d_gradients(k: ModuleType) -> None:
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    gy = image([[1, 0], [0, 10]])
    gx = k.conv2d_gx(gy, w, x.shape, (1, 1), NONE)
    np.testing.assert_array_equal(gx, image([[1, 2, 0], [3, 14, 20], [0, 30, 40]]))
    gw = k.conv2d_gw(gy, x, w.shape, (1, 1), NONE)
    np.testing.assert_array_equal(gw.reshape(2, 2), [[1 + 50, 2 + 60], [4 + 80, 5 + 90]])
    np.testing.assert_array_equal(k.bias_gb(gy), [11])


@both
def test_stride_leaves_pixels_without_gradient(k: ModuleType) -> None:
    gx = k.conv2d_gx(image([[1]]), np.ones((1, 1, 1, 1)), (1, 2, 2, 1), (2, 2), NONE)
    np.testing.assert_array_equal(gx, image([[1, 0], [0, 0]]))


@both
def test_batch_norm(k: ModuleType) -> None:
    x = np.array([[1.0], [3.0]])  # mean 2, variance 1
    gamma, beta = np.array([2.0]), np.array([5.0])
    y, mean, var = k.batch_norm(x, gamma, beta, 3.0, None, False)  # 1 + 3: a root of 2
    np.testing.assert_array_equal((mean[0], var[0]), (2, 1))
    np.testing.assert_array_equal(y, [[4], [6]])
    y, _, _ = k.batch_norm(x, gamma, beta, 3.0, np.array([[-5.0], [1.0]]), True)
    np.testing.assert_array_equal(y, [[0], [7]])


@both
def test_batch_norm_gradient(k: ModuleType) -> None:
    x = np.array([[1.0], [3.0]])
    gamma, beta, mean, var = (np.array([v]) for v in (2.0, 5.0, 2.0, 1.0))
    y, _, _ = k.batch_norm(x, gamma, beta, 3.0, None, False)
    gy = np.array([[1.0], [5.0]])
    gx, ggamma, gbeta, g = k.batch_norm_g(gy, x, y, gamma, mean, var, 3.0, True, False)
    # xhat = -1/2, 1/2: ggamma = (5 - 1) / 2. gx = 2/2 * (gy - 6/2 - xhat * 2/2) = -1.5, 1.5
    np.testing.assert_array_equal((ggamma[0], gbeta[0]), (2, 6))
    np.testing.assert_allclose(gx, [[-1.5], [1.5]], rtol=1e-14)
    np.testing.assert_array_equal(g, gy)


@both
def test_fixed_batch_norm(k: ModuleType) -> None:
    x = np.array([[1.0], [3.0]])
    gamma, beta, mean, var = (np.array([v]) for v in (6.0, 1.0, 2.0, 8.0))
    y = k.fixed_batch_norm(x, gamma, beta, mean, var, 1.0, None, True)  # 6 / 3 * (x - 2) + 1
    np.testing.assert_allclose(y, [[0], [3]], atol=1e-14)
    gy = np.array([[7.0], [5.0]])
    gx, ggamma, gbeta, g = k.fixed_batch_norm_g(gy, x, y, gamma, mean, var, 1.0, True, True)
    np.testing.assert_allclose(gx, [[0], [10]], rtol=1e-14)
    np.testing.assert_allclose((ggamma[0], gbeta[0]), (5 / 3, 5), rtol=1e-14)
    np.testing.assert_array_equal(g, [[0], [5]])


@both
def test_max_pool_takes_the_first_of_equals(k: ModuleType) -> None:
    x = image([[7, 7], [7, 7]])
    y, index = k.max_pool(x, (2, 2), (2, 2), NONE)
    assert y.item() == 7
    assert index.item() == 0
    gx = k.max_pool_gx(image([[3]]), index, x.shape, (2, 2), (2, 2), NONE)
    np.testing.assert_array_equal(gx, image([[3, 0], [0, 0]]))


@both
def test_max_pool_shows_a_nan(k: ModuleType) -> None:
    nan = float("nan")
    x = image([[1, nan, 9, 1], [2, 3, 4, 5]])
    y, _ = k.max_pool(x, (2, 2), (2, 2), NONE)
    np.testing.assert_array_equal(y, image([[nan, 9]]))


@both
def test_max_pool_border_never_wins(k: ModuleType) -> None:
    x = image([[-5, -6], [-7, -8]])
    y, index = k.max_pool(x, (2, 2), (2, 2), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(y, image([[-5, -6], [-7, -8]]))
    np.testing.assert_array_equal(index.ravel(), [3, 2, 1, 0])


@both
def test_max_pool_overlaps_add_up(k: ModuleType) -> None:
    x = image([[0, 9, 0]])
    _, index = k.max_pool(x, (1, 2), (1, 1), NONE)
    gx = k.max_pool_gx(image([[10, 1]]), index, x.shape, (1, 2), (1, 1), NONE)
    np.testing.assert_array_equal(gx, image([[0, 11, 0]]))


@both
def test_avg_pool_does_not_count_the_border(k: ModuleType) -> None:
    x = image([[2, 4], [6, 8]])
    y = k.avg_pool(x, (2, 2), (2, 2), ((0, 0), (1, 1)))
    np.testing.assert_array_equal(y, image([[4, 6]]))
    gx = k.avg_pool_gx(image([[1, 10]]), x.shape, (2, 2), (2, 2), ((0, 0), (1, 1)))
    np.testing.assert_array_equal(gx, image([[0.5, 5], [0.5, 5]]))


@both
def test_global_avg_pool_and_upsampling(k: ModuleType) -> None:
    x = image([[1, 2], [3, 6]])
    assert k.global_avg_pool(x).tolist() == [[3]]
    np.testing.assert_array_equal(
        k.upsample_nearest(x, (1, 2)), image([[1, 1, 2, 2], [3, 3, 6, 6]])
    )
    np.testing.assert_array_equal(k.upsample_nearest_gx(x, (2, 1)), image([[4, 8]]))


@both
def test_relu(k: ModuleType) -> None:
    x = np.array([-1.0, 0.0, 2.0, np.nan])
    np.testing.assert_array_equal(k.relu(x), [0, 0, 2, np.nan])
    np.testing.assert_array_equal(k.relu_gx(np.ones(3), k.relu(x[:3])), [0, 0, 1])


@both
def test_softmax_of_large_logits(k: ModuleType) -> None:
    x = np.array([[1000.0, 1000.0, -1000.0]])
    np.testing.assert_array_equal(k.softmax(x), [[0.5, 0.5, 0]])
    t = np.array([[0.0, 0.0, 1.0]])
    np.testing.assert_allclose(k.softmax_cross_entropy(x, t), [2000 + np.log(2)], rtol=1e-15)
    gx = k.softmax_cross_entropy_gx(np.array([2.0]), k.softmax(x), t)
    np.testing.assert_array_equal(gx, [[1, 1, -2]])


@both
def test_taking_a_scale_out_of_gradients(k: ModuleType) -> None:
    one, two = np.array([4.0, -2.0]), np.array([[8.0]])
    assert k.unscale_step([one, two], 0.5) is True
    assert (one.tolist(), two.tolist()) == ([2, -1], [[4]])
    for bad in (np.inf, -np.inf, np.nan):
        assert k.unscale_step([one, np.array([1.0, bad])], 1.0) is False
    with np.errstate(over="ignore"):
        assert k.unscale_step([np.array([1e308])], 10.0) is False, "infinite only when multiplied"


@both
def test_first_steps_of_the_optimizers(k: ModuleType) -> None:
    w, v = np.array([1.0]), np.array([0.0])
    k.sgd_step([w], [np.array([2.0])], [v], 0.5, 0.9, False, 1.0)  # g = 2 + 1
    np.testing.assert_allclose((w[0], v[0]), (-0.5, 3))
    w, m, s = np.array([1.0]), np.array([0.0]), np.array([0.0])
    k.adam_step([w], [np.array([-4.0])], [m], [s], 1, 0.25, (0.9, 0.999), 0.0, 0.0, False)
    np.testing.assert_allclose(w, [1.25])  # the first step is lr * sign(g), whatever g's size
    w, s = np.array([1.0]), np.array([0.0])
    k.rmsprop_step([w], [np.array([4.0])], [s], None, 0.5, 0.75, 0.0, 0.0, 0.0)
    np.testing.assert_allclose((w[0], s[0]), (1 - 0.5 * 4 / 2, 4))
