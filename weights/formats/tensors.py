"""Tensors under torchvision's or Hugging Face's names, in `.npz`, `.safetensors` and PyTorch's
files; and our own checkpoints.

Both libraries keep convolutions as [K, C, R, S] and linear layers as [K, C]; they are
transposed here, once, to our [R, S, C, K] and [C, K].
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import facts, layout, names
from resnet_np.weights.contract import HUGGINGFACE, PLAIN, TORCHVISION, Contract
from resnet_np.weights.file import Found
from resnet_np.weights.formats.keras_zip import from_keras_zip, is_keras_zip
from resnet_np.weights.formats.npz import read_npz
from resnet_np.weights.formats.safetensors_file import read_safetensors
from resnet_np.weights.formats.torch_file import is_torch_zip, open_torch

TORCH_EPS = 1e-5
WRAPPED_IN = r"module\.|_orig_mod\.|model\.|backbone\."
COUNTER = "counts training batches; running statistics here have a fixed momentum and need no count"


def from_zip(path: str) -> Found:
    """Read a zip: PyTorch's files are some since 1.6, a `.keras` and an `.npz` are one."""
    if is_torch_zip(path):
        return from_torch(path)
    return from_keras_zip(path) if is_keras_zip(path) else from_npz(path)


def from_npz(path: str) -> Found:
    """Read an `.npz`: one of our checkpoints if it carries a record, else names known here."""
    arrays, record = read_npz(path)
    if record is not None:
        return _from_checkpoint(path, arrays, record)
    text = arrays.pop(facts.KEY, None)
    found = _name_tensors("npz", arrays)
    if text is not None:
        facts.take_text(found, text.tobytes())
    return found


def from_safetensors(path: str) -> Found:
    """Read a `.safetensors` file with names that are known here."""
    arrays, texts, problems = read_safetensors(path)
    found = _name_tensors("safetensors", arrays)
    found.problems += problems
    if facts.KEY in texts:
        facts.take_text(found, texts[facts.KEY])
    return found


def from_torch(path: str) -> Found:
    """Read a PyTorch file with names known here, alone or in a training checkpoint."""
    file = open_torch(path)
    # Tensors of a file may share numbers, in our layout each has its own. Twice what the file holds
    # is 16-bit numbers, which will be widened; more is a small file made to fill the memory.
    apart = sum(a.nbytes * (2 if a.dtype.itemsize == 2 else 1) for a in file.arrays.values())
    if apart > 2 * file.held:
        raise UserError(
            f"{path}: its tensors overlap: it holds {file.held} bytes of numbers and makes {apart}"
        )
    found = _name_tensors(f"pytorch-{file.layout}", file.arrays)
    found.left_out |= file.left_out
    if file.facts is not None:
        facts.take_text(found, file.facts)
    return found


def _name_tensors(format: str, arrays: dict[str, np.ndarray]) -> Found:
    """Give tensors torchvision's names and our layout, whichever names they have.

    Takes them out of the dict one by one, so that they are not all there twice.
    """
    source, prefix = _find_source(arrays)
    found = Found(format, source, TORCHVISION if source == "torchvision" else HUGGINGFACE)
    if f"{prefix}conv1.0.weight" in arrays:
        found.problems.append(
            f"{prefix}conv1.0.weight: a stem of several convolutions, as timm's resnet50d and its"
            " like have it: another network than the ResNet of one 7x7 convolution"
        )
    for origin in list(arrays):
        array = arrays.pop(origin)
        name = _own_name(source, origin.removeprefix(prefix))
        if name.endswith("num_batches_tracked"):
            found.left_out[origin] = COUNTER
        elif not origin.startswith(prefix) and names.kind(name.rpartition(".")[0]) is None:
            found.left_out[origin] = f"lies outside of the network under {prefix!r}"
        else:
            found.add(name, layout.from_torch(array), origin)
    # Neither library's convolutions have a bias: with one, the weights come from elsewhere.
    found.bn_eps = None if found.has_conv_bias() else TORCH_EPS
    return found


def _find_source(tensor_names: Iterable[str]) -> tuple[str, str]:
    """Whose names these are, and what stands in front of them: `module.` from training on several
    GPUs, `_orig_mod.` from torch.compile, or the name under which a larger model holds it."""
    stems = {
        "torchvision": r"conv1(?:\.0)?",
        "huggingface": r"(?:resnet\.)?embedder\.embedder\.convolution",
    }
    for source, stem in stems.items():
        pattern = re.compile(rf"((?:{WRAPPED_IN})*){stem}\.weight")
        found = [match[1] for name in tensor_names if (match := pattern.fullmatch(name))]
        if found:
            return source, min(found, key=len)
    return "torchvision", ""


def _own_name(source: str, name: str) -> str:
    """torchvision's name of a tensor."""
    module, _, leaf = name.rpartition(".")
    if source == "huggingface":
        return f"{_HUGGING_FACE.get(module.removeprefix('resnet.'), module)}.{leaf}"
    return name


# Without the prefix that a network with a head puts in front of its trunk.
_HUGGING_FACE = {
    theirs.removeprefix("resnet."): ours for theirs, ours in names.hugging_face_names().items()
}


def _from_checkpoint(path: str, arrays: Mapping[str, np.ndarray], record: dict[str, Any]) -> Found:
    """Our own checkpoint: the model's arrays lie under `model/`, in our layout already."""
    try:
        contract = Contract.from_record(record["contract"]) if "contract" in record else PLAIN
        config = dict(record.get("model", {}))
        found = Found("checkpoint", "resnet_np", contract, record=record)
        found.says_contract = "contract" in record
        found.classes = facts.check_classes(record.get("classes"))
        found.variant = facts.check_variant(config.get("variant"))
        found.bn_eps = facts.check_eps(config.get("bn_eps"))
        facts.check_size(record.get("image_size"), contract)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its record is damaged ({error})") from error
    for origin, array in arrays.items():
        if origin.startswith("model/"):
            found.add(origin.removeprefix("model/"), array, origin)
        else:
            found.left_out[origin] = "belongs to the training run, not to the model"
    return found
