"""Keras files: small ones that Keras wrote (tests/golden), and older layouts written by hand."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_values import values
from tiny import message_of, our_layout, published_names, torchvision_arrays, write_legacy

from resnet_np.weights import KERAS_CAFFE, WeightFile, read

GOLDEN = Path(__file__).parents[1] / "golden"
BN = ("gamma", "beta", "moving_mean", "moving_variance")
BN1 = ("gamma", "beta", "running_mean", "running_std")  # the older names; _std holds the variance
LEAVES = ("weight", "bias", "running_mean", "running_var")


def rows_of_small() -> list[dict[str, str]]:
    """The published names of the first block of each stage, the stem and the head."""
    return [r for r in published_names() if r["tv_conv"].split(".")[1:2] in ([], ["0"])]


def check_trunk(file: WeightFile) -> None:
    """Every tensor holds the numbers drawn for its Keras name, under the published other name."""
    expected = {}
    for row in rows_of_small():
        if row["tv_conv"] == "fc":
            continue
        for leaf, ours in zip(("kernel", "bias"), LEAVES[:2], strict=True):
            expected[f"{row['tv_conv']}.{ours}"] = (row["keras_conv"], leaf)
        for leaf, ours in zip(BN, LEAVES, strict=True):
            expected[f"{row['tv_bn']}.{ours}"] = (row["keras_bn"], leaf)
    assert set(file.arrays) - {"fc.weight", "fc.bias"} == set(expected)
    for name, (layer, leaf) in expected.items():
        array = file.arrays[name]
        np.testing.assert_array_equal(array, values(layer, leaf, array.shape), err_msg=name)


@pytest.mark.parametrize(
    ("name", "format"),
    [("keras_legacy_top.h5", "keras-h5"), ("keras3_top.weights.h5", "keras-weights-h5")],
)
def test_written_by_keras(name: str, format: str) -> None:
    file = read(GOLDEN / name)
    check_trunk(file)
    np.testing.assert_array_equal(
        file.arrays["fc.weight"], values("predictions", "kernel", file.arrays["fc.weight"].shape)
    )
    assert file.arrays["conv1.weight"].shape == (7, 7, 3, 64)
    assert file.arrays["fc.weight"].shape == (20, 7)
    assert file.left_out == {}
    facts = (file.format, file.source, file.variant, file.bn_eps, file.conv_bias, file.contract)
    assert facts == (format, "keras", "v1", 1.001e-5, True, KERAS_CAFFE)
    assert not file.folded_statistics
    assert file.depth is None  # one block in each stage is no published depth


def test_nested_and_frozen_with_one_dense_layer_as_head() -> None:
    """Saved frozen, the trunk's statistics and weights stand in one list: only names help."""
    file = read(GOLDEN / "keras_legacy_nested_frozen.h5")
    check_trunk(file)
    np.testing.assert_array_equal(file.arrays["fc.weight"], values("classes", "kernel", (20, 4)))
    np.testing.assert_array_equal(file.arrays["fc.bias"], values("classes", "bias", (4,)))


def test_nested_with_hidden_layer_and_optimizer() -> None:
    file = read(GOLDEN / "keras3_nested_hidden.weights.h5")
    check_trunk(file)
    assert "fc.weight" not in file.arrays
    assert {"hidden/kernel", "hidden/bias", "classes/kernel", "optimizer"} <= set(file.left_out)


def older_layers(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """A file as the first Keras wrote it, from torchvision's arrays."""
    layers: dict[str, dict[str, np.ndarray]] = {"input_1": {}}
    for row in published_names():
        conv, norm = row["keras1_conv"], row["keras1_bn"]
        layers[conv] = {
            f"{conv}_{leaf}:0": our_layout(arrays[f"{row['tv_conv']}.{ours}"])
            for leaf, ours in (("W", "weight"), ("b", "bias"))
        }
        if norm != "-":
            layers[norm] = {
                f"{norm}_{leaf}:0": arrays[f"{row['tv_bn']}.{ours}"]
                for leaf, ours in zip(BN1, LEAVES, strict=True)
            }
    return layers


@pytest.fixture(scope="module")
def resnet50() -> dict[str, np.ndarray]:
    return torchvision_arrays((3, 4, 6, 3), bias=True)


@pytest.mark.parametrize(("nested_in", "split"), [(None, None), ("model_weights", 10)])
def test_older_names(
    tmp_path: Path, resnet50: dict[str, np.ndarray], nested_in: str | None, split: int | None
) -> None:
    write_legacy(tmp_path / "a.h5", older_layers(resnet50), nested_in, split)
    file = read(tmp_path / "a.h5")
    assert (file.depth, file.bn_eps, file.variant, file.conv_bias) == (50, 1e-3, "v1", True)
    assert set(file.arrays) == set(resnet50)
    for name, array in resnet50.items():
        np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)


def test_order_in_the_file_does_not_matter(tmp_path: Path, resnet50: dict[str, np.ndarray]) -> None:
    layers = older_layers(resnet50)
    backwards = {k: dict(reversed(layers[k].items())) for k in reversed(layers)}
    write_legacy(tmp_path / "a.h5", backwards)
    file = read(tmp_path / "a.h5")
    for name, array in resnet50.items():
        np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)


def test_group_name_counts_where_scopes_are_numbered(
    tmp_path: Path, resnet50: dict[str, np.ndarray]
) -> None:
    """TensorFlow numbered scopes when one process built a model twice: conv1_3/kernel:0."""
    layers = older_layers(resnet50)
    layers["conv1"] = {
        "conv1_3/kernel:0": layers["conv1"]["conv1_W:0"],
        "conv1_3/bias:0": layers["conv1"]["conv1_b:0"],
    }
    write_legacy(tmp_path / "a.h5", layers)
    assert read(tmp_path / "a.h5").arrays["conv1.weight"].shape == (7, 7, 3, 2)


def broken(tmp_path: Path, name: str = "keras_legacy_top.h5") -> Path:
    path = tmp_path / "broken.h5"
    shutil.copy(GOLDEN / name, path)
    return path


def test_no_layer_names(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
    assert "neither the attribute 'layer_names' nor a group 'layers'" in message_of(path)


def test_no_weight_names(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv"].attrs["weight_names"]
    assert "/conv1_conv has no attribute 'weight_names'" in message_of(path)


def test_all_problems_together(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        file["conv1_conv/conv1_conv/kernel"][0, 0, 0, 0] = np.nan
        file["conv1_bn/conv1_bn/moving_variance"][3] = -1
        kernel = file["conv2_block1_1_conv/conv2_block1_1_conv"]
        flat = kernel["kernel"][()].reshape(-1)
        del kernel["kernel"]
        kernel["kernel"] = flat
    message = message_of(path)
    assert "not finite: conv1.weight" in message
    assert "below zero: bn1.running_var" in message
    assert "rank 1 instead of 4: layer1.0.conv1.weight" in message


def test_listed_but_not_there(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel"]
        del file["conv1_bn"]
    message = message_of(path)
    assert "'conv1_conv/conv1_conv/kernel' is listed but not there" in message
    assert "the layer 'conv1_bn' is listed but not there" in message


def test_tensor_missing_in_a_layer(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        group = file["conv1_bn"]
        group.attrs["weight_names"] = [n for n in group.attrs["weight_names"] if "mean" not in n]
    assert "missing: bn1.running_mean" in message_of(path)


def test_a_layer_twice(tmp_path: Path) -> None:
    path = broken(tmp_path, "keras3_top.weights.h5")
    with h5py.File(path, "a") as file:
        file.copy("layers/conv2d", "layers/conv2d_99")
    assert "is a second layer" in message_of(path)


def test_layers_without_names(tmp_path: Path) -> None:
    path = broken(tmp_path, "keras3_top.weights.h5")
    with h5py.File(path, "a") as file:
        file["_layer_checkpoint_dependencies"] = file["layers"]
        del file["layers"]
        for group in file["_layer_checkpoint_dependencies"].values():
            group["vars"].attrs.pop("name", None)
    assert "layers carry no name" in message_of(path)


def test_pre_activation_networks_are_refused(tmp_path: Path) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        group = file.create_group("conv2_block1_preact_bn")
        group.attrs["weight_names"] = ["conv2_block1_preact_bn/gamma"]
        group["conv2_block1_preact_bn/gamma"] = np.ones(64)
        file.attrs["layer_names"] = [*file.attrs["layer_names"], "conv2_block1_preact_bn"]
    assert "none of a ResNet-50, 101 or 152 (v1): conv2_block1_preact_bn" in message_of(path)


def test_another_network(tmp_path: Path) -> None:
    write_legacy(tmp_path / "a.h5", {"dense": {"dense/kernel:0": np.zeros((2, 3))}})
    assert "none of its 1 layers with weights (dense)" in message_of(tmp_path / "a.h5")


def test_kernels_in_theanos_order(tmp_path: Path, resnet50: dict[str, np.ndarray]) -> None:
    layers = older_layers(resnet50)
    for tensors in layers.values():
        for name, array in tensors.items():
            if array.ndim == 4:
                tensors[name] = array.transpose(3, 2, 0, 1)
    write_legacy(tmp_path / "a.h5", layers)
    assert "conv1.weight makes 7 channels" in message_of(tmp_path / "a.h5")


def test_another_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    message = message_of(tmp_path / "a.h5")
    assert message.startswith(f"{tmp_path / 'a.h5'}: an HDF5 file, but not of Keras weights")


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9])
def test_cut_short(tmp_path: Path, keep: float) -> None:
    path = broken(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    assert "one cut short" in message_of(path)
