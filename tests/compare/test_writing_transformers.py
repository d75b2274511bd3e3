"""Folders written here, loaded by Hugging Face's transformers with from_pretrained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision_shim  # noqa: F401  (first: transformers imports torchvision)

# isort: split
from parity import channels_first, relative_error
from PIL import Image
from random_networks import CLASSES, noise, random_network
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from resnet_np import Tensor, no_grad
from resnet_np.data.images import fit
from resnet_np.models import ResNet
from resnet_np.weights import KERAS_CAFFE, PLAIN, TORCHVISION, Contract, read
from resnet_np.weights.contract import HUGGINGFACE, TORCHVISION_V2
from resnet_np.weights.writing import write

TOLERANCE = 1e-5


def loaded(path: Path, of: Any = AutoModelForImageClassification) -> torch.nn.Module:
    """Their network, after a look at whether every tensor had its place."""
    network, info = of.from_pretrained(path, output_loading_info=True)
    assert not any(info.values()), info
    return network.eval()


def logits(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(channels_first(images))).logits.numpy()


def our_logits(model: ResNet, images: np.ndarray) -> np.ndarray:
    with no_grad():
        return model(Tensor(images)).numpy()


@pytest.mark.parametrize(
    ("depth", "variant", "options"),
    [
        (18, "v1.5", {}),
        (34, "v1.5", {"width": 0.25}),
        (50, "v1.5", {}),
        (50, "v1", {"width": 0.5}),
        (101, "v1.5", {"width": 0.25}),
        (152, "v1", {"width": 0.25}),
    ],
)
def test_same_logits(tmp_path: Path, depth: int, variant: str, options: dict) -> None:
    model, file = random_network(depth, variant, **options)
    file = replace(file, contract=HUGGINGFACE)
    assert write(tmp_path / "a", file) == []
    network, images = loaded(tmp_path / "a"), noise(model.contract, 2, 64, 64)
    assert relative_error(our_logits(model, images), logits(network, images)) <= TOLERANCE
    assert network.config.id2label == dict(enumerate(file.classes or ()))
    assert network.config.label2id == {f"class {i}": i for i in range(CLASSES)}
    # What the library saves of it is read here.
    network.save_pretrained(tmp_path / "b")
    AutoImageProcessor.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    found = read(tmp_path / "b")
    for name, array in file.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    facts = (found.variant, found.bn_eps, found.contract, found.classes, found.depth)
    assert facts == (variant, 1e-5, HUGGINGFACE, file.classes, depth)


def test_same_logits_after_adapting(tmp_path: Path) -> None:
    """Biases and Keras' epsilon have no place there, nor have images in BGR."""
    model, file = random_network(50, "v1", width=0.5, conv_bias=True, bn_eps=1.001e-5)
    notes = write(tmp_path / "a", replace(file, contract=KERAS_CAFFE))
    assert len(notes) == 3
    images = noise(model.contract, 2, 64, 64)
    theirs = logits(loaded(tmp_path / "a"), np.ascontiguousarray(images[..., ::-1]))
    assert relative_error(our_logits(model, images), theirs) <= TOLERANCE


def test_features(tmp_path: Path) -> None:
    model, file = random_network(50, "v1.5", width=0.5, include_top=False)
    write(tmp_path / "a", replace(file, classes=None))
    images = noise(model.contract, 2, 64, 64)
    with torch.no_grad():
        output = loaded(tmp_path / "a", AutoModel)(torch.from_numpy(channels_first(images)))
    theirs = output.pooler_output.numpy().reshape(2, -1)
    assert relative_error(our_logits(model, images), theirs) <= TOLERANCE


def test_double_precision(tmp_path: Path) -> None:
    _, file = random_network(18, "v1.5", width=0.25)
    file = replace(file, arrays={n: a.astype(np.float64) for n, a in file.arrays.items()})
    write(tmp_path / "a", file)
    assert loaded(tmp_path / "a").dtype == torch.float64


@pytest.mark.parametrize("classes", [None, ("cat", "dog", "cat", "d", "e", "f", "g")])
def test_classes_without_names_or_with_one_twice(tmp_path: Path, classes: Any) -> None:
    _, file = random_network(18, "v1.5", width=0.25)
    write(tmp_path / "a", replace(file, classes=classes))
    network = loaded(tmp_path / "a")
    assert len(network.config.id2label) == CLASSES
    network.save_pretrained(tmp_path / "b")
    assert read(tmp_path / "b").classes == classes


CONTRACTS = {
    "torchvision": TORCHVISION,
    "torchvision V2": TORCHVISION_V2,
    "Hugging Face": HUGGINGFACE,
    "Keras": KERAS_CAFFE,
    "plain": PLAIN,
    "large": TORCHVISION.with_size(448),
    "stretched": replace(HUGGINGFACE, fit="stretch"),
    "nearest": replace(TORCHVISION, interpolation="nearest"),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_same_input(tmp_path: Path, name: str) -> None:
    """One 8-bit step apart at most. Sides are such that the corner is on a whole pixel."""
    contract: Contract = CONTRACTS[name]
    _, file = random_network(18, "v1.5", width=0.25)
    write(tmp_path / "a", replace(file, contract=contract))
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    image = small.resize((480, 480), Image.Resampling.BICUBIC)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "a")
    theirs = processor(image, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = contract.normalise(fit(image, contract, contract.crop)[None])
    if contract.color == "BGR":
        ours = ours[..., ::-1]
    assert ours.shape == theirs.shape
    step = contract.scale / min(contract.std)
    assert np.abs(ours - theirs).max() <= 1.1 * step
