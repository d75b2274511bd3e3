"""Arrays of one call are of one dtype, or are refused: a kernel would read nonsense from others."""

from typing import Any, NamedTuple

import pytest

from resnet_np.kernels import NO_PADDING, gpu
from resnet_np.kernels.gpu.matmul import finish


class Of(NamedTuple):
    """An array of this shape, of float32 where it goes with the others."""

    shape: tuple[int, ...]


X, Y, W, C = Of((1, 4, 4, 4)), Of((1, 2, 2, 8)), Of((2, 2, 4, 8)), Of((4,))
ROWS, IMAGES = Of((2, 3)), Of((2,))
WHERE = (2, 2), NO_PADDING
CALLS: dict[str, tuple[Any, ...]] = {
    "add": (X, X),
    "relu_gx": (X, X),
    "max_pool_gx": (X, X, (1, 8, 8, 4), (2, 2), *WHERE),  # the second has to be int32
    "softmax_cross_entropy": (ROWS, ROWS),
    "softmax_cross_entropy_gx": (IMAGES, ROWS, ROWS),
    "linear": (ROWS, Of((3, 4)), None),
    "linear_gx": (ROWS, Of((4, 3))),
    "linear_gw": (ROWS, Of((2, 4))),
    "conv2d": (X, W, None, *WHERE),
    "conv2d_gx": (Y, W, X.shape, *WHERE),
    "conv2d_gw": (Y, X, W.shape, *WHERE),
    "batch_norm": (X, C, C, 1e-5, X, True),
    "fixed_batch_norm": (X, C, C, C, C, 1e-5, X, True),
    "batch_norm_g": (X, X, X, C, C, C, 1e-5, True, True),
    "fixed_batch_norm_g": (X, X, X, C, C, C, 1e-5, True, True),
}


@pytest.mark.parametrize("other", ["float16", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_no_array_may_be_of_another_dtype(card: Any, name: str, other: str) -> None:
    arguments = CALLS[name]
    places = [place for place, value in enumerate(arguments) if isinstance(value, Of)]
    for wrong in places[1:]:
        given = [
            card.ones(value.shape, other if place == wrong else "float32") if place in places
            else value
            for place, value in enumerate(arguments)
        ]  # fmt: skip
        with pytest.raises(TypeError, match=rf"(needed, not|gemm:.*) {other}"):
            getattr(gpu, name)(*given)


def test_the_residual_of_a_product_is_of_the_product_s_dtype(card: Any) -> None:
    with pytest.raises(TypeError, match="float32 is needed, not float16"):
        finish(card.ones((2, 8), "float32"), None, card.ones((2, 8), "float16"), True)
