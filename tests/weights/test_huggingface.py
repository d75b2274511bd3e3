"""Hugging Face's names, and the folders in which its library keeps a network."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import message_of, our_layout, torchvision_arrays

from resnet_np.weights import read
from resnet_np.weights.contract import HUGGINGFACE
from resnet_np.weights.names import hugging_face_names

THEIRS = {ours: theirs for theirs, ours in hugging_face_names().items()}


def theirs(arrays: dict[str, np.ndarray], trunk: str = "resnet.") -> dict[str, np.ndarray]:
    """torchvision's names -> Hugging Face's."""
    renamed = {}
    for name, array in arrays.items():
        module, _, leaf = name.rpartition(".")
        renamed[f"{THEIRS[module].replace('resnet.', trunk)}.{leaf}"] = array
    return renamed


@pytest.mark.parametrize("trunk", ["resnet.", ""])
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_names(tmp_path: Path, trunk: str, wrapper: str) -> None:
    arrays = torchvision_arrays()
    counter = {f"{trunk}embedder.embedder.normalization.num_batches_tracked": np.array(5)}
    stored = {wrapper + n: a for n, a in (theirs(arrays, trunk) | counter).items()}
    save_file(stored, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **stored)
    for format in ("safetensors", "npz"):
        file = read(tmp_path / f"a.{format}")
        assert set(file.arrays) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)
        assert list(file.left_out) == [wrapper + n for n in counter]
        facts = (file.format, file.source, file.variant, file.bn_eps, file.contract)
        assert facts == (format, "huggingface", None, 1e-5, HUGGINGFACE)


def test_unknown_names_are_shown_as_they_are_in_the_file(tmp_path: Path) -> None:
    arrays = theirs(torchvision_arrays())
    arrays["resnet.encoder.stages.4.layers.0.shortcut.convolution.weight"] = np.zeros((1, 1, 1, 1))
    save_file(arrays, tmp_path / "a.safetensors")
    message = message_of(tmp_path / "a.safetensors")
    assert "unknown names: resnet.encoder.stages.4.layers.0.shortcut" in message
