"""What `shapes` promises is what the kernels give: shape and dtype, in float32 and float64."""

from typing import Any

import numpy as np
import pytest

from resnet_np import kernels
from resnet_np.kernels import array, shapes

CHANNELS = [np.ones(4) for _ in range(4)]
X = np.ones((2, 7, 6, 4))
CASES: list[tuple[str, tuple[Any, ...]]] = [
    ("conv2d", (X, np.ones((3, 2, 4, 5)), np.ones(5), (2, 1), ((1, 0), (0, 2)))),
    ("linear", (np.ones((3, 4)), np.ones((4, 5)), None)),
    ("fixed_batch_norm", (X, *CHANNELS, 1e-5, X, True)),
    ("relu", (X,)),
    ("max_pool", (X, (3, 2), (2, 1), ((1, 1), (0, 1)))),
    ("avg_pool", (X, (3, 2), (2, 1), ((1, 1), (0, 1)))),
    ("global_avg_pool", (X,)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[name for name, _ in CASES])
def test_shape_and_dtype(name: str, arguments: tuple[Any, ...], dtype: Any) -> None:
    cast = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in arguments]
    with kernels.only_shapes():
        promised = getattr(kernels.of(cast[0]), name)(*cast)
    given = getattr(array, name)(*cast)
    for a, b in zip(tuple_of(promised), tuple_of(given), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert not a.any()


def tuple_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_every_shape_is_tested() -> None:
    own = {name for name, value in vars(shapes).items() if getattr(value, "__module__", "") == (
        shapes.__name__) and not name.startswith("_")}  # fmt: skip
    assert own == {name for name, _ in CASES}


def test_other_kernels_are_the_arrays_and_outside_all_is_as_before() -> None:
    with kernels.only_shapes():
        assert kernels.of(X) is shapes
        assert shapes.softmax is array.softmax
    assert kernels.of(X) is array
