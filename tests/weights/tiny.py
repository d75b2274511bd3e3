"""Small networks as named arrays in torchvision's layout, and the HDF5 files of older Keras."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from resnet_np.errors import UserError
from resnet_np.weights import TORCHVISION, WeightFile, names, read
from resnet_np.weights.file import Found

NAMES = Path(__file__).parents[1] / "golden" / "resnet50_names.tsv"


def message_of(path: Path, reader: Callable[[Path], object] = read) -> str:
    """What a reader says of a file that it refuses: one line that begins with the file."""
    with pytest.raises(UserError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def published_names() -> Iterator[dict[str, str]]:
    """One row for every conv+BN unit of ResNet-50, and one for its head: column -> name."""
    rows = [line.split("\t") for line in NAMES.read_text().splitlines()]
    for row in rows[1:]:
        yield dict(zip(rows[0], row, strict=True))


def torchvision_arrays(
    blocks: tuple[int, ...] = (1, 1, 1, 1), bias: bool = False, classes: int = 3, seed: int = 0
) -> dict[str, np.ndarray]:
    """A bottleneck network of a few channels: torchvision's names, [K, C, R, S] and [K, C]."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def unit(conv: str, c: int, k: int, size: int) -> None:
        arrays[f"{conv}.weight"] = rng.normal(size=(k, c, size, size)).astype(np.float32)
        if bias:
            arrays[f"{conv}.bias"] = rng.normal(size=k).astype(np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{names.norm_after(conv)}.{leaf}"] = rng.uniform(1, 2, k).astype(np.float32)

    unit("conv1", 3, 2, 7)
    c = 2
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            k, at = 2 + stage, f"layer{stage}.{block}"
            unit(f"{at}.conv1", c, k, 1)
            unit(f"{at}.conv2", k, k, 3)
            unit(f"{at}.conv3", k, 4 * k, 1)
            if block == 0:
                unit(f"{at}.downsample.0", c, 4 * k, 1)
            c = 4 * k
    arrays["fc.weight"] = rng.normal(size=(classes, c)).astype(np.float32)
    arrays["fc.bias"] = rng.normal(size=classes).astype(np.float32)
    return arrays


def our_layout(array: np.ndarray) -> np.ndarray:
    """One element at a time: [K, C, R, S] -> [R, S, C, K] and [K, C] -> [C, K]."""
    if array.ndim == 1:
        return array
    shape = array.shape[2:] + array.shape[1::-1]
    moved = np.empty(shape, array.dtype)
    for index in np.ndindex(array.shape):
        moved[index[2:] + index[1::-1]] = array[index]
    return moved


def write_legacy(
    path: Path,
    layers: dict[str, dict[str, np.ndarray]],
    nested_in: str | None = None,
    split: int | None = None,
) -> None:
    """A legacy Keras file; `split`: at most so many names in one attribute."""

    def put_names(group: h5py.Group, attribute: str, texts: list[str]) -> None:
        encoded = np.array([t.encode() for t in texts])
        if split is None or len(texts) <= split:
            group.attrs[attribute] = encoded
        else:
            for i in range(0, len(texts), split):
                group.attrs[f"{attribute}{i // split}"] = encoded[i : i + split]

    with h5py.File(path, "w") as file:
        root = file if nested_in is None else file.create_group(nested_in)
        put_names(root, "layer_names", list(layers))
        for layer, tensors in layers.items():
            group = root.create_group(layer)
            put_names(group, "weight_names", list(tensors))
            for name, array in tensors.items():
                group[name] = array


def weight_file(arrays: dict[str, np.ndarray], **facts: Any) -> WeightFile:
    """What `read` would make of these arrays, which are in our layout already."""
    found = Found("npz", "torchvision", TORCHVISION, arrays=arrays)
    fields: dict[str, Any] = {
        "path": "a.npz",
        "format": "npz",
        "source": "torchvision",
        "arrays": arrays,
        "left_out": {},
        "variant": "v1.5",
        "bn_eps": 1e-5,
        "contract": TORCHVISION,
        "classes": None,
        "record": None,
        "depth": names.find_depth(arrays),
        "conv_bias": found.has_conv_bias(),
        "folded_statistics": found.has_folded_statistics(),
    }
    return WeightFile(**fields | facts)
