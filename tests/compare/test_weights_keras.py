"""Keras' ResNet-50, every variable random, saved by Keras, read and run here."""

from pathlib import Path

import keras_resnet
import numpy as np
import pytest
from keras_resnet import FORMATS, drop_bias, our_model, relative_errors, swap_statistics

from resnet_np.weights import KERAS_CAFFE, names, read
from resnet_np.weights.formats.keras_nameless import find_names

keras = keras_resnet.keras

# Keras' own conversion to NumPy is older than NumPy's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-5
SIZE = 64
NAMES = Path(__file__).parents[1] / "golden" / "resnet50_names.tsv"
LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@pytest.fixture(scope="module")
def model() -> "keras.Model":
    return keras_resnet.random_resnet50(SIZE)


@pytest.fixture(scope="module")
def paths(model: "keras.Model", tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return keras_resnet.save_in_all_formats(model, tmp_path_factory.mktemp("keras"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def logits(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    return keras_resnet.keras_logits(model, images)


def published() -> dict[str, str]:
    """Keras layer -> torchvision module, from the published table."""
    rows = [line.split("\t") for line in NAMES.read_text().splitlines()[1:]]
    return {row[2]: row[0] for row in rows} | {row[3]: row[1] for row in rows}


def assert_holds(arrays: dict[str, np.ndarray], model: "keras.Model") -> None:
    """Each tensor equals the variable it came from, by name; none is left over."""
    table = published()
    expected = {}
    for variable in model.variables:
        layer, leaf = variable.path.split("/")[-2:]
        expected[f"{table[layer]}.{LEAVES[leaf]}"] = keras.ops.convert_to_numpy(variable)
    assert set(arrays) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values, err_msg=name)


@pytest.mark.parametrize("format", FORMATS)
def test_every_tensor(model: "keras.Model", paths: dict[str, Path], format: str) -> None:
    file = read(paths[format])
    assert_holds(file.arrays, model)
    assert (file.depth, file.variant, file.bn_eps, file.conv_bias) == (50, "v1", 1.001e-5, True)
    assert not file.folded_statistics


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a.keras"])
def test_nested_in_a_users_model(tmp_path: Path, frozen: bool, name: str) -> None:
    trunk = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3)
    )
    keras_resnet.randomise(trunk)
    trunk.trainable = not frozen
    layers = [keras.layers.Input((SIZE, SIZE, 3)), trunk, keras.layers.Dense(13)]
    whole = keras.Sequential(layers)
    (whole.save_weights if name == "a.weights.h5" else whole.save)(tmp_path / name)
    file = read(tmp_path / name)
    head = keras.ops.convert_to_numpy(whole.layers[-1].kernel)
    np.testing.assert_array_equal(file.arrays.pop("fc.weight"), head)
    assert file.arrays.pop("fc.bias").shape == (13,)
    assert_holds(file.arrays, trunk)


@pytest.mark.parametrize("depth", [101, 152])
def test_names_of_deeper_networks(depth: int) -> None:
    model = getattr(keras.applications, f"ResNet{depth}")(weights=None)
    assert {layer.name for layer in model.layers if layer.weights} == set(names.keras_names(depth))


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_order_of_layers_without_names(depth: int) -> None:
    """The order by which older files are read is the order in which Keras lists the layers."""
    model = getattr(keras.applications, f"ResNet{depth}")(weights=None)
    counts: dict[str, int] = {}
    listed, shapes = {}, {}
    for layer in model.layers:
        kind = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(
            type(layer).__name__
        )
        if kind is not None:
            number = counts.get(kind, 0)
            counts[kind] = number + 1
            path = f"layers/{kind}_{number}" if number else f"layers/{kind}"
            listed[path] = layer.name
            shapes[path] = {
                str(i): np.broadcast_to(np.float32(0), tuple(variable.shape))
                for i, variable in enumerate(layer.weights)
            }
    assert find_names(shapes) == listed


def test_epsilon_is_read(tmp_path: Path) -> None:
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))

    def clone(layer: "keras.layers.Layer") -> "keras.layers.Layer":
        config = layer.get_config()
        if "epsilon" in config:
            config["epsilon"] = 2e-3
        return type(layer).from_config(config)

    keras.models.clone_model(model, clone_function=clone).save(tmp_path / "a.keras")
    assert read(tmp_path / "a.keras").bn_eps == 2e-3


def test_contract_is_keras_preprocessing(images: np.ndarray) -> None:
    ours = KERAS_CAFFE.normalise(images)
    theirs = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_same_logits(
    paths: dict[str, Path], format: str, images: np.ndarray, logits: np.ndarray
) -> None:
    ours = keras_resnet.our_logits(our_model(read(paths[format])), images)
    assert relative_errors(ours, logits).max() <= TOLERANCE


@pytest.mark.parametrize("norm", ["bn1", "layer2.0.downsample.1", "layer4.2.bn3"])
def test_swapped_statistics_are_noticed(
    paths: dict[str, Path], norm: str, images: np.ndarray, logits: np.ndarray
) -> None:
    wrong = swap_statistics(read(paths["keras3.weights.h5"]), norm)
    ours = keras_resnet.our_logits(our_model(wrong), images)
    assert relative_errors(ours, logits).min() > 100 * TOLERANCE


@pytest.mark.parametrize("module", ["conv1", "layer3.0.downsample.0", "layer4.2.conv2", "fc"])
def test_a_dropped_bias_is_noticed(
    paths: dict[str, Path], module: str, images: np.ndarray, logits: np.ndarray
) -> None:
    wrong = drop_bias(read(paths["legacy.h5"]), module)
    ours = keras_resnet.our_logits(our_model(wrong), images)
    assert relative_errors(ours, logits).min() > 100 * TOLERANCE
