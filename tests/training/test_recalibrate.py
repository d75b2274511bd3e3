"""New statistics, same outputs."""

import numpy as np
import pytest
from small_network import small_network

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.loader import ArrayImages
from resnet_np.models import ResNet
from resnet_np.training.features import ImageInputs, Trunk
from resnet_np.training.recalibrate import (
    GROSS,
    Moments,
    disagreement,
    measure,
    recalibrate,
    trainable_norms,
)
from resnet_np.weights import PLAIN


def some_inputs(model: ResNet, start: str, n: int = 12) -> ImageInputs:
    pixels = np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    images = ArrayImages(pixels, np.zeros(n, np.int64), ("a", "b"))
    return ImageInputs(images, Trunk(model, start, PLAIN, "cpu"))


def fold(model: ResNet) -> None:
    """Multiply the statistics into gamma and beta, as some publishers do."""
    for norm in trainable_norms(model).values():
        scale = norm.weight.data / np.sqrt(norm.running_var + norm.eps)
        norm.bias.data -= scale * norm.running_mean
        norm.weight.data[...] = scale * np.sqrt(1 + norm.eps)
        norm.running_mean[...] = 0
        norm.running_var[...] = 1


def with_true_statistics(start: str) -> tuple[ResNet, ImageInputs]:
    """The small network with the statistics of the images that come with it."""
    model = small_network()
    model.freeze_before(start)
    inputs = some_inputs(model, start)
    recalibrate(model, measure(model, start, inputs, np.arange(12), 4))
    return model, inputs


def test_moments_add_up():
    x = np.random.default_rng(0).normal(100, 1, (10, 3, 2, 4)).astype(np.float32)
    whole, parts = Moments.of(x), Moments.of(x[:3]) + Moments.of(x[3:])
    assert parts.count == whole.count == 60
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(parts.var, whole.var, rtol=1e-12)


def test_by_hand():
    # gamma 2, beta 1, statistics 0 and 1, eps 0; measured mean 3, variance 4:
    # 2 x + 1 = gamma' (x - 3) / 2 + beta' with gamma' = 2 * 2 = 4 and beta' = 1 + 2 * 3 = 7.
    model = small_network()
    model.freeze_before("layer4")
    norm = trainable_norms(model)["layer4.0.bn1"]
    norm.eps = 0.0
    norm.weight.data[:], norm.bias.data[:] = 2, 1
    norm.running_mean[:], norm.running_var[:] = 0, 1
    c = len(norm.running_mean)
    recalibrate(model, {"layer4.0.bn1": Moments(10, np.full(c, 3.0), np.full(c, 4.0))})
    values = (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var)
    assert [float(a[0]) for a in values] == [4, 7, 3, 4]


def test_by_hand_from_statistics_that_are_not_0_and_1():
    # gamma 2, beta 1, mean 1, variance 4, eps 0: y = x. Measured mean 3, variance 9:
    # gamma' = 3, beta' = 3, so that 3 (x - 3) / 3 + 3 = x.
    model = small_network()
    norm = trainable_norms(model)["bn1"]
    norm.eps = 0.0
    norm.weight.data[:], norm.bias.data[:] = 2, 1
    norm.running_mean[:], norm.running_var[:] = 1, 4
    c = len(norm.running_mean)
    recalibrate(model, {"bn1": Moments(10, np.full(c, 3.0), np.full(c, 9.0))})
    assert (float(norm.weight.data[0]), float(norm.bias.data[0])) == (3, 3)


@pytest.mark.parametrize("start", ["stem", "layer3"])
def test_the_network_computes_what_it_did(start):
    model = small_network()
    model.freeze_before(start)
    fold(model)
    inputs = some_inputs(model, start)
    x = Tensor(inputs.prepare(inputs.load(np.arange(12))))
    frozen = {n: a.copy() for n, a in model.state_dict().items() if n.startswith("layer2")}
    model.eval()
    with no_grad():
        before = model(x, start=start).data.copy()
        recalibrate(model, measure(model, start, inputs, np.arange(12), 5))
        after = model(x, start=start).data
    assert np.abs(after - before).max() <= 1e-4 * np.abs(before).max()
    if start == "layer3":
        state = model.state_dict()
        assert all(np.array_equal(state[name], a) for name, a in frozen.items())


@pytest.mark.parametrize("start", ["stem", "layer4"])
def test_only_statistics_of_other_images_disagree(start):
    model, inputs = with_true_statistics(start)
    measured = measure(model, start, inputs, np.arange(12), 12)
    assert max(disagreement(model, measured).values()) < 1.01
    norm = trainable_norms(model)["layer4.1.bn2"]
    true = norm.running_var + norm.eps
    norm.running_var *= 50
    expected = np.median((norm.running_var + norm.eps) / true)
    factors = disagreement(model, measured)
    assert [name for name, factor in factors.items() if factor > GROSS] == ["layer4.1.bn2"]
    assert factors["layer4.1.bn2"] == pytest.approx(expected, rel=0.01)


def test_a_channel_without_any_input_is_no_disagreement():
    model, _ = with_true_statistics("layer4")
    norm = trainable_norms(model)["layer4.0.bn1"]
    norm.running_mean[:], norm.running_var[:] = 0, 0
    c = len(norm.running_mean)
    nothing = {"layer4.0.bn1": Moments(5, np.zeros(c), np.zeros(c))}
    assert disagreement(model, nothing) == {"layer4.0.bn1": 1.0}
