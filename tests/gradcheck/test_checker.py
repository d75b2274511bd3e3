"""What the checker dodges, what it refuses, and what its message says."""

from typing import Any

import numpy as np
import pytest
from standins.card import stand_in

from resnet_np import GradientError, Tensor, check_gradients, max_pool2d, nn, relu
from resnet_np.autograd import Op, gradcheck

RNG = np.random.default_rng(0)


class WrongAt(Op):
    """y = x^2, with one element of the gradient wrong."""

    def __init__(self, index: tuple[int, ...], error: float) -> None:
        self.index, self.error = index, error

    def forward(self, x: Any) -> Any:
        self.saved = x
        return x * x

    def backward(self, gy: Any) -> tuple[Any]:
        gx = 2 * self.saved * gy
        gx[self.index] *= 1 + self.error
        return (gx,)


@pytest.mark.parametrize("shape", [(5, 4), (40, 50)], ids=["in full", "along directions"])
@pytest.mark.parametrize("error", [1e-3, 0.05, -2.0])
def test_the_wrong_element_is_named_with_both_values(shape: tuple[int, int], error: float) -> None:
    x = RNG.uniform(0.5, 1, shape)
    with pytest.raises(GradientError) as raised:
        check_gradients(lambda t: WrongAt((3, 2), error)(t), [x])
    message = str(raised.value)
    assert f"the gradient of input 0 (shape {shape}) is wrong at element (3, 2)" in message
    says = message.partition("backward says ")[2]
    claimed = float(says.split(",")[0])
    measured = float(says.rpartition("finite differences say ")[2])
    assert claimed / measured == pytest.approx(1 + error, rel=1e-5)


def test_the_wrong_input_is_named() -> None:
    with pytest.raises(GradientError, match="the gradient of input 1 "):
        check_gradients(lambda a, b: a * 2.0 + WrongAt((0,), 0.1)(b), [np.ones(2), np.ones(2)])


class WrongLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + WrongAt((1,), 0.1)(self.bias)


def test_the_wrong_parameter_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), WrongLinear(4, 2, rng=RNG))
    x = RNG.standard_normal((3, 2, 2, 1))
    with pytest.raises(GradientError, match=r"the gradient of 1.bias \(shape \(2,\)\) is wrong at"):
        check_gradients(model, [x])
    lines = check_gradients(model, [x], only=["1.weight"])
    assert [(line.name, line.shape, line.comparisons) for line in lines] == [
        ("1.weight", (4, 2), 8)
    ]


def test_kinks_are_dodged() -> None:
    check_gradients(relu, [np.array([0.0, 1.0, -1.0])])
    check_gradients(relu, [np.array([1.0, 5e-6, -5e-6, 3e-6, 1e-7])])
    check_gradients(lambda x: max_pool2d(x, 2), [np.ones((1, 4, 4, 2))])
    check_gradients(lambda x: x.max(axis=0), [np.ones((3, 2))])


class WrongRelu(Op):
    """Passes 1 % too much."""

    def forward(self, x: Any) -> Any:
        self.saved = x
        return np.maximum(x, 0)

    def backward(self, gy: Any) -> tuple[Any]:
        return (1.01 * gy * (self.saved > 0),)


@pytest.mark.parametrize("offset", [0.0, 1e-7, 2e-6, 2.5e-6, 5e-6, 1.0])
def test_a_wrong_gradient_does_not_hide_behind_a_kink(offset: float) -> None:
    with pytest.raises(GradientError, match="is wrong at element"):
        check_gradients(lambda x: WrongRelu()(x), [np.array([1.0, offset, -offset])])


class OnAKink(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.array([[0.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.weight) * x


def test_a_kink_that_no_input_moves_is_reported_as_such() -> None:
    with pytest.raises(GradientError, match="no smooth point was found to check weight at"):
        check_gradients(OnAKink(), [np.ones((1, 2))])


def test_a_right_gradient_among_a_thousand_kinks() -> None:
    """Steps of 1e-5 cross kinks wherever they go: this is what deep networks are like."""
    thresholds = np.arange(-2, 2, 2e-6)

    def f(x: Tensor) -> Tensor:
        return relu(x.reshape(-1, 1) - thresholds).sum(axis=1)

    check_gradients(f, [np.array([0.3 + 1e-6, -0.7 + 1e-6])])
    with pytest.raises(GradientError, match="is wrong at"):
        check_gradients(lambda x: f(x) + WrongAt((0,), 0.5)(x) * 1e5, [np.array([0.3, -0.7])])


def test_rounding_noise_of_a_large_constant_is_allowed_for() -> None:
    check_gradients(lambda x: x * x + 1e6, [np.array([1.0, 2.0])])
    with pytest.raises(GradientError, match="is wrong at element"):
        check_gradients(lambda x: WrongAt((1,), 0.01)(x) + 1e6, [np.array([1.0, 2.0])])


def test_noise_that_hides_everything_is_an_error() -> None:
    with pytest.raises(GradientError, match="no smooth point was found"):
        check_gradients(lambda x: x * x + 1e14, [np.array([1.0, 2.0])])


class Zero(Op):
    def forward(self, x: Any) -> Any:
        return x * 2

    def backward(self, gy: Any) -> tuple[Any]:
        return (gy * 0,)


def test_a_gradient_of_zero_is_an_error() -> None:
    with pytest.raises(GradientError, match="gradient of input 0 is exactly zero: this checks"):
        check_gradients(lambda x: Zero()(x), [np.ones(3)])
    with pytest.raises(GradientError, match="is exactly zero"):
        check_gradients(lambda x: x * 0.0, [np.ones(3)])
    with pytest.raises(GradientError, match="input 1 received no gradient"):
        check_gradients(lambda a, b: a * 2.0, [np.ones(3), np.ones(3)])


def test_a_function_with_dice_is_an_error() -> None:
    with pytest.raises(GradientError, match="another result each time"):
        check_gradients(lambda x: x * RNG.standard_normal(), [np.ones(3)])
    dropout = nn.Dropout(0.5, rng=np.random.default_rng(0))
    with pytest.raises(GradientError, match="another result each time"):
        check_gradients(dropout, [np.ones(20)])


def test_nan_and_infinity_are_an_error() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(GradientError, match="NaN or infinity"):
            check_gradients(lambda x, v=value: x * v, [np.ones(3)])


class ChangesInput(Op):
    def __init__(self, where: str) -> None:
        self.where = where

    def forward(self, x: Any) -> Any:
        self.saved = x
        if self.where == "forward":
            np.maximum(x, 0.5, out=x)  # the second time, it changes nothing
        return x * 1

    def backward(self, gy: Any) -> tuple[Any]:
        if self.where == "backward":
            self.saved *= 2
        if self.where == "gy":
            gy *= 2
            return (gy / 2,)
        return (gy,)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("forward", "input 0 was changed"),
        ("backward", "input 0 was changed"),
        ("gy", "backward wrote into the gradient that it was given"),
    ],
)
def test_writing_into_what_is_not_ones_own_is_an_error(where: str, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        check_gradients(lambda x: ChangesInput(where)(x), [np.array([0.1, 1.0])])


def test_inputs_and_modules_stay_as_they_were() -> None:
    x = np.ones((2, 3), np.float32)
    model = nn.Linear(3, 2, rng=RNG)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    check_gradients(model, [x])
    assert x.dtype == np.float32 and (x == 1).all()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert array.dtype == np.float32
    assert model.weight.grad is None


def test_tensors_and_integer_inputs() -> None:
    rows = np.array([1, 0])
    check_gradients(lambda x, i: x * i.astype(np.float64), [Tensor([1.0, 2.0]), rows])


def test_what_lies_on_a_card_is_checked_there() -> None:
    x = RNG.uniform(0.5, 1, (3, 4))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, rng=RNG))
    expected = check_gradients(model, [x])
    with stand_in() as cupy:
        cupy.standin.record.reset()
        checked = check_gradients(model.to("gpu"), [cupy.asarray(x)])
        assert len(cupy.standin.record.gemms) > 2 * sum(line.comparisons for line in checked)
        with pytest.raises(GradientError, match=r"input 0 .* is wrong at element \(1, 2\)"):
            check_gradients(lambda t: WrongAt((1, 2), 0.1)(t), [cupy.asarray(x)])
        model.to("cpu")
    assert [line.comparisons for line in checked] == [line.comparisons for line in expected]


def test_kinks_are_dodged_on_a_card() -> None:
    with stand_in() as cupy:
        check_gradients(relu, [cupy.asarray([0.0, 1.0, -1.0])])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"only: \['weihgt'\] is not among .*'weight'"):
        check_gradients(nn.Linear(3, 2, rng=RNG), [np.ones((1, 3))], only=["weihgt"])


def test_every_element_of_a_small_input_and_a_sample_of_a_large_one() -> None:
    small, large = np.ones(gradcheck.FULL_UP_TO), np.ones(gradcheck.FULL_UP_TO + 1)
    assert check_gradients(lambda x: x * x, [small])[0].comparisons == small.size
    directions = gradcheck.DIRECTIONS + gradcheck.SAMPLES
    assert check_gradients(lambda x: x * x, [large])[0].comparisons == directions


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(TypeError, match="f must return one Tensor, not tuple"):
        check_gradients(lambda x: (x, x), [np.ones(2)])
    with pytest.raises(ValueError, match="nothing to check: no floating-point input"):
        check_gradients(lambda x: Tensor([1.0]), [np.arange(3)])
    with pytest.raises(ValueError, match="nothing to check"):
        check_gradients(lambda x: x, [np.ones(2)], only=[])
