"""Another epsilon, more biases, fewer biases: the same function."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import our_layout, torchvision_arrays, weight_file

from resnet_np import Tensor, no_grad
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import WeightFile
from resnet_np.weights.adapt import adapt

EPSILONS = (1e-5, 1.001e-5, 1e-3)


def random_file(depth: int, conv_bias: bool, bn_eps: float, seed: int) -> WeightFile:
    """A narrow network of two classes; every tensor random, in float64."""
    model = ResNet(depth, num_classes=2, width=1 / 32, conv_bias=conv_bias, bn_eps=bn_eps)
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=a.shape) for name, a in model.state_dict().items()}
    for name in arrays:
        if name.endswith("running_var"):
            arrays[name] = rng.uniform(0.01, 2, arrays[name].shape)
    return weight_file(arrays, bn_eps=bn_eps)


def logits(file: WeightFile, images: np.ndarray) -> np.ndarray:
    model = ResNet(
        file.depth or 0,
        num_classes=2,
        width=1 / 32,
        conv_bias=file.conv_bias,
        bn_eps=file.bn_eps or 0.0,
    )
    model.to(np.float64)
    load_weights(model, file, replace_head=False)
    model.eval()
    with no_grad():
        return model(Tensor(images)).numpy()


@given(
    depth=st.sampled_from([18, 50]),
    before=st.tuples(st.booleans(), st.sampled_from(EPSILONS)),
    after=st.tuples(st.booleans(), st.sampled_from(EPSILONS)),
    seed=st.integers(0, 100),
)
def test_same_function(
    depth: int, before: tuple[bool, float], after: tuple[bool, float], seed: int
) -> None:
    file = random_file(depth, *before, seed)
    images = np.random.default_rng(seed).normal(size=(2, 32, 32, 3))
    adapted, notes = adapt(file, bn_eps=after[1], conv_bias=after[0])
    assert (adapted.conv_bias, adapted.bn_eps) == after
    assert len(notes) == sum(a != b for a, b in zip(before, after, strict=True))
    expected = logits(file, images)
    error = np.abs(logits(adapted, images) - expected).max() / np.abs(expected).max()
    assert error < 1e-11


def small(**facts: object) -> WeightFile:
    """A few channels, one block in each stage; float32."""
    bias = facts.pop("bias", False)
    arrays = torchvision_arrays(bias=bool(bias))
    return weight_file({name: our_layout(a) for name, a in arrays.items()}, **facts)


def test_nothing_to_do() -> None:
    file = small()
    adapted, notes = adapt(file, bn_eps=1e-5, conv_bias=False)
    assert not notes
    assert adapted == file


def test_by_hand() -> None:
    """A convolution that gives 3 with bias 0.5; mean 1, variance 2, epsilon 0.25: 2.5 / 1.5."""
    arrays = {
        "conv1.weight": np.ones((7, 7, 3, 1), np.float32),
        "conv1.bias": np.array([0.5], np.float32),
        "bn1.weight": np.ones(1, np.float32),
        "bn1.bias": np.zeros(1, np.float32),
        "bn1.running_mean": np.array([1], np.float32),
        "bn1.running_var": np.array([2], np.float32),
    }
    file = weight_file(arrays, bn_eps=0.25)
    adapted, notes = adapt(file, bn_eps=0.5, conv_bias=False)
    assert "conv1.bias" not in adapted.arrays
    assert adapted.arrays["bn1.running_mean"] == 0.5  # (3 - 0.5) / sqrt(1.75 + 0.5) is it, too
    assert adapted.arrays["bn1.running_var"] == 1.75
    assert {a.dtype.name for a in adapted.arrays.values()} == {"float32"}
    assert ["0.25" in notes[0], "running_var" in notes[0], "running_mean" in notes[1]] == [True] * 3
    # The file given is as it was.
    assert file.arrays["bn1.running_mean"] == 1 and "conv1.bias" in file.arrays


def test_some_biases_missing() -> None:
    file = small(bias=True)
    del file.arrays["layer1.0.conv2.bias"]
    adapted, notes = adapt(file, bn_eps=1e-5, conv_bias=True)
    np.testing.assert_array_equal(adapted.arrays["layer1.0.conv2.bias"], np.zeros(3, np.float32))
    np.testing.assert_array_equal(adapted.arrays["conv1.bias"], file.arrays["conv1.bias"])
    assert notes[0].startswith("1 of its convolutions")


def test_the_head_keeps_its_bias() -> None:
    adapted, _ = adapt(small(bias=True), bn_eps=1e-5, conv_bias=False)
    assert [n for n in adapted.arrays if n.endswith("bias") and "bn" not in n] == [
        *(f"layer{stage}.0.downsample.1.bias" for stage in range(1, 5)),
        "fc.bias",
    ]


def test_unknown_epsilon() -> None:
    with pytest.raises(UserError, match=r"^a.npz: does not say which epsilon"):
        adapt(small(bn_eps=None), bn_eps=1e-5, conv_bias=False)


def test_variance_too_small() -> None:
    file = small()
    file.arrays["layer2.0.bn3.running_var"][1] = 1e-9
    with pytest.raises(UserError, match=r"^a.npz: .* too small .*: layer2\.0\.bn3\.running_var$"):
        adapt(file, bn_eps=1.001e-5, conv_bias=False)
