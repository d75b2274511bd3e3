"""The table of published weights says what the installed frameworks say of the same files."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from pathlib import Path
from typing import Any

import pytest
import torch
from keras.src.applications import imagenet_utils, resnet
from keras.src.layers import BatchNormalization
from torchvision_shim import torchvision

from resnet_np.weights import cache, registry
from resnet_np.weights.registry import Published

ENTRIES = [registry.find(name) for name in registry.names()]
MIB = 1 << 20


def timm_config(name: str) -> Any:
    import timm  # it imports torchvision, which works once the shim has

    return timm.get_pretrained_cfg(name)


def of(part: str) -> list[Published]:
    """The entries whose address has this part."""
    found = [entry for entry in ENTRIES if part in entry.address]
    assert found
    return found


# torchvision no longer knows the tar.
TORCHVISION = [e for e in of("download.pytorch.org") if e.name != "imagenet-v1-tar"]


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_torchvision(entry: Published) -> None:
    kind = torchvision.models.get_model_weights(f"resnet{entry.depth}")
    weights = next(w for w in kind if w.url == entry.address)
    metrics = weights.meta["_metrics"]["ImageNet-1K"]
    assert (entry.top1, entry.top5) == (metrics["acc@1"], metrics["acc@5"])
    assert entry.address.endswith(f"-{entry.sha256}.pth")
    assert entry.between is not None
    least, most = (size / MIB for size in entry.between)
    assert least < weights.meta["_file_size"] < most < least + 0.0011
    transform, contract = weights.transforms(), entry.contract
    assert contract is not None
    assert (contract.resize, contract.crop) == (transform.resize_size[0], transform.crop_size[0])
    assert (list(contract.mean), list(contract.std)) == (transform.mean, transform.std)
    assert transform.interpolation.value == contract.interpolation
    assert transform.antialias == contract.antialias
    assert entry.bn_eps == torch.nn.BatchNorm2d(1).eps


@pytest.mark.parametrize("entry", of("keras-applications"), ids=lambda entry: entry.name)
def test_keras(entry: Published) -> None:
    name = f"resnet{entry.depth}"
    top, notop = resnet.WEIGHTS_HASHES[name]
    assert entry.md5 == (top if entry.classes else notop)
    assert entry.address == (
        f"{resnet.BASE_WEIGHTS_PATH}{name}_weights_tf_dim_ordering_tf_kernels"
        f"{'' if entry.classes else '_notop'}.h5"
    )


def test_older_keras() -> None:
    assert registry.find("keras-1").bn_eps == BatchNormalization().epsilon


def test_timm() -> None:
    entry = registry.find("timm/resnet50.a1_in1k")
    config = timm_config("resnet50.a1_in1k")
    assert config is not None and entry.contract is not None
    assert int(config.input_size[1] / config.crop_pct) == entry.contract.resize
    assert config.input_size[1] == entry.contract.crop
    assert config.interpolation == entry.contract.interpolation
    assert (config.mean, config.std) == (entry.contract.mean, entry.contract.std)


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_what_timm_says_of_torchvisions_files(entry: Published) -> None:
    config = timm_config(f"resnet{entry.depth}.{'tv2' if 'v2' in entry.name else 'tv'}_in1k")
    assert config.url == entry.address
    assert config.license == str(entry.licence).lower()


def test_class_names(test_data: Path) -> None:
    """The order of torchvision's; the two names that it makes longer stand for two classes."""
    entry = registry.find("imagenet-classes")
    assert entry.address == imagenet_utils.CLASS_INDEX_PATH
    path = test_data / "images" / "imagenet_class_index.json"
    assert entry.wrong(registry.hash_file(path)) is None
    ours = cache.read_names(path)
    theirs = torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"]
    for our, their in zip(ours, theirs, strict=True):
        plain = our.partition(" (")[0].replace("_", " ").lower()
        assert their.lower().startswith(plain)
