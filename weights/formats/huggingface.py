"""A folder as Hugging Face's library, transformers, saves a ResNet.

    config.json                what network it is, and the names of its classes
    preprocessor_config.json   what it expects of an image
    model.safetensors          its tensors; or pytorch_model.bin, which is a PyTorch file

Source: configuration_resnet.py and modeling_resnet.py in transformers.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import facts, names
from resnet_np.weights.contract import Contract
from resnet_np.weights.file import Found
from resnet_np.weights.formats import huggingface_images, tensors
from resnet_np.weights.formats.json_text import load_json

CONFIG, IMAGES, TENSORS = "config.json", "preprocessor_config.json", "model.safetensors"
OLDER_TENSORS = "pytorch_model.bin"
EPS = 1e-5
MAX_JSON = 1 << 22
"""Bytes. The names of ImageNet's 21,841 classes, there and back, take half of this."""

# What a config.json that says nothing means, and the only values with which it is our network.
DEFAULTS = {
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "bottleneck",
}
REQUIRED = {"hidden_act": "relu", "downsample_in_first_stage": False, "num_channels": 3}

Record = dict[str, Any]


def from_folder(path: str) -> Found:
    """Read such a folder. Raises UserError if a part is missing or unreadable."""
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{path}: a folder without {CONFIG}, so none of Hugging Face's networks")
    config = read_json(folder / CONFIG)
    if config.get("model_type") != "resnet":
        raise UserError(
            f"{path}: its {CONFIG} says model_type {config.get('model_type')!r} where 'resnet' is"
            " due; if its tensors are a ResNet's all the same, give the file with them"
        )
    found = _read_tensors(folder)
    found.format = "huggingface"
    if found.source != "huggingface":
        found.problems.append("its tensors do not have Hugging Face's names")
    found.problems += [f"its {CONFIG}: {problem}" for problem in wrong_fields(config, found.arrays)]
    # In blocks of two convolutions there is nothing to choose, and the library heeds it not.
    bottleneck = names.count_blocks(found.arrays)[1]
    found.variant = "v1" if bottleneck and config.get("downsample_in_bottleneck") else "v1.5"
    try:
        found.classes = _read_classes(config, found.arrays)
        if contract := _read_contract(folder / IMAGES, config.get(facts.KEY)):
            found.contract, found.says_contract = contract, True
    except ValueError as error:
        found.problems.append(str(error))
    return found


def read_json(path: Path) -> Record:
    """A file of one JSON object. Raises UserError if it is none, or too long for one of these."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_JSON:
                raise ValueError(f"longer than {MAX_JSON} bytes")
            text = file.read(size)
        held = sum(entry.stat().st_size for entry in os.scandir(path.parent))
        record = load_json(text, held)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file of Hugging Face's ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: not a JSON object")
    return record


def _read_tensors(folder: Path) -> Found:
    if (folder / TENSORS).exists():
        return tensors.from_safetensors(str(folder / TENSORS))
    if (folder / OLDER_TENSORS).exists():
        return tensors.from_torch(str(folder / OLDER_TENSORS))
    raise UserError(f"{folder}: neither {TENSORS} nor {OLDER_TENSORS} is in it")


def describe(arrays: Mapping[str, np.ndarray]) -> Record:
    """What config.json has to say of these tensors (torchvision's names, our layout)."""
    counts, bottleneck = names.count_blocks(arrays)
    last = "conv3" if bottleneck else "conv2"
    convs = [f"layer{stage}.0.{last}.weight" for stage in (1, 2, 3, 4)]
    return {
        "embedding_size": arrays["conv1.weight"].shape[-1],
        "hidden_sizes": [arrays[name].shape[-1] for name in convs if name in arrays],
        "depths": list(counts),
        "layer_type": "bottleneck" if bottleneck else "basic",
    }


def wrong_fields(config: Record, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What config.json says otherwise than the tensors, or than this network needs."""
    for key, due in REQUIRED.items():
        if config.get(key, due) != due:
            yield f"{key} is {config[key]!r}, where {due!r} is due: another network"
    if type(config.get("downsample_in_bottleneck", False)) is not bool:
        yield "downsample_in_bottleneck is neither true nor false"
    if "conv1.weight" not in arrays or not all(a.ndim for a in arrays.values()):
        return  # what is wrong with the tensors is said elsewhere
    for key, there in describe(arrays).items():
        if (said := config.get(key, DEFAULTS[key])) != there:
            yield f"{key} is {said!r}, its tensors have {there!r}"


def _read_classes(config: Record, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
    """id2label, {"0": "tench", ...}; LABEL_0, ... are what the library makes up."""
    head, labels = arrays.get("fc.weight"), config.get("id2label")
    if head is None or labels is None:
        return None
    k = head.shape[-1]
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(k)}:
        raise ValueError(f"its {CONFIG}: id2label is no table of the {k} classes of its head")
    classes = facts.check_classes([labels[str(i)] for i in range(k)])
    return None if classes == tuple(f"LABEL_{i}" for i in range(k)) else classes


def _read_contract(path: Path, ours: Any) -> Contract | None:
    """What preprocessor_config.json says. Where our own field in config.json agrees with all that
    it can say, or where it is missing, that field's contract, which says more; where not, the field
    is out of date. None if there is neither."""
    try:
        exact = None if ours is None else Contract.from_record(ours["contract"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"its {CONFIG}: the field {facts.KEY!r} is damaged ({error})") from error
    if not path.exists():
        return exact
    try:
        contract = huggingface_images.read_contract(read_json(path))
    except ValueError as error:
        raise ValueError(f"its {path.name}: {error}") from error
    agrees = exact and huggingface_images.as_transformers_has_it(exact) == contract
    return exact if agrees else contract
