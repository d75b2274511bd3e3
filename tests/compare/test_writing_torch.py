"""What is written with torchvision's names: PyTorch, torchvision and timm load it as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision_shim import torchvision

# isort: split
import timm
from parity import channels_first, relative_error, torch_layout
from random_networks import CLASSES, noise, random_network
from timm.models import load_checkpoint
from torch_resnet import TorchResNet

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.weights import read
from resnet_np.weights.writing import write

TOLERANCE = 1e-5
ENDINGS = (".pth", ".pt", ".safetensors", ".npz")


def error(model: ResNet, twin: torch.nn.Module) -> float:
    images = noise(model.contract, 2, 64, 64)
    with no_grad(), torch.no_grad():
        ours = model(Tensor(images)).numpy()
        theirs = twin.eval()(torch.from_numpy(channels_first(images))).numpy()
    return relative_error(ours, theirs)


def load(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {n: torch.from_numpy(file[n]) for n in file.files if n != "resnet_np"}
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision(tmp_path: Path, depth: int, ending: str) -> None:
    model, file = random_network(depth, "v1.5")
    path = tmp_path / f"a{ending}"
    assert write(path, file) == []
    twin = getattr(torchvision.models, f"resnet{depth}")(num_classes=CLASSES)
    state = load(path)
    for name, array in file.arrays.items():
        assert torch.equal(state[name], torch.from_numpy(torch_layout(array))), name
        assert state[name].is_contiguous(), name
    twin.load_state_dict(state, strict=True)
    assert error(model, twin) <= TOLERANCE


def test_mapped_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    _, file = random_network(18, "v1.5")
    write(path, file)
    mapped = torch.load(path, weights_only=True, mmap=True)
    for name, tensor in torch.load(path, weights_only=True).items():
        assert torch.equal(mapped[name], tensor), name
        assert mapped[name].data_ptr() % 64 == 0, name
        # The same kind of object as PyTorch itself makes: it can be trained and saved again.
        assert tensor.stride() == tensor.contiguous().stride(), name
    torch.save(mapped, tmp_path / "b.pth")
    assert set(read(tmp_path / "b.pth").arrays) == set(file.arrays)


def test_what_torch_save_writes_is_alike(tmp_path: Path) -> None:
    """With weights_only=False, too, and with the same types inside."""
    write(tmp_path / "a.pth", random_network(18, "v1.5")[1])
    ours = torch.load(tmp_path / "a.pth", weights_only=False)
    torch.save(ours, tmp_path / "b.pth")
    theirs = torch.load(tmp_path / "b.pth", weights_only=False)
    assert type(ours) is type(theirs)
    assert {type(t) for t in ours.values()} == {torch.Tensor}
    assert not any(t.requires_grad for t in ours.values())


def test_double_precision(tmp_path: Path) -> None:
    file = random_network(18, "v1.5")[1]
    file = replace(file, arrays={n: a.astype(np.float64) for n, a in file.arrays.items()})
    write(tmp_path / "a.pth", file)
    assert {t.dtype for t in load(tmp_path / "a.pth").values()} == {torch.float64}


@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_timm(tmp_path: Path, depth: int, ending: str) -> None:
    model, file = random_network(depth, "v1.5")
    write(tmp_path / f"a{ending}", file)
    twin = timm.create_model(f"resnet{depth}", num_classes=CLASSES)
    load_checkpoint(twin, str(tmp_path / f"a{ending}"), strict=True)
    assert error(model, twin) <= TOLERANCE


@pytest.mark.parametrize("variant", ["v1", "v1.5"])
def test_narrow_with_biases(tmp_path: Path, variant: str) -> None:
    model, file = random_network(50, variant, width=0.25, conv_bias=True, bn_eps=1e-3)
    assert write(tmp_path / "a.pth", file) == []
    twin = TorchResNet(50, variant, CLASSES, width=0.25, conv_bias=True, bn_eps=1e-3)
    twin.load_state_dict(load(tmp_path / "a.pth"), strict=True)
    assert error(model, twin) <= TOLERANCE
