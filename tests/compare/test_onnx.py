"""ONNX graphs written here, run by onnxruntime, beside resnet_np and torchvision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from parity import channels_first, channels_last, relative_error, torch_layout
from random_networks import noise, random_network
from torch_bridge import copy_to_torch, images_to_torch
from torch_resnet import TorchResNet
from torchvision_shim import torchvision

from resnet_np import Tensor, no_grad
from resnet_np.data.images import load_image
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import TORCHVISION, WeightFile, read
from resnet_np.weights.formats.onnx_writing import write_onnx

TOLERANCE = 1e-5
FOLDS = pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])


def session(folder: Path, file: WeightFile, fold: bool = False) -> onnxruntime.InferenceSession:
    write_onnx(str(folder / "a.onnx"), file, fold)
    return onnxruntime.InferenceSession(folder / "a.onnx", providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """images [N, H, W, 3]; what comes out of the graph, in our layout."""
    (output,) = session.run(None, {"images": channels_first(images)})
    return channels_last(output)


def ours(model: ResNet, images: np.ndarray) -> np.ndarray:
    with no_grad():
        return model(Tensor(images)).numpy()


@FOLDS
@pytest.mark.parametrize(
    ("depth", "variant", "options"),
    [
        (18, "v1.5", {}),
        (34, "v1.5", {}),
        (50, "v1.5", {}),
        (50, "v1", {"conv_bias": True, "bn_eps": 1.001e-5}),
        (101, "v1.5", {}),
        (152, "v1", {"bn_eps": 1e-3}),
    ],
)
def test_same_logits(
    tmp_path: Path, depth: int, variant: Any, options: dict[str, Any], fold: bool
) -> None:
    """Any batch and any size of images with one graph."""
    model, file = random_network(depth, variant, **options)
    graph = session(tmp_path, file, fold)
    for shape in ((1, 224, 224), (4, 64, 97)):
        images = noise(model.contract, *shape)
        assert relative_error(run(graph, images), ours(model, images)) <= TOLERANCE


@FOLDS
@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_logits_of_torchvision(tmp_path: Path, depth: int, fold: bool) -> None:
    model, file = random_network(depth, "v1.5")
    twin = getattr(torchvision.models, f"resnet{depth}")(num_classes=model.config["num_classes"])
    assert_logits_of(twin, model, session(tmp_path, file, fold))


@FOLDS
def test_logits_of_v1_in_torch(tmp_path: Path, fold: bool) -> None:
    model, file = random_network(50, "v1", conv_bias=True, bn_eps=1e-3)
    twin = TorchResNet(50, "v1", model.config["num_classes"], conv_bias=True, bn_eps=1e-3)
    assert_logits_of(twin, model, session(tmp_path, file, fold))


def assert_logits_of(
    twin: torch.nn.Module, model: ResNet, graph: onnxruntime.InferenceSession
) -> None:
    copy_to_torch(model, twin)
    twin.eval()
    for shape in ((1, 224, 224), (4, 96, 65)):
        images = noise(model.contract, *shape)
        with torch.no_grad():
            theirs = twin(images_to_torch(images)).numpy()
        assert relative_error(run(graph, images), theirs) <= TOLERANCE


@FOLDS
@pytest.mark.parametrize(
    "options",
    [
        {"head": (12, 5), "dropout": 0.5},
        {"pooling": "max"},
        {"include_top": False},
        {"include_top": False, "pooling": None},
    ],
    ids=["hidden", "max", "features", "map"],
)
def test_other_tops(tmp_path: Path, options: dict[str, Any], fold: bool) -> None:
    model, file = random_network(18, "v1.5", width=0.25, **options)
    images = noise(model.contract, 2, 64, 64)
    output = run(session(tmp_path, file, fold), images)
    assert relative_error(output, ours(model, images)) <= TOLERANCE


def test_tensors_are_bit_equal(tmp_path: Path) -> None:
    _, file = random_network(50, "v1.5")
    write_onnx(str(tmp_path / "a.onnx"), file)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert set(tensors) == set(file.arrays)
    for name, array in file.arrays.items():
        assert tensors[name].tobytes() == torch_layout(array).tobytes(), name


@FOLDS
def test_published_weights(tmp_path: Path, test_data: Path, fold: bool) -> None:
    """A real ImageNet ResNet-50: the same logits, and so the same classes, on photographs."""
    file = read(test_data / "weights" / "resnet50_pqf_large_decoded.npz")
    paths = sorted((test_data / "images" / "imagenet-100").glob("*.JPEG"))[:8]
    images = TORCHVISION.normalise(np.stack([load_image(p, TORCHVISION, 224) for p in paths]))
    model = ResNet(50)
    load_weights(model, file)
    expected = ours(model.eval(), images)
    output = run(session(tmp_path, replace(file, variant="v1.5"), fold), images)
    assert relative_error(output, expected) <= TOLERANCE
    assert (output.argmax(axis=1) == expected.argmax(axis=1)).all()
