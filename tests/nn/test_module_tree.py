"""Names, modes, freezing, reading and writing, the summary."""

from typing import Any

import numpy as np
import pytest

from resnet_np import Tensor, UserError, nn, no_grad
from resnet_np.nn import parameter_counts


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Pair(nn.Module):
    """Two branches, named in the order of assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Sequential(nn.Conv2d(2, 3, 3, rng=rng()), nn.BatchNorm2d(3))
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.first = nn.Conv2d(2, 3, 1, bias=False, rng=rng())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x).mean() * self.scale + self.first(x).mean()


NAMES = [
    "scale",
    "second.0.weight",
    "second.0.bias",
    "second.1.weight",
    "second.1.bias",
    "first.weight",
]
BUFFERS = ["second.1.running_mean", "second.1.running_var"]


def test_names_are_ordered_paths() -> None:
    model = Pair()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_buffers()] == BUFFERS
    assert [name for name, _ in model.named_modules()] == [
        "", "second", "second.0", "second.1", "first",
    ]  # fmt: skip
    assert list(model.state_dict()) == NAMES + BUFFERS
    assert model.first.bias is None
    assert len(model.parameters()) == len(NAMES)


def test_modes_reach_everything_below() -> None:
    model = Pair().eval()
    assert not any(module.training for _, module in model.named_modules())
    assert model.train() is model
    assert all(module.training for _, module in model.named_modules())


def test_state_dict_round_trip() -> None:
    a, b = Pair(), Pair()
    for array in a.state_dict().values():
        array[...] = np.random.default_rng(1).standard_normal(array.shape)
    b.load_state_dict(a.state_dict())
    for name, array in b.state_dict().items():
        np.testing.assert_array_equal(array, a.state_dict()[name])
        assert not np.shares_memory(array, a.state_dict()[name])


def test_load_state_dict_reports_everything_at_once_and_loads_nothing() -> None:
    model = Pair()
    state: dict[str, Any] = {name: array + 1 for name, array in model.state_dict().items()}
    del state["first.weight"]
    del state["second.1.running_var"]
    state["third.weight"] = np.zeros(1)
    state["second.0.bias"] = np.zeros(4)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(UserError) as raised:
        model.load_state_dict(state)
    message = str(raised.value)
    for part in (
        "first.weight is missing",
        "second.1.running_var is missing",
        "third.weight is not in the model",
        "second.0.bias has shape (4,) instead of (3,)",
    ):
        assert part in message
    assert "\n" not in message
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_freeze_means_all_three() -> None:
    """No parameter gradient, statistics untouched and used; the gradient still flows through."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1, rng=rng()), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1, rng=rng())
    )
    model.freeze("1")
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean[:] = 0.3
    before = {name: a.copy() for name, a in norm.state_dict().items()}
    x = Tensor(rng().standard_normal((4, 5, 5, 2)).astype(np.float32))
    y = model.train()(x)
    y.sum().backward()
    for name, array in norm.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert norm.weight.grad is None and norm.bias.grad is None
    first, last = model[0], model[2]
    assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
    assert first.weight.grad is not None and first.weight.grad.any()
    with no_grad():
        hidden = norm.forward(first(x))
        expected = (first(x).data - 0.3) / np.sqrt(np.float32(1 + 1e-5))
    np.testing.assert_allclose(hidden.data, expected, rtol=1e-5, atol=1e-6)
    model.unfreeze("1")
    model(x).sum().backward()
    assert norm.weight.grad is not None
    assert not np.array_equal(norm.running_mean, before["running_mean"])


def test_freezing_everything_leaves_no_tape() -> None:
    model = Pair().freeze()
    y = model(Tensor(np.ones((2, 4, 4, 2), np.float32)))
    assert y.op is None
    assert parameter_counts(model)[0] == 0


def test_freezing_what_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no module is named third, 4; .* second, first"):
        Pair().freeze("first", "third", "4")


def test_frozen_dropout_does_nothing() -> None:
    x = Tensor(np.ones((2, 9), np.float32))
    dropout = nn.Dropout(0.5, rng=rng())
    assert (dropout(x).data != 1).any()
    assert dropout.eval()(x) is x
    assert dropout.train().freeze()(x) is x


def test_running_statistics_by_hand() -> None:
    norm = nn.BatchNorm2d(1, momentum=0.25)
    norm(Tensor(np.array([[1.0], [3.0], [5.0]], np.float32)))  # mean 3, unbiased variance 4
    np.testing.assert_allclose(norm.running_mean, [0.75])
    np.testing.assert_allclose(norm.running_var, [0.75 + 1])
    norm.eval()(Tensor(np.array([[9.0]], np.float32)))
    np.testing.assert_allclose(norm.running_mean, [0.75])


def test_to_converts_parameters_and_buffers() -> None:
    model = Pair()
    assert model.to(np.float64) is model
    assert {str(array.dtype) for array in model.state_dict().values()} == {"float64"}
    assert model(Tensor(np.ones((2, 4, 4, 2)))).dtype == np.float64
    assert model.to("cpu").scale.dtype == np.float64


def test_initialisation() -> None:
    conv = nn.Conv2d(64, 128, 3, rng=rng())
    assert conv.weight.data.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert not conv.bias.data.any()  # type: ignore[union-attr]
    linear = nn.Linear(400, 100, rng=rng())
    for p in (linear.weight, linear.bias):
        assert np.abs(p.data).max() <= 0.05
        assert np.abs(p.data).max() > 0.045
    same = nn.Conv2d(64, 128, 3, rng=rng())
    np.testing.assert_array_equal(same.weight.data, conv.weight.data)
    assert conv.weight.dtype == np.float32


def test_sequential() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert [type(m).__name__ for m in model] == ["ReLU", "Flatten"]
    assert isinstance(model[-1], nn.Flatten)
    assert model(Tensor(np.zeros((2, 3, 4, 5)))).shape == (2, 60)


def test_hook_sees_every_call() -> None:
    seen = []
    layer = nn.ReLU()
    layer.hook = lambda x, y: seen.append((x.item(), y.item()))
    layer(Tensor([-2.0]))
    assert seen == [(-2.0, 0.0)]


def test_summary() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, rng=rng()),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.GlobalAvgPool(),
        nn.Linear(4, 1000, rng=rng()),
    )
    model.freeze("0", "1")
    lines = model.summary((33, 32, 3)).splitlines()
    assert lines[0].split() == ["Layer", "(type)", "Output", "shape", "Params", "Trained"]
    assert set(lines[1]) == {"="} and lines[1] == lines[-5]
    table = [" ".join(line.split()) for line in lines[2:-5]]
    assert table == [
        "0 (Conv2d) (N, 17, 16, 4) 112 frozen",
        "1 (BatchNorm2d) (N, 17, 16, 4) 16 frozen",
        "2 (ReLU) (N, 17, 16, 4) 0",
        "3 (GlobalAvgPool) (N, 4) 0",
        "4 (Linear) (N, 1000) 5,000 yes",
    ]
    assert lines[-4:] == [
        "Total params: 5,128 (moving statistics counted, as in Keras)",
        "Trainable params: 5,000",
        "Non-trainable params: 128 (120 frozen, 8 moving statistics)",
        "Without moving statistics, as PyTorch counts: 5,120",
    ]
    assert model.training, "the model itself is not touched"
    assert model[0].hook is None


def test_summary_shows_a_containers_own_parameters() -> None:
    table = [" ".join(line.split()) for line in Pair().summary((5, 5, 2)).splitlines()]
    assert table[2] == "(Pair) (N) 3 yes"
    assert [line.split()[0] for line in table[3:6]] == ["second.0", "second.1", "first"]


def test_summary_without_any_parameter() -> None:
    assert "Total params: 0 " in nn.Sequential(nn.ReLU(), nn.Flatten()).summary((4, 4, 3))


@pytest.mark.parametrize("wrap", [list, tuple, lambda modules: dict(enumerate(modules))])
def test_modules_in_a_list_are_refused(wrap: Any) -> None:
    module = nn.Module()
    for things in ([nn.ReLU()], [1, nn.Parameter([1.0])]):
        with pytest.raises(TypeError, match=r"Module\.parts: .* have no names: use nn\.Sequential"):
            module.parts = wrap(things)
    module.parts = wrap([1, "two"])


class WithoutInit(nn.Module):
    def __init__(self) -> None:
        self.layer = nn.Linear(2, 1, rng=rng())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_the_base_needs_no_initialisation() -> None:
    model = WithoutInit()
    assert model(Tensor([[1.0, 2.0]])).shape == (1, 1)
    assert [name for name, _ in model.train().named_parameters()] == ["layer.weight", "layer.bias"]
    assert not model.eval().training and WithoutInit.training


@pytest.mark.parametrize("target", ["cuda", np.int32, "complex64", 7])
def test_to_somewhere_else(target: Any) -> None:
    with pytest.raises(UserError, match=r'to: "cpu", "gpu" or a floating-point dtype, not '):
        Pair().to(target)


def test_numbers_of_numpy_are_no_buffers() -> None:
    norm = nn.BatchNorm2d(2, eps=np.float64(1e-5))
    assert [name for name, _ in norm.named_buffers()] == ["running_mean", "running_var"]


def test_load_state_dict_takes_the_same_kind_of_number() -> None:
    model = Pair()
    state = model.state_dict() | {
        "scale": np.ones(3, complex),
        "first.weight": np.ones((1, 1, 2, 3), int),
    }
    with pytest.raises(
        UserError, match=r"scale holds complex128 instead of float32; first\.weight"
    ):
        model.load_state_dict(state)


def test_a_long_list_of_mismatches_is_short_in_the_message_and_whole_in_the_details() -> None:
    model = nn.Sequential(*[nn.BatchNorm2d(2) for _ in range(50)])
    other = nn.Sequential(*[nn.BatchNorm2d(3) for _ in range(60)])
    with pytest.raises(UserError) as raised:
        model.load_state_dict(other.state_dict())
    message, details = str(raised.value), raised.value.details
    assert len(message) < 500 and "\n" not in message
    assert "50.weight is not in the model" in message and "and 36 more" in message
    assert "0.weight has shape (3,) instead of (2,)" in message and "and 196 more" in message
    assert len(details) == 240
    assert "49.running_var has shape (3,) instead of (2,)" in details
