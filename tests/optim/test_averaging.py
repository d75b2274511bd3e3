"""Averaged weights: by hand, in the model and out of it, and on again after a break."""

import numpy as np
import pytest

from resnet_np import Tensor, cross_entropy, nn, optim
from resnet_np.optim import MovingAverage


def model(seed: int = 0) -> nn.Module:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, rng=rng), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2, rng=rng)
    )


def train(network: nn.Module, optimizer: optim.Optimizer, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((5, 4, 4, 3)).astype(np.float32)
    cross_entropy(network(Tensor(x)), np.array([0, 1, 0, 1, 1])).backward()
    optimizer.step()
    optimizer.zero_grad()


def values(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in network.state_dict().items()}


def test_by_hand() -> None:
    layer = nn.Linear(1, 1, rng=np.random.default_rng(0))
    layer.weight.data[...] = 0
    average = MovingAverage(layer, decay=0.2)
    for value, expected in ((1.0, 1 - 2 / 11), (3.0, 0.2 * (1 - 2 / 11) + 0.8 * 3)):
        layer.weight.data[...] = value  # decays: min(0.2, 2/11), then min(0.2, 3/12)
        average.update()
        np.testing.assert_allclose(average.average["weight"], [[expected]], rtol=1e-6)


def test_it_is_the_weighted_mean_of_all_weights_so_far() -> None:
    network = model()
    optimizer, average = optim.SGD(network.parameters(), lr=0.1), MovingAverage(network, 0.9)
    expected = {name: array.astype("f8") for name, array in values(network).items()}
    for step in range(1, 30):
        train(network, optimizer, step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in values(network).items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in expected.items():
        np.testing.assert_allclose(average.average[name], value, rtol=1e-4, atol=1e-6)


def test_in_the_model_and_out_again() -> None:
    network = model()
    optimizer, average = optim.SGD(network.parameters(), lr=0.1), MovingAverage(network)
    train(network, optimizer, 0)
    average.update()
    own = values(network)
    with pytest.raises(KeyboardInterrupt), average.in_model():
        for name, value in values(network).items():
            np.testing.assert_array_equal(value, average.average[name])
            assert name.endswith("num_batches") or (value != own[name]).any()
        raise KeyboardInterrupt
    for name, value in values(network).items():
        assert value.tobytes() == own[name].tobytes()


def test_the_plan_sees_them() -> None:
    network = model()
    average = MovingAverage(network, 0.5)
    optimizer = optim.SGD(network.parameters(), lr=1.0)
    x = Tensor(np.ones((1, 4, 4, 3), np.float32))
    train(network, optimizer, 0)
    average.update()
    before = network.eval()(x).data.copy()
    with average.in_model():
        assert (network(x).data != before).any()
    np.testing.assert_array_equal(network(x).data, before)


def test_on_again_after_a_break() -> None:
    networks = [model(), model()]
    averages = [MovingAverage(network, 0.99) for network in networks]
    optimizers = [optim.SGD(network.parameters(), lr=0.1) for network in networks]
    for step in range(6):
        for i in range(2):
            train(networks[i], optimizers[i], step)
            averages[i].update()
        if step == 2:
            saved = {k: np.copy(v) for k, v in averages[1].state_dict().items()}
            averages[1] = MovingAverage(networks[1], 0.99)
            averages[1].load_state_dict(saved)
    for name, value in averages[0].average.items():
        assert value.tobytes() == averages[1].average[name].tobytes()


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_what_makes_no_sense_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
        MovingAverage(model(), decay)
