"""Recomputing changes memory and time, and no bit of anything else."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

import resnet_np as rnp
from resnet_np import Tensor, nn
from resnet_np.nn.recompute import Recompute


def gradients(model: Any, images: np.ndarray, labels: np.ndarray, **options: Any) -> dict[str, Any]:
    loss = rnp.cross_entropy(model(Tensor(images), **options), labels)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    return found | dict(model.named_buffers()) | {"loss": loss.data}


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert got[name] is None, name
        else:
            np.testing.assert_array_equal(got[name], value, err_msg=name)


def data(dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 32, 32, 3)).astype(dtype), rng.integers(0, 5, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_gradients_and_statistics(dtype: str) -> None:
    results = []
    for stages in ((), ("layer1", "layer3"), ("layer1", "layer2", "layer3", "layer4")):
        model = rnp.resnet18(num_classes=5, width=0.25).to(dtype)
        for stage in stages:
            getattr(model, stage).recompute = True
        first = gradients(model, *data(dtype))
        second = gradients(model, *data(dtype))  # gradients add up, statistics move on
        results.append((first, second))
    for first, second in results[1:]:
        assert_same(first, results[0][0])
        assert_same(second, results[0][1])


def test_in_front_of_it_and_inside_of_it_may_be_frozen() -> None:
    results = []
    for recompute in (False, True):
        model = rnp.resnet18(num_classes=5, width=0.25)
        model.freeze_before("layer3")
        model.freeze("layer3.0.bn1")
        model.layer3.recompute = recompute
        results.append(gradients(model, *data()))
    assert_same(results[1], results[0])
    assert results[1]["layer3.0.bn1.weight"] is None
    assert results[1]["layer3.0.conv1.weight"] is not None


def test_dropout_draws_the_same_numbers() -> None:
    results = []
    for recompute in (False, True):
        rng = np.random.default_rng(3)
        model = nn.Sequential(
            nn.Sequential(nn.Linear(6, 9, rng=rng), nn.ReLU(), nn.Dropout(0.5, rng=rng)),
            nn.Sequential(nn.Linear(9, 9, rng=rng), nn.Dropout(0.5, rng=rng)),
        )
        model[0].recompute = recompute
        x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
        results.append([gradients(model, x, np.arange(5)) for _ in range(2)])
    for got, expected in zip(*results, strict=True):
        assert_same(got, expected)


def test_without_a_tape_nothing_is_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = rnp.resnet18(num_classes=5, width=0.25)
    model.layer1.recompute = True
    monkeypatch.setattr(Recompute, "forward", None)
    with rnp.no_grad():
        model(Tensor(data()[0]))
    with pytest.raises(TypeError):
        model(Tensor(data()[0]))


def test_it_saves_memory() -> None:
    peaks = []
    for recompute in (False, True):
        model = rnp.resnet18(num_classes=5, width=0.5)
        for stage in ("layer1", "layer2"):
            getattr(model, stage).recompute = recompute
        images = np.zeros((4, 96, 96, 3), np.float32)
        tracemalloc.start()
        loss = rnp.cross_entropy(model(Tensor(images)), np.arange(4))
        peaks.append(tracemalloc.get_traced_memory()[0])  # what the tape holds
        loss.backward()
        tracemalloc.stop()
    assert peaks[1] < 0.6 * peaks[0]
