"""ONNX graphs of small networks, checked by the package `onnx` and run by its evaluator."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tiny import our_layout, torchvision_arrays, weight_file

from resnet_np import Tensor, no_grad
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.weights import Contract, WeightFile
from resnet_np.weights.formats.onnx_graph import Graph, fold_batch_norms
from resnet_np.weights.formats.onnx_writing import OPSET, write_onnx
from resnet_np.weights.writing import write

NETWORKS: dict[str, dict[str, Any]] = {
    "18": {"depth": 18},
    "34": {"depth": 34, "conv_bias": True},
    "50 v1.5": {"depth": 50},
    "50 v1": {"depth": 50, "variant": "v1", "conv_bias": True, "bn_eps": 0.1},
    "hidden": {"depth": 18, "head": (6, 4), "dropout": 0.5},
    "dropout": {"depth": 18, "dropout": 0.5},
    "max": {"depth": 18, "pooling": "max"},
    "features": {"depth": 18, "include_top": False},
    "map": {"depth": 50, "include_top": False, "pooling": None},
}


def network(options: dict[str, Any], seed: int = 0) -> tuple[ResNet, WeightFile]:
    """A narrow network in which every tensor has its own numbers, and the file of a checkpoint."""
    model = ResNet(**{"width": 1 / 16, "num_classes": 3} | options)
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if array.ndim > 1:
            array[:] = rng.normal(size=array.shape) * np.sqrt(2 / np.prod(array.shape[:-1]))
        else:
            low = 0.5 if name.endswith("running_var") else -0.3
            array[:] = rng.uniform(low, 1, array.shape)
    model.eval()
    file = weight_file(
        {name: array.copy() for name, array in model.state_dict().items()},
        variant=model.config["variant"],
        bn_eps=model.config["bn_eps"],
        format="checkpoint",
        record={"format": 1, "model": model.config},
    )
    return model, file


def small(blocks: tuple[int, ...] = (1, 1, 1, 1), **facts: Any) -> WeightFile:
    arrays = {n: our_layout(a) for n, a in torchvision_arrays(blocks).items()}
    return weight_file(arrays, **facts)


def written(folder: Path, file: WeightFile, fold: bool = False) -> onnx.ModelProto:
    write_onnx(str(folder / "a.onnx"), file, fold)
    return onnx.load(folder / "a.onnx")


def tensors_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_outputs(tmp_path: Path, name: str, fold: bool) -> None:
    model, file = network(NETWORKS[name])
    images = np.random.default_rng(1).normal(size=(2, 40, 33, 3)).astype(np.float32)
    with no_grad():
        expected = model(Tensor(images)).numpy()
    graph = written(tmp_path, file, fold)
    (output,) = ReferenceEvaluator(graph).run(None, {"images": images.transpose(0, 3, 1, 2)})
    if output.ndim == 4:
        output = output.transpose(0, 2, 3, 1)
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_valid_model(tmp_path: Path, name: str, fold: bool) -> None:
    _, file = network(NETWORKS[name])
    model = written(tmp_path, file, fold)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    channels = {v.name: len(v.type.tensor_type.shape.dim) for v in inferred.graph.value_info}
    assert {n.output[0] for n in model.graph.node[:-1]} <= set(channels)
    assert os.listdir(tmp_path) == ["a.onnx"]


def test_inputs_and_outputs(tmp_path: Path) -> None:
    def shape(value: onnx.ValueInfoProto) -> list[int | str]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    graph = written(tmp_path, small()).graph
    assert [(v.name, shape(v)) for v in graph.input] == [("images", ["N", 3, "H", "W"])]
    assert [(v.name, shape(v)) for v in graph.output] == [("logits", ["N", 3])]
    features = small()
    del features.arrays["fc.weight"], features.arrays["fc.bias"]
    graph = written(tmp_path, features).graph
    assert [(v.name, shape(v)) for v in graph.output] == [("features", ["N", 24])]
    graph = written(tmp_path, network(NETWORKS["map"])[1]).graph
    assert [(v.name, shape(v)) for v in graph.output] == [("features", ["N", 128, "P", "Q"])]


def test_what_belongs_to_the_weights(tmp_path: Path) -> None:
    contract = Contract(color="BGR", scale=1.0, mean=(1.5, 2, 3), std=(1, 1, 2), resize=232)
    model = written(tmp_path, small(contract=contract, classes=("cat", "däck", "owl")))
    assert [p.key for p in model.metadata_props] == ["resnet_np"]
    record = json.loads(model.metadata_props[0].value)
    assert Contract.from_record(record["contract"]) == contract
    assert record["classes"] == ["cat", "däck", "owl"]
    assert (record["variant"], record["bn_eps"]) == ("v1.5", 1e-5)
    text = model.graph.input[0].doc_string
    for part in ("BGR", "232 (bilinear, with antialiasing)", "* 1 - [1.5, 2, 3]", "[1, 1, 2]"):
        assert part in text
    assert "cat, däck, owl" in model.graph.output[0].doc_string
    assert (model.producer_name, model.doc_string) == ("resnet_np", "ResNet v1.5")
    assert written(tmp_path, network(NETWORKS["50 v1"])[1]).doc_string == "ResNet-50 v1"


def test_version(tmp_path: Path) -> None:
    model = written(tmp_path, small())
    (version,) = model.opset_import
    assert (version.domain, version.version) == ("", min(OPSET, onnx.defs.onnx_opset_version()))


def test_tensors_are_bit_equal_and_torchvisions(tmp_path: Path) -> None:
    arrays = torchvision_arrays(bias=True)
    file = weight_file({name: our_layout(a) for name, a in arrays.items()})
    tensors = tensors_of(written(tmp_path, file))
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert (tensors[name].shape, tensors[name].dtype) == (array.shape, np.float32), name
        assert tensors[name].tobytes() == array.tobytes(), name


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_onnx(str(tmp_path / name), small())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_by_hand() -> None:
    """The stem, and a block of each kind: what runs after what, and on what."""
    file = network({"depth": 18})[1]
    nodes = {node.name: node for node in Graph(file, fold=False).nodes}
    order = list(nodes)
    assert order[:4] == ["conv1", "bn1", "relu", "maxpool"]
    start, end = order.index("layer2.0.conv1"), order.index("layer2.0")
    assert [(n, nodes[n].kind, nodes[n].inputs[0]) for n in order[start : end + 1]] == [
        ("layer2.0.conv1", "Conv", "layer1.1"),
        ("layer2.0.bn1", "BatchNormalization", "layer2.0.conv1"),
        ("layer2.0.conv1.relu", "Relu", "layer2.0.bn1"),
        ("layer2.0.conv2", "Conv", "layer2.0.conv1.relu"),
        ("layer2.0.bn2", "BatchNormalization", "layer2.0.conv2"),
        ("layer2.0.downsample.0", "Conv", "layer1.1"),
        ("layer2.0.downsample.1", "BatchNormalization", "layer2.0.downsample.0"),
        ("layer2.0.add", "Add", "layer2.0.bn2"),
        ("layer2.0", "Relu", "layer2.0.add"),
    ]
    assert nodes["layer2.0.add"].inputs == ("layer2.0.bn2", "layer2.0.downsample.1")
    assert nodes["layer2.1.add"].inputs == ("layer2.1.bn2", "layer2.0")
    assert nodes["bn1"].inputs == (
        "conv1",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
    )
    assert order[-3:] == ["pool", "flatten", "fc"]


@pytest.mark.parametrize(("variant", "strided"), [("v1", "conv1"), ("v1.5", "conv2")])
def test_where_the_stride_is(variant: str, strided: str) -> None:
    nodes = Graph(small((1, 2, 1, 1), variant=variant), fold=False).nodes
    with_stride = [n.name for n in nodes if n.attributes.get("strides") == [2, 2]]
    assert with_stride == [
        "conv1",
        "maxpool",
        *(f"layer{s}.0.{conv}" for s in (2, 3, 4) for conv in (strided, "downsample.0")),
    ]


def test_folding_by_hand() -> None:
    """gamma 3, beta 1, mean 2, variance 3.75, epsilon 0.25, bias 4: times 1.5, plus 4."""
    arrays = {
        "conv1.weight": np.full((1, 1, 1, 1), 2, np.float32),
        "conv1.bias": np.array([4], np.float32),
        "bn1.weight": np.array([3], np.float32),
        "bn1.bias": np.array([1], np.float32),
        "bn1.running_mean": np.array([2], np.float32),
        "bn1.running_var": np.array([3.75], np.float32),
        "fc.bias": np.array([7], np.float32),
    }
    folded = fold_batch_norms(arrays, 0.25)
    assert {name: array.item() for name, array in folded.items()} == {
        "conv1.weight": 3,
        "conv1.bias": 4,
        "fc.bias": 7,
    }
    del arrays["conv1.bias"]
    assert fold_batch_norms(arrays, 0.25)["conv1.bias"].item() == -2


def test_folded_has_no_batch_norm(tmp_path: Path) -> None:
    model = written(tmp_path, small(), fold=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not [name for name in tensors_of(model) if "bn" in name or "downsample.1" in name]


def test_chosen_by_the_ending(tmp_path: Path) -> None:
    for fold in (False, True):
        write(tmp_path / "a.onnx", small(), fold=fold)
        write_onnx(str(tmp_path / "b.onnx"), small(), fold=fold)
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(UserError, match=r"a\.npz: --fold-batch-norm is for \.onnx only$"):
        write(tmp_path / "a.npz", small(), fold=True)


def test_double_precision_is_rounded_and_said(tmp_path: Path) -> None:
    file = small()
    assert write_onnx(str(tmp_path / "a.onnx"), file) == []
    doubled = {name: array.astype(np.float64) for name, array in file.arrays.items()}
    (note,) = write_onnx(str(tmp_path / "b.onnx"), replace(file, arrays=doubled))
    assert note == f"{len(doubled)} of its tensors are float64 and were rounded to float32"
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_only_bottlenecks_have_a_variant(tmp_path: Path) -> None:
    _, file = network(NETWORKS["18"])
    written(tmp_path, replace(file, variant=None))
    with pytest.raises(UserError, match=r"^a\.npz: does not say whether .* \(--variant v1\.5\)$"):
        Graph(small(variant=None), fold=False)


def changed(file: WeightFile, change: dict[str, np.ndarray | None]) -> WeightFile:
    arrays = file.arrays | change
    return replace(file, arrays={name: a for name, a in arrays.items() if a is not None})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layer2.0.bn2.bias": None}, r"it lacks layer2\.0\.bn2\.bias$"),
        ({"layer2.0.conv2.weight": None}, r"it lacks layer2\.0\.conv2\.weight$"),
        ({"layer1.0.downsample.0.weight": None}, r"it lacks layer1\.0\.downsample\.0\.weight"),
        ({"layer3.0.downsample.0.weight": None}, r"it lacks layer3\.0\.downsample\.0\.weight$"),
        ({"layer1.2.bn1.bias": np.ones(3)}, r"it lacks layer1\.1\.bn1\..*no place for layer1\.2"),
        ({"fc.3.weight": np.ones((3, 2))}, r"it lacks fc\.0\.weight"),
        (
            {"conv1.weight": np.ones((3, 3, 3, 2))},
            r"conv1\.weight is \[3, 3, 3, 2\] instead of \[7",
        ),
        ({"fc.weight": np.ones((23, 3))}, r"fc\.weight is \[23, 3\] instead of \[24, 3\]$"),
        (
            {"layer4.0.conv3.weight": np.ones((1, 1, 3, 24))},
            r"\[1, 1, 3, 24\] instead of .*6, 24\]",
        ),
    ],
)
def test_not_one_network(change: dict[str, np.ndarray | None], expected: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.npz: not one whole ResNet: .*{expected}"):
        Graph(changed(small(), change), fold=False)


def test_unknown_epsilon() -> None:
    with pytest.raises(UserError, match=r"^a\.npz: does not say which epsilon"):
        Graph(small(bn_eps=None), fold=False)


def test_too_large_for_single_precision(tmp_path: Path) -> None:
    file = changed(small(), {"fc.bias": np.array([1e300, 0, 0])})
    with pytest.raises(UserError, match=r"^a\.npz: numbers too large for float32 in fc\.bias$"):
        write_onnx(str(tmp_path / "a.onnx"), file)
    assert not os.listdir(tmp_path)


def test_damaged_record() -> None:
    with pytest.raises(UserError, match=r"its record is damaged \(there is no pooling 'sum'\)$"):
        Graph(small(record={"model": {"pooling": "sum"}}), fold=False)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'resnet_np\[onnx\]'$"):
        write_onnx(str(tmp_path / "a.onnx"), small())


def test_class_names_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    model = written(tmp_path, small(classes=("cat", "d\udcff", "owl")))
    assert model.graph.output[0].doc_string.endswith(r"cat, d\udcff, owl")
    assert json.loads(model.metadata_props[0].value)["classes"] == ["cat", "d\udcff", "owl"]
