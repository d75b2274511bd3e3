"""Keras' two HDF5 formats, read by layer name and never by order.

The legacy format (`model.save("x.h5")`, or its weights alone) keeps one group per layer and lists
names in attributes. The later one (`x.weights.h5`) keeps numbered tensors in groups called `vars`,
whose attribute `name` says which layer they belong to.

Order says nothing: the same model saved frozen or trainable lists its tensors in different orders,
and a shortcut's convolution has the shape of its neighbour's. Kernels need no transposing, Keras'
layout is ours.
"""

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights import names
from resnet_np.weights.contract import KERAS_CAFFE
from resnet_np.weights.file import Found

if TYPE_CHECKING:
    import h5py

CURRENT_EPS = 1.001e-5
OLDER_EPS = 1e-3

# What one layer's tensors are called; the older files end theirs so (`conv1_W:0`).
LEAVES = {
    "kernel": "weight",
    "W": "weight",
    "bias": "bias",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "running_mean": "running_mean",
    "moving_variance": "running_var",
    "running_std": "running_var",  # the name is wrong, the content is the variance
}

# In a `vars` group the tensors are numbered, in the order in which such a layer makes them.
NUMBERED = {
    "conv": ("kernel", "bias"),
    "fc": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
}

Layers = dict[str, dict[str, np.ndarray]]


def from_hdf5(path: str) -> Found:
    """Read either format of Keras ResNet weights, whole models and nested ones included."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                found, layers = _from_legacy(group)
            elif "layers" in file or "_layer_checkpoint_dependencies" in file:
                found, layers = _from_vars(file)
            else:
                raise UserError(
                    f"{path}: an HDF5 file, but not of Keras weights: it has neither the attribute"
                    " 'layer_names' nor a group 'layers'"
                )
            if "optimizer_weights" in file or "optimizer" in file:
                found.left_out["optimizer"] = "belongs to the training run, not to the model"
    except UserError:  # a ValueError, too, but it has said it all
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable HDF5 file, or one cut short ({error})") from error
    _name_layers(found, layers)
    return found


def _from_legacy(group: "h5py.Group") -> tuple[Found, Layers]:
    """Layers of the legacy format: {layer: {Keras' tensor name: array}}."""
    found = Found("keras-h5", "keras", KERAS_CAFFE, variant="v1")
    layers: Layers = defaultdict(dict)
    for layer in _text_list(group, "layer_names"):
        if layer not in group:
            found.problems.append(f"the layer {layer!r} is listed but not there")
            continue
        for tensor in _text_list(group[layer], "weight_names"):
            if tensor not in group[layer]:
                found.problems.append(f"'{layer}/{tensor}' is listed but not there")
                continue
            owner, leaf = _owner(layer, tensor), _leaf(tensor)
            if leaf in layers[owner]:
                found.problems.append(f"'{layer}/{tensor}' is a second {leaf} of {owner!r}")
            layers[owner][leaf] = group[layer][tensor][()]
    return found, layers


def _text_list(group: "h5py.Group", attribute: str) -> list[str]:
    """A list of names kept in one attribute or, if it is long, in attribute0, attribute1, ..."""
    if attribute in group.attrs:
        pieces = [group.attrs[attribute]]
    else:
        count = sum(re.fullmatch(rf"{attribute}\d+", name) is not None for name in group.attrs)
        if not count:
            raise KeyError(f"{group.name} has no attribute {attribute!r}")
        pieces = [group.attrs[f"{attribute}{i}"] for i in range(count)]
    return [_text(name) for piece in pieces for name in piece]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _owner(layer: str, tensor: str) -> str:
    """The layer a tensor belongs to: inside a nested model its own path says it."""
    if layer in _KNOWN:
        return layer
    for part in reversed(tensor.split("/")[:-1]):
        # A model built a second time in one process has _1 behind its names.
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in _KNOWN:
                return name
    return tensor.rpartition("/")[0] or layer


def _leaf(tensor: str) -> str:
    """conv1_conv/kernel:0 -> kernel, and conv1_W:0 -> W."""
    last = tensor.rpartition("/")[2].split(":")[0]
    return next((leaf for leaf in LEAVES if last == leaf or last.endswith(f"_{leaf}")), last)


def _from_vars(file: "h5py.File") -> tuple[Found, Layers]:
    """Layers of a `.weights.h5`: {layer: {Keras' tensor name: array}}."""
    found = Found("keras-weights-h5", "keras", KERAS_CAFFE, variant="v1")
    layers: Layers = defaultdict(dict)
    nameless: list[str] = []

    def visit(path: str, item: "h5py.Group | h5py.Dataset") -> None:
        if path.rpartition("/")[2] != "vars" or path.startswith("optimizer/") or not len(item):
            return
        if "name" not in item.attrs:
            nameless.append(path)
            return
        layer = _text(item.attrs["name"])
        if layer in layers and layer in _KNOWN:
            found.problems.append(f"{path!r} is a second layer {layer!r}")
        elif layer in layers:  # the states of several random generators share one name
            layer = path
        layers[layer] = _numbered(layer, {key: item[key][()] for key in item})

    file.visititems(visit)
    if nameless:
        found.problems.append(
            f"{len(nameless)} layers carry no name ({some(nameless)}), as older versions of Keras"
            " wrote it, and their order does not tell which is which: load it there and save it as"
            " a legacy .h5"
        )
    return found, layers


def _numbered(layer: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give numbered tensors the names they have in the legacy format."""
    module = _KNOWN.get(layer)
    kind = names.kind(module) if module else "fc"
    order = NUMBERED[kind or "fc"]
    return {
        order[int(key)] if key.isdigit() and int(key) < len(order) else key: array
        for key, array in tensors.items()
    }


_CURRENT = names.keras_names(152)
_OLDER = names.keras1_names()
_KNOWN = _CURRENT | _OLDER


def _name_layers(found: Found, layers: Layers) -> None:
    """Give the layers torchvision's names; what lies behind the trunk is the head, or left out."""
    older = "bn_conv1" in layers
    table = _OLDER if older else _CURRENT
    found.bn_eps = OLDER_EPS if older else CURRENT_EPS
    trunk = {layer: tensors for layer, tensors in layers.items() if layer in table}
    others = {layer: tensors for layer, tensors in layers.items() if layer not in table}
    if not any(names.kind(table[layer]) == "conv" for layer in trunk):
        found.problems.append(
            f"none of its {len(layers)} layers with weights ({some(list(layers))}) is named as in"
            " a Keras ResNet-50, 101 or 152"
        )
        return
    for layer, tensors in trunk.items():
        for leaf, array in tensors.items():
            found.add(f"{table[layer]}.{LEAVES.get(leaf, leaf)}", array, f"{layer}/{leaf}")
    _place_others(found, others)


def _place_others(found: Found, others: Layers) -> None:
    """A single dense layer behind the trunk is its head. A longer head is left out.

    A convolution, or a batch norm in front of a block, means another network.
    """
    foreign = [
        layer
        for layer, tensors in others.items()
        if "preact" in layer or any(a.ndim > 2 for a in tensors.values())
    ]
    if foreign:
        found.problems.append(
            f"{len(foreign)} layers are none of a ResNet-50, 101 or 152 (v1): {some(foreign)}"
        )
    rest = {layer: tensors for layer, tensors in others.items() if layer not in foreign}
    for layer, tensors in rest.items():
        is_head = len(rest) == 1 and "kernel" in tensors and set(tensors) <= {"kernel", "bias"}
        for leaf, array in tensors.items():
            if is_head:
                found.add(f"fc.{LEAVES[leaf]}", array, f"{layer}/{leaf}")
            else:
                found.left_out[f"{layer}/{leaf}"] = "not of the ResNet, nor a single dense head"
