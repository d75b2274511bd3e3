"""Activations of 16 bits beside parameters of 32, on a stand-in for a card."""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from standins.card import stand_in

import resnet_np as rnp
from resnet_np import optim
from resnet_np.autograd import Tensor

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
DIGITS = {"float16": 2e-3, "bfloat16": 1.6e-2}  # of a rounded number, relative


@pytest.fixture
def card() -> Iterator[Any]:
    with stand_in() as cupy:
        yield cupy


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def gradients(f: Any, inputs: list[Any], gy: Any, halves: Any = None) -> tuple[Any, list[Any]]:
    """y and the gradients of all inputs; the first input, and gy, in 16 bits where asked for."""
    tensors = [Tensor(a, requires_grad=True) for a in inputs]
    x = tensors[0]
    if halves is not None:
        x = Tensor(inputs[0].astype(halves), requires_grad=True)
        tensors[0] = x
    y = f(*tensors)
    y.backward(gy.astype(y.dtype))
    return y, [t.grad for t in tensors]


OPS = {
    "conv2d": (
        lambda x, w, b: rnp.conv2d(x, w, b, padding=1), [(2, 5, 5, 4), (3, 3, 4, 6), (6,)],
    ),
    "linear": (rnp.linear, [(3, 8), (8, 5), (5,)]),
    "batch_norm": (
        lambda x, gamma, beta: rnp.batch_norm(x, gamma, beta, relu=True)[0],
        [(2, 4, 4, 6), (6,), (6,)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", OPS)
def test_parameters_and_their_gradients_stay_float32(card: Any, name: str, dtype: Any) -> None:
    f, shapes = OPS[name]
    inputs = arrays(*shapes)
    inputs[0] = inputs[0].astype(dtype).astype(np.float32)  # the same x for both
    expected = f(*map(Tensor, inputs))
    gy = arrays(expected.shape)[0].astype(dtype).astype(np.float32)
    y, wanted = gradients(f, inputs, gy)
    there = [card.asarray(a) for a in inputs]
    y16, got = gradients(f, there, card.asarray(gy), dtype)
    assert y16.dtype == dtype
    assert [str(g.dtype) for g in got] == [str(dtype), "float32", "float32"]
    pairs = [(y16.data, y.data), *zip(got, wanted, strict=True)]
    for one, other in pairs:
        one = card.asnumpy(one).astype(np.float32)
        assert np.abs(one - other).max() <= 4 * DIGITS[str(dtype)] * np.abs(other).max()


def test_nothing_else_may_differ(card: Any) -> None:
    x, w = (card.asarray(a) for a in arrays((1, 3, 3, 2), (1, 1, 2, 4)))
    with pytest.raises(TypeError, match=r"Conv2d: the inputs must share one dtype and one device"):
        rnp.conv2d(Tensor(x), Tensor(w.astype("float16")))  # the other way round
    with pytest.raises(TypeError, match="Conv2d: the inputs must share"):
        rnp.conv2d(Tensor(x.astype("float16")), Tensor(card.asnumpy(w)))
    half, full = Tensor(x.astype("float16")), Tensor(x)
    with pytest.raises(TypeError, match="Add: the inputs must share"):
        half + full
    with pytest.raises(TypeError, match="Conv2d: the inputs must share"):  # no kernels for that
        rnp.conv2d(Tensor(card.asnumpy(x).astype("float16")), Tensor(card.asnumpy(w)))


def test_a_scale_is_found_and_kept() -> None:
    """On numbers that are easy to follow: infinite gradients halve it, good steps double it."""
    w = rnp.nn.Parameter(np.array([1.0], np.float32))
    optimizer, scaler = optim.SGD([w], lr=0.5), optim.LossScaler(scale=8.0, patience=2)

    def step(slope: float) -> bool:
        optimizer.zero_grad()
        scaler.backward((w * slope).sum())
        return scaler.step(optimizer)

    with np.errstate(over="ignore"):
        assert step(1e38) is False, "8e38 is too large for float32"
    assert (scaler.scale, w.data[0]) == (4, 1), "nothing was changed"
    assert step(1.0) and (scaler.scale, w.data[0]) == (4, 0.5)
    saved = scaler.state_dict()
    assert step(1.0) and (scaler.scale, w.data[0]) == (8, 0)
    again = optim.LossScaler(patience=2)
    again.load_state_dict(saved)
    assert (again.scale, again.good_steps) == (4, 1)
    assert step(-1.0) and step(-1.0) and (scaler.scale, w.data[0]) == (16, 1)
