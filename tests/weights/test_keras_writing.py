"""`.weights.h5` as Keras 3 lays it out, from a narrow ResNet-50."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import our_layout, published_names, torchvision_arrays, weight_file

from resnet_np.errors import UserError
from resnet_np.weights import KERAS_CAFFE, TORCHVISION, WeightFile, read
from resnet_np.weights.formats.keras_writing import layers_in_order, write_keras
from resnet_np.weights.writing import write

GOLDEN = Path(__file__).parents[1] / "golden" / "keras3_top.weights.h5"


def narrow(
    blocks: tuple[int, ...] = (3, 4, 6, 3), bias: bool = True, **facts: object
) -> WeightFile:
    arrays = {n: our_layout(a) for n, a in torchvision_arrays(blocks, bias).items()}
    defaults = {"variant": "v1", "bn_eps": 1.001e-5, "contract": KERAS_CAFFE}
    return weight_file(arrays, **defaults | facts)


def without_head(file: WeightFile) -> WeightFile:
    return replace(file, arrays={n: a for n, a in file.arrays.items() if not n.startswith("fc")})


def names_in(path: Path) -> dict[str, str]:
    """`vars` groups of a file and the layers they belong to: path -> name."""
    found: dict[str, str] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name.endswith("vars"):
            found[name] = str(item.attrs["name"])

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_order_of_layers() -> None:
    """One block in each stage, as Keras itself saved it."""
    places: dict[str, list[str]] = {}
    for kind, name in layers_in_order((1, 1, 1, 1), has_head=True):
        places.setdefault(kind, []).append(name)
    expected = {
        f"layers/{kind}{f'_{i}' if i else ''}/vars": name
        for kind, layers in places.items()
        for i, name in enumerate(layers)
    }
    golden = names_in(GOLDEN)
    # The input and the model carry a running number of the process that made them.
    for path in ("vars", "layers/input_layer/vars"):
        golden.pop(path)
        expected.pop(path, None)
    assert golden == expected


def test_every_tensor(tmp_path: Path) -> None:
    """Each lies in the group of the layer that the published table names for it."""
    file = narrow()
    path = tmp_path / "a.weights.h5"
    write_keras(str(path), file)
    expected: dict[str, list[np.ndarray]] = {}
    for row in published_names():
        for layer, module, leaves in (
            (row["keras_conv"], row["tv_conv"], ("weight", "bias")),
            (row["keras_bn"], row["tv_bn"], ("weight", "bias", "running_mean", "running_var")),
        ):
            if layer != "-":
                expected[layer] = [file.arrays[f"{module}.{leaf}"] for leaf in leaves]
    layers = names_in(path)
    assert set(expected) <= set(layers.values())
    assert layers["layers/conv2d/vars"] == "conv1_conv"
    assert layers["layers/conv2d_4/vars"] == "conv2_block1_3_conv"  # 1, 2, and 0 in front of it
    with h5py.File(path) as h5:
        for group, layer in layers.items():
            tensors = expected.get(layer, [])
            assert set(h5[group]) == {str(i) for i in range(len(tensors))}
            for i, array in enumerate(tensors):
                np.testing.assert_array_equal(h5[group][str(i)][()], array, err_msg=layer)


@pytest.mark.parametrize("head", [True, False])
def test_read_back(tmp_path: Path, head: bool) -> None:
    file = narrow(contract=TORCHVISION, classes=("cat", "däck", "owl"))
    file = file if head else without_head(file)
    write_keras(str(tmp_path / "a.weights.h5"), file)
    back = read(tmp_path / "a.weights.h5")
    assert set(back.arrays) == set(file.arrays)
    for name, array in file.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array, err_msg=name)
    for fact in ("variant", "bn_eps", "contract", "classes", "depth", "conv_bias"):
        assert getattr(back, fact) == getattr(file, fact), fact
    assert os.listdir(tmp_path) == ["a.weights.h5"]


def test_long_class_names(tmp_path: Path) -> None:
    """More text than an attribute of HDF5 holds unless it is of variable length."""
    classes = ("cat" * 100_000, "dog", "owl")
    write_keras(str(tmp_path / "a.weights.h5"), narrow(classes=classes))
    assert read(tmp_path / "a.weights.h5").classes == classes


def test_chosen_by_the_ending(tmp_path: Path) -> None:
    write(tmp_path / "a.weights.h5", narrow())
    assert "layers/conv2d_52/vars" in names_in(tmp_path / "a.weights.h5")


def test_adapted_to_keras(tmp_path: Path) -> None:
    """Keras has one epsilon, and biases everywhere."""
    file = narrow(bias=False, bn_eps=1e-3)
    notes = write_keras(str(tmp_path / "a.weights.h5"), file)
    assert ["epsilon" in notes[0], "bias" in notes[1]] == [True, True]
    back = read(tmp_path / "a.weights.h5")
    assert back.bn_eps == 1.001e-5
    assert not back.arrays["layer2.0.conv1.bias"].any()
    np.testing.assert_allclose(
        back.arrays["bn1.running_var"] + 1.001e-5, file.arrays["bn1.running_var"] + 1e-3, rtol=1e-6
    )


def test_says_what_keras_does_not_know(tmp_path: Path) -> None:
    path = str(tmp_path / "a.weights.h5")
    assert any("begins with 2 channels" in note for note in write_keras(path, narrow()))
    assert not any("preprocess_input" in note for note in write_keras(path, narrow()))
    notes = write_keras(path, narrow(contract=TORCHVISION))
    assert any("preprocess_input" in n and "(0.485, 0.456, 0.406)" in n for n in notes)


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_keras(str(tmp_path / name), narrow())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (narrow(variant="v1.5"), r"Keras has v1 only, and they are for v1\.5; \.onnx has both"),
        (narrow(variant=None), "do not say whether they are for v1 or v1.5"),
        (narrow((2, 2, 2, 2)), "not other blocks; .onnx has all"),
        (replace(narrow(), depth=18), "not ResNet-18; .onnx has all"),
        (narrow(record={"model": {"pooling": "max"}}), "for the maximum over the image"),
        (narrow(bn_eps=None), "does not say which epsilon"),
    ],
    ids=["v1.5", "unknown", "blocks", "18", "maximum", "epsilon"],
)
def test_not_in_keras(tmp_path: Path, file: WeightFile, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        write_keras(str(tmp_path / "a.weights.h5"), file)
    assert not os.listdir(tmp_path)


def test_hidden_layers(tmp_path: Path) -> None:
    arrays = narrow().arrays
    head = {"fc.0.weight": arrays.pop("fc.weight"), "fc.0.bias": arrays.pop("fc.bias")}
    file = replace(narrow(), arrays=arrays | head)
    with pytest.raises(UserError, match=r"Keras' network has no fc\.0\.bias, fc\.0\.weight;"):
        write_keras(str(tmp_path / "a.weights.h5"), file)


@pytest.mark.parametrize("name", ["layer3.1.conv2.weight", "layer1.0.bn3.bias", "fc.bias"])
def test_incomplete(tmp_path: Path, name: str) -> None:
    file = narrow()
    del file.arrays[name]
    with pytest.raises(UserError, match=rf"cannot hold the weights of a\.npz: they lack {name}$"):
        write_keras(str(tmp_path / "a.weights.h5"), file)
