"""What is written in any format is read back the same, to the bit, with all that belongs to it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import message_of, our_layout, torchvision_arrays

from resnet_np.errors import UserError
from resnet_np.weights import Contract, WeightFile
from resnet_np.weights.file import Found
from resnet_np.weights.names import find_depth
from resnet_np.weights.reading import read
from resnet_np.weights.writing import write

CONTRACT = Contract(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), resize=232, interpolation="bicubic")


def tiny_file(variant: str | None = "v1", seed: int = 0, bias: bool = False) -> WeightFile:
    arrays = {n: our_layout(a) for n, a in torchvision_arrays(bias=bias, seed=seed).items()}
    return WeightFile(
        path="tiny",
        format="npz",
        source="torchvision",
        arrays=arrays,
        left_out={},
        variant=variant,
        bn_eps=1e-5,
        contract=CONTRACT,
        classes=("cat", "däck", "owl"),
        record=None,
        depth=find_depth(arrays),
        conv_bias=bias,
        folded_statistics=Found("", "", CONTRACT, arrays=arrays).has_folded_statistics(),
    )


def check_same(file: WeightFile, expected: WeightFile) -> None:
    assert set(file.arrays) == set(expected.arrays)
    for name, array in expected.arrays.items():
        assert file.arrays[name].dtype == array.dtype, name
        assert file.arrays[name].shape == array.shape, name
        assert file.arrays[name].tobytes() == array.tobytes(), name
    for fact in ("variant", "bn_eps", "contract", "classes", "depth", "conv_bias"):
        assert getattr(file, fact) == getattr(expected, fact), fact


ENDINGS = (".npz", ".safetensors", ".pth", ".pt")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("variant", ["v1", "v1.5", None])
def test_round_trip(tmp_path: Path, ending: str, variant: str | None) -> None:
    file = tiny_file(variant)
    assert write(tmp_path / f"a{ending}", file) == []
    check_same(read(tmp_path / f"a{ending}"), file)
    assert os.listdir(tmp_path) == [f"a{ending}"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_double_precision_is_kept(tmp_path: Path, ending: str) -> None:
    file = tiny_file()
    file = replace(file, arrays={n: a.astype(np.float64) for n, a in file.arrays.items()})
    write(tmp_path / f"a{ending}", file)
    check_same(read(tmp_path / f"a{ending}"), file)


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_content_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / f"x{ending}", tiny_file())
    first, second = ((tmp_path / name / f"x{ending}").read_bytes() for name in ("a", "b"))
    assert first == second


def test_endings_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.xyz: no known format ends so; known are \.npz"):
        write(tmp_path / "a.xyz", tiny_file())
    assert os.listdir(tmp_path) == []


def test_damaged_facts(tmp_path: Path) -> None:
    arrays = torchvision_arrays() | {"resnet_np": np.frombuffer(b"[" * 100_000, np.uint8)}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "its text 'resnet_np' is damaged" in message_of(tmp_path / "a.npz")
