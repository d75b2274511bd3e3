"""Tensors under torchvision's names: `.npz`, `.safetensors`, PyTorch; and our own checkpoints.

torchvision keeps convolutions as [K, C, R, S] and linear layers as [K, C]; they are
transposed here, once, to our [R, S, C, K] and [C, K].
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import facts, layout, names
from resnet_np.weights.contract import PLAIN, TORCHVISION, Contract
from resnet_np.weights.file import Found
from resnet_np.weights.formats.npz import read_npz
from resnet_np.weights.formats.torch_file import is_torch_zip, open_torch

TORCHVISION_EPS = 1e-5
WRAPPED_IN = r"module\.|model\.|backbone\."
COUNTER = "counts training batches; running statistics here have a fixed momentum and need no count"


def from_zip(path: str) -> Found:
    """Read a zip: PyTorch's files are some since 1.6, an `.npz` is one."""
    return from_torch(path) if is_torch_zip(path) else from_npz(path)


def from_npz(path: str) -> Found:
    """Read an `.npz`: one of our checkpoints if it carries a record, else torchvision's names."""
    arrays, record = read_npz(path)
    if record is not None:
        return _from_checkpoint(path, arrays, record)
    text = arrays.pop(facts.KEY, None)
    found = _from_torchvision("npz", arrays)
    if text is not None:
        facts.take_text(found, text.tobytes())
    return found


def from_safetensors(path: str) -> Found:
    """Read a `.safetensors` file with torchvision's names."""
    import ml_dtypes  # noqa: F401  (lends NumPy the bfloat16 that such files may hold)
    import safetensors

    arrays: dict[str, np.ndarray] = {}
    problems: list[str] = []
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                try:
                    arrays[name] = file.get_tensor(name)
                except (TypeError, AttributeError) as error:
                    problems.append(f"{name!r} has a type that NumPy lacks ({error})")
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: not a .safetensors file, or one cut short ({error})") from error
    found = _from_torchvision("safetensors", arrays)
    found.problems += problems
    found.problems += [f"{name!r} is there {n} times" for name, n in _repeated(path)]
    return found


def from_torch(path: str) -> Found:
    """Read a PyTorch file with torchvision's names, alone or in a training checkpoint."""
    file = open_torch(path)
    # Tensors of a file may share numbers, in our layout each has its own. Twice what the file holds
    # is bfloat16, widened; more is a small file made to fill the memory.
    apart = sum(array.nbytes for array in file.arrays.values())
    if apart > 2 * file.held:
        raise UserError(
            f"{path}: its tensors overlap: it holds {file.held} bytes of numbers and makes {apart}"
        )
    found = _from_torchvision(f"pytorch-{file.layout}", file.arrays)
    found.left_out |= file.left_out
    return found


def _repeated(path: str) -> list[tuple[str, int]]:
    """Names that stand more than once in the header, of which the library keeps one."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        pairs = json.loads(file.read(length), object_pairs_hook=list)
    return [(name, n) for name, n in Counter(name for name, _ in pairs).items() if n > 1]


def _from_torchvision(format: str, arrays: dict[str, np.ndarray]) -> Found:
    """Takes the arrays out of the dict one by one, so that they are not all there twice."""
    found = Found(format, "torchvision", TORCHVISION)
    prefix = _find_prefix(arrays)
    for origin in list(arrays):
        array = arrays.pop(origin)
        name = origin.removeprefix(prefix)
        if name.endswith("num_batches_tracked"):
            found.left_out[origin] = COUNTER
        elif not origin.startswith(prefix) and names.kind(name.rpartition(".")[0]) is None:
            found.left_out[origin] = f"lies outside of the network under {prefix!r}"
        else:
            found.add(name, layout.from_torch(array), origin)
    # torchvision's convolutions have no bias: with one, the weights come from elsewhere.
    found.bn_eps = None if found.has_conv_bias() else TORCHVISION_EPS
    return found


def _find_prefix(tensor_names: Iterable[str]) -> str:
    """What stands in front of the network's names: `module.` from training on several GPUs, or
    the name under which a larger model holds the network."""
    stems = (re.fullmatch(rf"((?:{WRAPPED_IN})*)conv1\.weight", name) for name in tensor_names)
    return min((stem[1] for stem in stems if stem), key=len, default="")


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
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its record is damaged ({error})") from error
    for origin, array in arrays.items():
        if origin.startswith("model/"):
            found.add(origin.removeprefix("model/"), array, origin)
        else:
            found.left_out[origin] = "belongs to the training run, not to the model"
    return found
