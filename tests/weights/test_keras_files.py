"""Keras files: small ones that Keras wrote (tests/golden), and older layouts written by hand."""

import json
import lzma
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_values import constants, values
from tiny import message_of, our_layout, published_names, torchvision_arrays, write_legacy

from resnet_np.weights import KERAS_CAFFE, WeightFile, names, read
from resnet_np.weights.formats.keras_config import read_layers
from resnet_np.weights.formats.keras_nameless import current_paths, find_names

GOLDEN = Path(__file__).parents[1] / "golden"
BN = ("gamma", "beta", "moving_mean", "moving_variance")
BN1 = ("gamma", "beta", "running_mean", "running_std")  # the older names; _std holds the variance
LEAVES = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A golden file, unpacked if it is packed."""
    folder = tmp_path_factory.mktemp("unpacked")

    def unpack(name: str) -> Path:
        if (GOLDEN / name).exists():
            return GOLDEN / name
        (folder / name).write_bytes(lzma.decompress((GOLDEN / f"{name}.xz").read_bytes()))
        return folder / name

    return unpack


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
    [
        ("keras_legacy_top.h5", "keras-h5"),
        ("keras3_top.weights.h5", "keras-weights-h5"),
        ("keras3_top.keras", "keras-zip"),
    ],
)
def test_written_by_keras(unpacked: Callable[[str], Path], name: str, format: str) -> None:
    file = read(unpacked(name))
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


def test_without_top(unpacked: Callable[[str], Path]) -> None:
    file = read(unpacked("keras_legacy_notop.h5"))
    check_trunk(file)
    assert "fc.weight" not in file.arrays
    assert file.left_out == {}


@pytest.mark.parametrize(
    "name", ["keras_legacy_nested_trainable.h5", "keras215_nested.keras", "keras212_nested.keras"]
)
def test_nested_with_one_dense_layer_as_head(unpacked: Callable[[str], Path], name: str) -> None:
    """In the .keras of Keras 2 only config.json knows the names."""
    file = read(unpacked(name))
    check_trunk(file)
    np.testing.assert_array_equal(file.arrays["fc.weight"], values("classes", "kernel", (20, 4)))
    np.testing.assert_array_equal(file.arrays["fc.bias"], values("classes", "bias", (4,)))


def test_nested_and_frozen_with_one_dense_layer_as_head() -> None:
    """Saved frozen, the trunk's statistics and weights stand in one list: only names help."""
    file = read(GOLDEN / "keras_legacy_nested_frozen.h5")
    check_trunk(file)
    np.testing.assert_array_equal(file.arrays["fc.weight"], values("classes", "kernel", (20, 4)))
    np.testing.assert_array_equal(file.arrays["fc.bias"], values("classes", "bias", (4,)))


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
def test_nested_with_hidden_layer_and_optimizer(
    unpacked: Callable[[str], Path], ending: str
) -> None:
    file = read(unpacked(f"keras3_nested_hidden.{ending}"))
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


def test_layers_with_other_names(tmp_path: Path) -> None:
    path = broken(tmp_path, "keras3_top.weights.h5")
    with h5py.File(path, "a") as file:
        for group in file["layers"].values():
            group["vars"].attrs["name"] = f"my_{group['vars'].attrs['name']}"
    assert "none of its 35 layers with weights (my_" in message_of(path)


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


# --- layers without names ------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["212", "215"])
def test_layers_known_by_their_order(unpacked: Callable[[str], Path], version: str) -> None:
    """A whole ResNet-50 by Keras 2, one number in each variable."""
    file = read(unpacked(f"keras{version}_resnet50.weights.h5"))
    facts = (file.format, file.depth, file.bn_eps, file.left_out)
    assert facts == ("keras-weights-h5", 50, 1.001e-5, {})
    expected = {}
    for row in published_names():
        for leaf, ours in zip(("kernel", "bias"), LEAVES[:2], strict=True):
            expected[f"{row['tv_conv']}.{ours}"] = (row["keras_conv"], leaf)
        if row["tv_conv"] != "fc":
            for leaf, ours in zip(BN, LEAVES, strict=True):
                expected[f"{row['tv_bn']}.{ours}"] = (row["keras_bn"], leaf)
    assert set(file.arrays) == set(expected)
    for name, (layer, leaf) in expected.items():
        array = file.arrays[name]
        np.testing.assert_array_equal(array, constants(layer, leaf, array.shape), err_msg=name)


Shapes = dict[str, dict[str, tuple[int, ...]]]


def numbered_layers(depth: int, width: int, model: str) -> tuple[Shapes, dict[str, str]]:
    """The shapes of a whole network and its names, written down as Keras' own code goes."""
    shapes: Shapes = {}
    expected: dict[str, str] = {}
    counter = 0

    def add(name: str, size: int, c: int, k: int) -> None:
        nonlocal counter
        number = f"_{counter}" if counter else ""
        shapes[f"{model}conv2d{number}"] = {"0": (size, size, c, k), "1": (k,)}
        shapes[f"{model}batch_normalization{number}"] = {str(i): (k,) for i in range(4)}
        expected[f"{model}conv2d{number}"] = f"{name}_conv"
        expected[f"{model}batch_normalization{number}"] = f"{name}_bn"
        counter += 1

    add("conv1", 7, 3, width)
    c = width
    for stage, blocks in enumerate(names.BLOCKS[depth]):
        k = width * 2**stage
        for block in range(blocks):
            name = f"conv{stage + 2}_block{block + 1}"
            add(f"{name}_1", 1, c, k)
            add(f"{name}_2", 3, k, k)
            if block == 0:
                add(f"{name}_0", 1, c, 4 * k)
            add(f"{name}_3", 1, k, 4 * k)
            c = 4 * k
    return shapes, expected


def as_arrays(shapes: Shapes) -> dict[str, dict[str, np.ndarray]]:
    zero = np.float32(0)
    return {p: {k: np.broadcast_to(zero, s) for k, s in t.items()} for p, t in shapes.items()}


DEPTHS = st.sampled_from(names.BOTTLENECK_DEPTHS)
MODELS = st.sampled_from(["layers/", "layers/functional/layers/", "layers/functional_2/layers/"])


@given(DEPTHS, st.integers(1, 64), MODELS, st.randoms())
def test_order_of_layers(depth: int, width: int, model: str, random: Any) -> None:
    shapes, expected = numbered_layers(depth, width, model)
    shapes |= {"layers/dense": {"0": (5, 6), "1": (6,)}, "layers/random_flip": {"0": (2,)}}
    shuffled = dict(random.sample(sorted(shapes.items()), len(shapes)))
    assert find_names(as_arrays(shuffled)) == expected
    layer = random.choice(sorted(expected))
    wrong = dict(shapes[layer])
    key = random.choice(sorted(wrong))
    wrong[key] = (*wrong[key][:-1], wrong[key][-1] + 1)
    with pytest.raises(ValueError, match="has not the shapes of"):
        find_names(as_arrays(shapes | {layer: wrong}))


@given(DEPTHS, st.sampled_from(["a layer", "two models", "a shortcut first"]))
def test_order_of_another_network(depth: int, what: str) -> None:
    shapes, _ = numbered_layers(depth, 2, "layers/")
    if what == "a layer":
        del shapes["layers/conv2d_7"]
    elif what == "two models":
        shapes |= numbered_layers(depth, 2, "layers/functional/layers/")[0]
    else:
        second = "layers/conv2d_11", "layers/conv2d_13"  # positions 1 and 0 of the second stage
        shapes |= dict(zip(second, [shapes[second[1]], shapes[second[0]]], strict=True))
    with pytest.raises(ValueError, match=r"has not the shapes of|of its models have"):
        find_names(as_arrays(shapes))


@given(st.dictionaries(st.integers(0, 300), st.none(), min_size=1, max_size=9))
def test_numbers_with_gaps(numbers: dict[int, None]) -> None:
    """Keras 2.12 counted a layer with variables twice."""
    old = "_layer_checkpoint_dependencies"
    inner = f"{old}/functional_3/{old}"
    paths = [f"{inner}/conv2d_{n}" if n else f"{inner}/conv2d" for n in numbers]
    current = current_paths([*paths, f"{old}/functional/{old}/dense_2"])
    there = sorted(numbers)
    for path, origin in current.items():
        if "conv2d" in origin:
            number = int(origin.removeprefix(f"{inner}/conv2d").removeprefix("_") or 0)
            rank = there.index(number)
            assert path == "layers/functional_1/layers/conv2d" + (f"_{rank}" if rank else "")
        else:
            assert path == "layers/functional/layers/dense"
    assert current_paths(["layers/conv2d_4", "layers/a_b"]) == {
        "layers/conv2d_4": "layers/conv2d_4",
        "layers/a_b": "layers/a_b",
    }


# --- .keras --------------------------------------------------------------------------------------


def test_paths_of_described_layers() -> None:
    def layer(class_name: str, name: str, **arguments: Any) -> dict[str, Any]:
        return {"class_name": class_name, "config": {"name": name, **arguments}}

    inner = layer("Functional", "trunk", layers=[layer("Conv2D", "c"), layer("Conv2D", "d")])
    members = [layer("Conv2D", "a"), inner, layer("BatchNormalization", "b"), layer("Conv2D", "e")]
    model = layer("Sequential", "all", layers=members)
    assert {found.path: found.name for found in read_layers(json.dumps(model).encode())} == {
        "layers/conv2d": "a",
        "layers/functional": "trunk",
        "layers/functional/layers/conv2d": "c",
        "layers/functional/layers/conv2d_1": "d",
        "layers/batch_normalization": "b",
        "layers/conv2d_1": "e",
    }


@pytest.fixture(scope="module")
def entries(unpacked: Callable[[str], Path]) -> dict[str, bytes]:
    with zipfile.ZipFile(unpacked("keras3_top.keras")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def change_layers(entries: dict[str, bytes], change: Callable[[dict[str, Any]], Any]) -> bytes:
    config = json.loads(entries["config.json"])
    for layer in config["config"]["layers"]:
        change(layer["config"])
    return json.dumps(config).encode()


def set_epsilon(arguments: dict[str, Any], epsilon: object, names: str = "") -> None:
    if "epsilon" in arguments and names in arguments["name"]:
        arguments["epsilon"] = epsilon


def test_packed_again(tmp_path: Path, entries: dict[str, bytes]) -> None:
    file = read(pack(tmp_path / "a.zip", entries, zipfile.ZIP_DEFLATED))
    check_trunk(file)
    assert file.format == "keras-zip"


def test_epsilon_as_described(tmp_path: Path, entries: dict[str, bytes]) -> None:
    changed = change_layers(entries, lambda layer: set_epsilon(layer, 2e-4))
    file = read(pack(tmp_path / "a.keras", entries | {"config.json": changed}))
    assert file.bn_eps == 2e-4


def test_epsilon_of_a_whole_legacy_model(tmp_path: Path) -> None:
    path = broken(tmp_path, "keras_legacy_nested_frozen.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("1.001e-05", "0.003")
    assert read(path).bn_eps == 0.003


NESTED = b'{"class_name": "A", "config": {"layers": [' * 5000
DAMAGED = "its description of the model is damaged"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda layer: set_epsilon(layer, 0.5, "conv3_block1_2_bn"), "different epsilons: 0.5, 1."),
        (lambda layer: set_epsilon(layer, "small"), f"{DAMAGED} (bn_eps is no number)"),
        (lambda layer: set_epsilon(layer, -1), f"{DAMAGED} (bn_eps is not between 0 and 1)"),
        (lambda layer: layer.update(strides=[1, 1]), "'conv3_block1_1_conv' does not halve"),
        (b"{", DAMAGED),
        (b"\xff", DAMAGED),
        (b"[1, 2]", f"{DAMAGED} (no description of a model)"),
        (b'{"config": {"layers": [3]}}', f"{DAMAGED} (a layer without class"),
        (b"[" * 100_000, f"{DAMAGED} ("),
        (NESTED, DAMAGED),
        (b" " * 2_000_000, "'config.json' is longer than any description"),
    ],
)
def test_wrong_description(
    tmp_path: Path, entries: dict[str, bytes], config: Any, message: str
) -> None:
    changed = config if isinstance(config, bytes) else change_layers(entries, config)
    path = pack(tmp_path / "a.keras", entries | {"config.json": changed})
    assert message in message_of(path)


def test_weights_in_a_pickle(tmp_path: Path, entries: dict[str, bytes]) -> None:
    entries = {"config.json": entries["config.json"], "model.weights.npz": b"PK"}
    assert "a pickle of Python objects" in message_of(pack(tmp_path / "a.keras", entries))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entry_twice(tmp_path: Path, entries: dict[str, bytes]) -> None:
    path = pack(tmp_path / "a.keras", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", entries["config.json"])
    assert "'config.json' is there 2 times" in message_of(path)


def test_weights_that_inflate(tmp_path: Path, entries: dict[str, bytes]) -> None:
    entries = entries | {"model.weights.h5": entries["model.weights.h5"] + bytes(5_000_000)}
    path = pack(tmp_path / "a.keras", entries, zipfile.ZIP_DEFLATED)
    assert "announces" in message_of(path) or "declares" in message_of(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_weights(tmp_path: Path, entries: dict[str, bytes], method: int) -> None:
    path = pack(tmp_path / "a.keras", entries, method)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "a .keras file, not readable" in message_of(path)


def test_weights_that_are_none(tmp_path: Path, entries: dict[str, bytes]) -> None:
    path = pack(tmp_path / "a.keras", entries | {"model.weights.h5": b"no HDF5"})
    assert "not a readable HDF5 file" in message_of(path)


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9, 0.9999])
def test_keras_cut_short(tmp_path: Path, entries: dict[str, bytes], keep: float) -> None:
    path = pack(tmp_path / "a.keras", entries)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    message_of(path)


def test_keras_entry_that_ends_behind_the_file(tmp_path: Path, entries: dict[str, bytes]) -> None:
    weights = entries["model.weights.h5"]
    path = pack(tmp_path / "a.keras", entries)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    entry = data.index(b"PK\x01\x02", data.index(b"config.json", directory))
    while data[entry + 46 : entry + 62] != b"model.weights.h5":
        entry = data.index(b"PK\x01\x02", entry + 1)
    longer = len(data) - data.index(weights[:64]) + 1
    struct.pack_into("<II", data, entry + 20, longer, longer)
    path.write_bytes(data)
    assert message_of(path).endswith("a .keras file, not readable: cut short")


# --- names that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listed", [["conv1_conv", "conv1_conv"], ["a\nb"], ["x" * 2000], "conv1_conv"]
)
def test_impossible_names(tmp_path: Path, listed: list[str] | str) -> None:
    path = broken(tmp_path)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = listed
    assert "layer_names" in message_of(path)
