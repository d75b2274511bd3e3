"""Keras' two HDF5 formats, read by layer name and not by order.

The legacy format (`model.save("x.h5")`, or its weights alone) keeps one group per layer and lists
names in attributes. The later one (`x.weights.h5`) keeps numbered tensors in groups called `vars`,
whose attribute `name` says which layer they belong to; before it did, see keras_nameless.py.

Order says nothing: the same model saved frozen or trainable lists its tensors in different orders,
and a shortcut's convolution has the shape of its neighbour's. Kernels need no transposing, Keras'
layout is ours.
"""

import re
from collections import defaultdict

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights import facts, names
from resnet_np.weights.contract import KERAS_CAFFE
from resnet_np.weights.file import Found
from resnet_np.weights.formats import hdf5
from resnet_np.weights.formats.keras_config import Layer, read_layers
from resnet_np.weights.formats.keras_nameless import OLD_LAYERS, current_paths, find_names

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

OPTIMIZER = ("optimizer_weights", "optimizer")

Layers = dict[str, dict[str, np.ndarray]]


def from_hdf5(path: str) -> Found:
    """Read either format of Keras ResNet weights, whole models and nested ones included."""
    return find(path, hdf5.dump(path, skip=OPTIMIZER))


def find(path: str, dump: hdf5.Dump, config: bytes = b"") -> Found:
    """The weights in what an HDF5 file holds. Raises UserError if these are none of Keras.

    config: the model's description, where the HDF5 file does not carry it itself.
    """
    written = dump.texts[""].get("model_config", "")
    if isinstance(written, str):
        config = config or written.encode()
    try:
        described = read_layers(config) if config else []
    except ValueError as error:
        raise UserError(f"{path}: its description of the model is damaged ({error})") from error
    root = "model_weights" if "model_weights" in dump.texts else ""
    if dump.texts[root].keys() & {"layer_names", "layer_names0"}:
        found, layers = _from_legacy(path, dump, root)
    elif dump.texts.keys() & {"layers", OLD_LAYERS}:
        found, layers = _from_vars(dump, {layer.path: layer.name for layer in described})
    else:
        raise UserError(
            f"{path}: an HDF5 file, but not of Keras weights: it has neither the attribute"
            " 'layer_names' nor a group 'layers'"
        )
    if dump.skipped:
        found.left_out["optimizer"] = "belongs to the training run, not to the model"
    _name_layers(found, layers)
    _check_described(found, described)
    if isinstance(text := dump.texts[""].get(facts.KEY), str):
        facts.take_text(found, text)
    return found


def _from_legacy(path: str, dump: hdf5.Dump, root: str) -> tuple[Found, Layers]:
    """Layers of the legacy format: {layer: {Keras' tensor name: array}}."""
    found = Found("keras-h5", "keras", KERAS_CAFFE, variant="v1")
    layers: Layers = defaultdict(dict)
    for layer in _text_list(path, dump, root, "layer_names"):
        group = f"{root}/{layer}" if root else layer
        if group not in dump.texts:
            found.problems.append(f"the layer {layer!r} is listed but not there")
            continue
        for tensor in _text_list(path, dump, group, "weight_names"):
            if f"{group}/{tensor}" not in dump.arrays:
                found.problems.append(f"'{layer}/{tensor}' is listed but not there")
                continue
            owner, leaf = _owner(layer, tensor), _leaf(tensor)
            if leaf in layers[owner]:
                found.problems.append(f"'{layer}/{tensor}' is a second {leaf} of {owner!r}")
            layers[owner][leaf] = dump.arrays[f"{group}/{tensor}"]
    return found, layers


def _text_list(path: str, dump: hdf5.Dump, group: str, attribute: str) -> list[str]:
    """A list of names kept in one attribute or, if it is long, in attribute0, attribute1, ..."""
    texts = dump.texts[group]
    pieces = [attribute]
    if attribute not in texts:
        count = sum(re.fullmatch(rf"{attribute}\d+", name) is not None for name in texts)
        pieces = [f"{attribute}{i}" for i in range(max(1, count))]
    listed: list[str] = []
    for piece in pieces:
        value = texts.get(piece)
        if not isinstance(value, list):
            raise UserError(f"{path}: the layer /{group} has no attribute {attribute!r} with names")
        listed += value
    if len(set(listed)) < len(listed) or not all(map(_is_name, listed)):
        raise UserError(f"{path}: {attribute!r} of /{group} names something twice, or not in words")
    return listed


def _is_name(text: object) -> bool:
    """Whether it can be the name of a layer, and shown in a message of one line."""
    return isinstance(text, str) and len(text) <= 1000 and text.isprintable()


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


def _from_vars(dump: hdf5.Dump, described: dict[str, str]) -> tuple[Found, Layers]:
    """Layers of a `.weights.h5`: {layer: {Keras' tensor name: array}}.

    described: {path: name of the layer} of the model's description, for files without names.
    """
    found = Found("keras-weights-h5", "keras", KERAS_CAFFE, variant="v1")
    groups: Layers = defaultdict(dict)
    for path, array in dump.arrays.items():
        group, _, key = path.rpartition("/")
        if group.rpartition("/")[2] == "vars":
            groups[group.rpartition("/")[0]][key] = array
        else:
            found.left_out[path] = "is not among the variables of a layer"
    layers: Layers = {}
    for path, name in _names_of(found, dump, groups, described).items():
        if name in layers and name in _KNOWN:
            found.problems.append(f"{path!r} is a second layer {name!r}")
        # The states of several random generators share one name.
        layers[path if name in layers else name] = _numbered(name, groups[path])
    return found, layers


def _names_of(
    found: Found, dump: hdf5.Dump, groups: Layers, described: dict[str, str]
) -> dict[str, str]:
    """{path: name} of each layer: written beside it, or described, or told by the order."""
    texts = {path: dump.texts.get(f"{path}/vars" if path else "vars", {}) for path in groups}
    named = {path: str(text["name"]) for path, text in texts.items() if _is_name(text.get("name"))}
    nameless = current_paths(path for path in groups if path not in named)
    order: dict[str, str] = {}
    is_known = any(layer in _KNOWN for layer in named.values()) or described.keys() & nameless
    if nameless and not is_known:
        try:
            order = find_names({path: groups[origin] for path, origin in nameless.items()})
        except ValueError as error:
            found.problems.append(
                f"{len(nameless)} layers carry no name ({some(list(nameless.values()))}), as older"
                " versions of Keras wrote it, and they are not those of a ResNet-50, 101 or 152"
                f" (v1) by their order: {error}; load it there and save it as .keras"
            )
    for path, origin in nameless.items():
        name = described.get(path) or order.get(path)
        named[origin] = name if name and _is_name(name) else origin
    return named


def _numbered(layer: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give numbered tensors the names they have in the legacy format."""
    module = _KNOWN.get(layer)
    kind = names.kind(module) if module else "fc"
    order = {str(number): leaf for number, leaf in enumerate(NUMBERED[kind or "fc"])}
    return {order.get(key, key): array for key, array in tensors.items()}


_CURRENT = names.keras_names(152)
_OLDER = names.keras1_names()
_KNOWN = _CURRENT | _OLDER

# In v1 the first convolution of a stage takes every second pixel, in v1.5 the one behind it.
_HALVING = {f"layer{stage}.0.conv1" for stage in (2, 3, 4)}
_TWO = (2, [2, 2])


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
        for layer, tensors in layers.items():  # refused, but whoever inspects the file sees them
            for leaf, array in tensors.items():
                found.add(f"{layer}/{leaf}", array, f"{layer}/{leaf}")
        return
    for layer, tensors in trunk.items():
        for leaf, array in tensors.items():
            found.add(f"{table[layer]}.{LEAVES.get(leaf, leaf)}", array, f"{layer}/{leaf}")
    _place_others(found, others)


def _check_described(found: Found, described: list[Layer]) -> None:
    """The epsilon is what the model's description says, and it has to have v1's strides."""
    try:
        epsilons = {
            facts.check_eps(layer.arguments["epsilon"])
            for layer in described
            if names.kind(_KNOWN.get(layer.name, "")) == "bn" and "epsilon" in layer.arguments
        }
    except ValueError as error:
        found.problems.append(f"its description of the model is damaged ({error})")
        return
    if len(epsilons) == 1:
        found.bn_eps = epsilons.pop()
    elif epsilons:
        different = sorted(str(epsilon) for epsilon in epsilons)
        found.problems.append(f"its batch norms have different epsilons: {some(different)}")
    found.problems += [
        f"{layer.name!r} does not halve the image, as it does in v1"
        for layer in described
        if _KNOWN.get(layer.name) in _HALVING and layer.arguments.get("strides", 2) not in _TWO
    ]


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
