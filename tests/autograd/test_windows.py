"""Strides and paddings as people write them, against Keras' rule and by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np import Tensor, avg_pool2d, conv2d, max_pool2d
from resnet_np.autograd.conv import as_padding, as_pair


@pytest.mark.parametrize(
    ("pixels", "window", "stride", "border"),
    [
        (5, 3, 1, (1, 1)),
        (6, 3, 2, (0, 1)),  # the odd pixel goes to the end
        (5, 3, 2, (1, 1)),
        (4, 2, 1, (0, 1)),
        (224, 7, 2, (2, 3)),
        (4, 1, 3, (0, 0)),
        (5, 4, 2, (1, 2)),
    ],
)
def test_same_by_hand(pixels: int, window: int, stride: int, border: tuple[int, int]) -> None:
    shape = (1, pixels, 8, 1)
    assert as_padding("same", shape, (window, 1), (stride, 1)) == (border, (0, 0))
    shape = (1, 8, pixels, 1)
    assert as_padding("same", shape, (1, window), (1, stride)) == ((0, 0), border)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 4))
def test_same_is_the_least_padding_with_ceil_outputs(pixels: int, window: int, stride: int) -> None:
    border, _ = as_padding("same", (1, pixels, 1, 1), (window, 1), (stride, 1))
    outputs = -(-pixels // stride)
    assert (pixels + sum(border) - window) // stride + 1 == outputs
    assert 0 <= border[1] - border[0] <= 1
    assert sum(border) == 0 or (pixels + sum(border) - 1 - window) // stride + 1 < outputs


def test_numbers_pairs_and_valid() -> None:
    where: Any = ((1, 8, 8, 1), (3, 3), (1, 1))
    assert as_padding(2, *where) == ((2, 2), (2, 2))
    assert as_padding((1, 0), *where) == ((1, 1), (0, 0))
    assert as_padding("valid", *where) == ((0, 0), (0, 0))
    assert as_pair(3, "size") == (3, 3)
    assert as_pair((1, 2), "size") == (1, 2)


def test_same_convolution_by_hand() -> None:
    """Keras: Conv2D(1, 2, padding="same") on 1 2 / 3 4 with ones pads below and to the right."""
    x = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1))
    y = conv2d(x, Tensor(np.ones((2, 2, 1, 1))), padding="same")
    np.testing.assert_array_equal(y.data.reshape(2, 2), [[10, 6], [7, 4]])
    pooled = avg_pool2d(x, 2, 1, "same")
    np.testing.assert_array_equal(pooled.data.reshape(2, 2), [[2.5, 3], [3.5, 4]])


def test_the_stem_of_a_resnet_floors() -> None:
    x = Tensor(np.zeros((1, 224, 224, 1), np.float32))
    y = conv2d(x, Tensor(np.zeros((7, 7, 1, 1), np.float32)), stride=2, padding=3)
    assert y.shape == (1, 112, 112, 1)
    assert max_pool2d(y, 3, 2, 1).shape == (1, 56, 56, 1)


X = Tensor(np.zeros((1, 4, 4, 2)))
W = Tensor(np.zeros((3, 3, 2, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv2d(X, Tensor(np.zeros((3, 3, 3, 1)))), "with the same C"),
        (lambda: conv2d(Tensor(np.zeros((4, 4, 2))), W), r"x must be \[N, H, W, C\]"),
        (lambda: conv2d(X, Tensor(np.zeros((5, 5, 2, 1)))), "5 x 5 does not fit .* 4 x 4"),
        (lambda: conv2d(X, W, stride=0), "stride must be a positive number"),
        (lambda: conv2d(X, W, stride=(1, 2, 3)), "stride must be"),  # type: ignore[arg-type]
        (lambda: conv2d(X, W, padding=-1), "padding must be"),
        (lambda: conv2d(X, W, padding="full"), 'padding must be "same"'),  # type: ignore[arg-type]
        (lambda: max_pool2d(X, 2, padding=2), "more than half of the window"),
        (lambda: max_pool2d(X, 5), "does not fit"),
        (lambda: avg_pool2d(Tensor(np.zeros((4, 4))), 2), r"\[N, H, W, C\]"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
