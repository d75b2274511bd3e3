"""`.weights.h5` written here, loaded by Keras into its own networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_resnet
import numpy as np
import pytest
from keras.src.utils.naming import to_snake_case
from keras_resnet import relative_errors
from random_networks import CLASSES, noise, random_network

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.weights import read
from resnet_np.weights.formats.keras_writing import layers_in_order, write_keras
from resnet_np.weights.names import BLOCKS

keras = keras_resnet.keras

# Keras' own conversion to NumPy is older than NumPy's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-5
SIZE = 64


def loaded(path: Path, depth: int = 50) -> "keras.Model":
    """Keras' network with the weights of the file."""
    twin = getattr(keras.applications, f"ResNet{depth}")(
        weights=None, classes=CLASSES, classifier_activation=None, input_shape=(SIZE, SIZE, 3)
    )
    twin.load_weights(path)
    return twin


def errors(model: ResNet, twin: "keras.Model") -> np.ndarray:
    """Relative errors of Keras' logits, for two images."""
    images = noise(model.contract, 2, SIZE, SIZE)
    with no_grad():
        ours = model(Tensor(images)).numpy()
    theirs = np.concatenate([twin.predict_on_batch(images[i : i + 1]) for i in range(2)])
    return relative_errors(theirs.reshape(2, -1), ours.reshape(2, -1))


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize("top", [True, False])
def test_order_of_layers_is_keras_own(depth: int, top: bool) -> None:
    model = getattr(keras.applications, f"ResNet{depth}")(
        weights=None, include_top=top, input_shape=(SIZE, SIZE, 3)
    )
    theirs = [(to_snake_case(type(layer).__name__), layer.name) for layer in model.layers]
    ours = list(layers_in_order(BLOCKS[depth], has_head=top))
    assert ours[1:] == theirs[1:]  # the input is numbered from one model to the next
    assert ours[0][0] == theirs[0][0]


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_same_logits(tmp_path: Path, depth: int) -> None:
    model, file = random_network(depth, "v1", conv_bias=True, bn_eps=1.001e-5)
    path = tmp_path / "a.weights.h5"
    assert write_keras(str(path), file) == []
    twin = loaded(path, depth)
    assert errors(model, twin).max() <= TOLERANCE


def test_same_logits_after_adapting(tmp_path: Path) -> None:
    """No biases, torchvision's epsilon, in float64: none of it Keras'."""
    model, file = random_network(50, "v1", bn_eps=1e-3)
    file = replace(file, arrays={n: a.astype(np.float64) for n, a in file.arrays.items()})
    path = tmp_path / "a.weights.h5"
    assert len(write_keras(str(path), file)) == 2
    twin = loaded(path)
    assert errors(model, twin).max() <= TOLERANCE


@pytest.mark.parametrize("pooling", ["avg", "max", None])
def test_without_head(tmp_path: Path, pooling: Any) -> None:
    model, file = random_network(
        50, "v1", conv_bias=True, bn_eps=1.001e-5, include_top=False, pooling=pooling
    )
    path = tmp_path / "a.weights.h5"
    write_keras(str(path), file)
    twin = keras.applications.ResNet50(
        weights=None, include_top=False, pooling=pooling, input_shape=(SIZE, SIZE, 3)
    )
    twin.load_weights(path)
    assert errors(model, twin).max() <= TOLERANCE


def test_a_layer_in_anothers_place_is_noticed(tmp_path: Path) -> None:
    """Two batch norms of one size, exchanged: what a wrong order would do."""
    model, file = random_network(50, "v1", conv_bias=True, bn_eps=1.001e-5)
    swapped = {
        name.replace("downsample.1", "bn3"): array
        for name, array in file.arrays.items()
        if name.startswith("layer2.0.downsample.1.")
    }
    swapped |= {
        name.replace("bn3", "downsample.1"): array
        for name, array in file.arrays.items()
        if name.startswith("layer2.0.bn3.")
    }
    path = tmp_path / "a.weights.h5"
    write_keras(str(path), replace(file, arrays=file.arrays | swapped))
    twin = loaded(path)
    assert errors(model, twin).min() > 100 * TOLERANCE


def test_what_keras_saves_is_written_the_same(tmp_path: Path) -> None:
    """Read Keras' file, write it, read it again: equal to the bit."""
    twin = keras_resnet.random_resnet50(SIZE)
    twin.save_weights(tmp_path / "a.weights.h5")
    file = read(tmp_path / "a.weights.h5")
    write_keras(str(tmp_path / "b.weights.h5"), file)
    back = read(tmp_path / "b.weights.h5")
    assert set(back.arrays) == set(file.arrays)
    for name, array in file.arrays.items():
        assert back.arrays[name].tobytes() == array.tobytes(), name
