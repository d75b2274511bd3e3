"""PyTorch's files read here and by PyTorch: real ones, small ones, and torchvision's networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision_shim import torchvision

from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import read, read_torch

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.append(str(GOLDEN))
from make_torch_files import PUBLISHED, as_numpy, checkpoint, tensors, write_tar  # noqa: E402


def check(path: Path) -> None:
    saved = torch.load(path, map_location="cpu", weights_only=False)
    state = saved.get("state_dict", saved)
    arrays = read_torch(path)
    assert set(arrays) == set(state)
    for name, tensor in state.items():
        expected = as_numpy(tensor)
        assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape), name
        assert arrays[name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(test_data: Path, name: str) -> None:
    check(test_data / "formats" / name)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("torch_files/*.pth")), ids=lambda p: p.stem)
def test_small_files(path: Path) -> None:
    """That PyTorch takes the tar shows that its maker and our reader share no mistake."""
    check(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_protocols(tmp_path: Path, protocol: int, zipped: bool) -> None:
    for name, saved in (("a", tensors()), ("b", checkpoint())):
        path = tmp_path / name
        torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        check(path)


def save_zip(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, path)


def save_legacy(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


LAYOUTS = {"zip": save_zip, "legacy": save_legacy, "tar": write_tar}


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torchvision(tmp_path: Path, layout: str, depth: int) -> None:
    torch.manual_seed(depth)
    network = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
    path = tmp_path / "a.pth"
    LAYOUTS[layout](path, state)
    check(path)
    file = read(path)
    assert (file.format, file.depth) == (f"pytorch-{layout}", depth)
    ours = ResNet(depth, num_classes=10)
    report = load_weights(ours, file)
    assert not report.missing
    loaded = ours.state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert set(loaded) == set(state) - counters
    for name, array in loaded.items():
        tensor = state[name]
        axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim]
        np.testing.assert_array_equal(array, tensor.permute(axes).numpy(), err_msg=name)


def test_a_whole_model_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"'torch\.nn\.modules\.linear\.Linear'.*save model\.state"
    ):
        read(tmp_path / "a.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    buffer = tmp_path / "a.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(buffer))
    with pytest.raises(ValueError, match="TorchScript"):
        read(buffer)
